"""Loads a GPU in a given shape for a given time: `load.py SHAPE SECONDS`, in plain torch.

Prints "ready" once it could begin, begins when its standard input has a line, and ends with its products a second.

Shapes: steady, light, idle (a context only), burst2, burst5, burst10 (half of each period busy, that often a second),
ramp (busy share from 0 to 1).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

FRAME_S = 0.1
Busy = Callable[[float], bool]


def matrix(size: int) -> torch.Tensor:
    return torch.randn(size, size, device="cuda", dtype=torch.bfloat16)


def products(size: int, seconds: float, busy_at: Busy) -> float:
    """Multiplies matrices until `seconds` after the word to begin, whenever `busy_at(t)`; products a second."""
    a, b = matrix(size), matrix(size)
    torch.matmul(a, b)
    torch.cuda.synchronize()
    print("ready", flush=True)
    sys.stdin.readline()
    begun, done = time.monotonic(), 0
    while (now := time.monotonic() - begun) < seconds:
        if not busy_at(now):
            time.sleep(0.001)
            continue
        for _ in range(4):
            torch.matmul(a, b)
        torch.cuda.synchronize()
        done += 4
    return done / seconds


def busy(shape: str, seconds: float) -> Busy:
    if shape.startswith("burst"):
        rate_hz = float(shape.removeprefix("burst"))
        return lambda t: (t * rate_hz) % 1 < 0.5
    if shape == "ramp":
        return lambda t: (t / FRAME_S) % 1 < t / seconds
    return lambda t: shape != "idle"


def main() -> None:
    shape, seconds = sys.argv[1], float(sys.argv[2])
    rate = products(1024 if shape == "light" else 4096, seconds, busy(shape, seconds))
    print(f"{rate:.1f} products a second")


if __name__ == "__main__":
    main()
