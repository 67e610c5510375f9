"""Loads a GPU in a given shape for a given time: `load.py SHAPE SECONDS`, in plain torch. Prints products per second.

Shapes: steady, light, idle (a context only), burst2, burst5, burst10 (half of each period busy, that often a second),
ramp (busy share from 0 to 1), two (steady, and light in a second process).
"""

from __future__ import annotations

import multiprocessing
import sys
import time

import torch

FRAME_S = 0.1


def products(size: int, seconds: float, share_at: object = None) -> float:
    """Multiply matrices until `seconds` are over; in each frame only the share of it that `share_at(t)` gives."""
    a = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    torch.cuda.synchronize()
    begun, done = time.monotonic(), 0
    while (now := time.monotonic() - begun) < seconds:
        if callable(share_at) and not share_at(now):
            time.sleep(0.001)
            continue
        for _ in range(4):
            torch.matmul(a, b)
        torch.cuda.synchronize()
        done += 4
    return done / seconds


def burst(rate_hz: float) -> object:
    return lambda t: (t * rate_hz) % 1 < 0.5


def run(shape: str, seconds: float) -> float:
    if shape == "idle":
        torch.zeros(1, device="cuda")
        time.sleep(seconds)
        return 0.0
    if shape.startswith("burst"):
        return products(4096, seconds, burst(float(shape.removeprefix("burst"))))
    if shape == "ramp":
        return products(4096, seconds, lambda t: (t / FRAME_S) % 1 < t / seconds)
    return products(1024 if shape == "light" else 4096, seconds)


def main() -> None:
    shape, seconds = sys.argv[1], float(sys.argv[2])
    if shape == "two":
        second = multiprocessing.get_context("spawn").Process(target=run, args=("light", seconds))
        second.start()
        shape = "steady"
    rate = run(shape, seconds)
    if sys.argv[1] == "two":
        second.join()
    print(f"{rate:.1f} products a second")


if __name__ == "__main__":
    main()
