"""A training that never ends, for benchmarks: writes down when each of its steps was done, until its stdin ends.

    python -m tests.benchmarks.training FILE

With torch where there is an NVIDIA driver, else with numpy on the CPUs, which is there at once. FILE gets the times
(CLOCK_MONOTONIC, ns, native 64-bit integers).
"""

from __future__ import annotations

import sys
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path

DRIVER = Path("/dev/nvidiactl")
SEED = 1


def on_gpu(width: int = 4096, batch: int = 2048) -> Callable[[], None]:
    """One step of a perceptron with two hidden layers, until the GPU has done it."""
    import torch
    from torch import nn

    torch.manual_seed(SEED)
    model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    model.to("cuda")
    inputs, targets = torch.randn(batch, width, device="cuda"), torch.randint(0, 10, (batch,), device="cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        torch.cuda.synchronize()

    return step


def on_cpu(width: int = 384, batch: int = 128) -> Callable[[], None]:
    """One step of a perceptron with one hidden layer and squared error."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    first, second = rng.normal(0, 0.05, (width, width)), rng.normal(0, 0.05, (width, 10))
    inputs, targets = rng.normal(size=(batch, width)), rng.normal(size=(batch, 10))

    def step() -> None:
        nonlocal first, second
        hidden = np.maximum(inputs @ first, 0)
        error = (hidden @ second - targets) / batch
        back = (error @ second.T) * (hidden > 0)
        second = second - 1e-2 * hidden.T @ error
        first = first - 1e-2 * inputs.T @ back

    return step


def main() -> None:
    step = on_gpu() if DRIVER.exists() else on_cpu()
    step()
    print("ready", flush=True)
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    times = array("q")
    while not over.is_set():
        step()
        times.append(time.monotonic_ns())
    Path(sys.argv[1]).write_bytes(times.tobytes())


if __name__ == "__main__":
    main()
