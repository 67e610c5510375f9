"""Measures the passport of each GPU: runs a load that goes on and off at known times, contained, and watches the power.

The load is a small torch program, or a command of the user's; it gets the lengths of its stretches (off, on, off, ...)
in s as arguments and prints a line `<CLOCK_MONOTONIC ns> <0 or 1>` at the start of each. What is learnt is in passport.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from profiler.energy import passport, priority
from profiler.energy.nvml import NvmlDevice
from profiler.energy.passport import LoadStep, Passport
from profiler.energy.sources import Sources
from profiler.errors import CannotRunError
from profiler.process.command import Command
from profiler.process.launch import start

STRETCHES: Final = 16
STRETCH_S: Final = 1.462
"""Longer than the longest window known (1 s). Measured in the usual updates of 100 ms it is the golden ratio over 14
whole ones, so the steps fall evenly over an update: several of them within a window of a quarter of it, whatever the
sensor's phase. Lengths drawn at random leave it out once in five calibrations."""
COUNTER_WATCH_S: Final = 2.0
TIMEOUT_S: Final = 180.0

TORCH_LOAD: Final = """\
import sys, time
import torch
a = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
for _ in range(20):
    torch.mm(a, a)
torch.cuda.synchronize()
for number, seconds in enumerate(map(float, sys.argv[1:])):
    print(time.monotonic_ns(), number % 2, flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if number % 2:
            torch.mm(a, a)
            torch.cuda.synchronize()
        else:
            time.sleep(min(0.001, max(0.0, end - time.monotonic())))
"""


def calibrate(sources: Sources, driver: str, load: Sequence[str] | None = None) -> list[Passport]:
    """The passports of all GPUs, one after the other; about 30 s each. CannotRunError when there is no GPU, or when the
    load does not run."""
    if not sources.gpus:
        raise CannotRunError("no GPU to calibrate: `profiler doctor` says why none is seen")
    return [calibrate_one(gpu, sources, driver, load) for gpu in sources.gpus]


def calibrate_one(gpu: NvmlDevice, sources: Sources, driver: str, load: Sequence[str] | None = None) -> Passport:
    """The passport of one GPU."""
    argv = tuple(load or (sys.executable, "-c", TORCH_LOAD)) + (f"{STRETCH_S:.3f}",) * STRETCHES
    with tempfile.TemporaryDirectory(prefix="profiler-calibrate-") as folder:
        log = Path(folder) / "load.log"
        environ = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu.uuid}
        command = Command(argv, environ, Path(folder), log, timeout_s=TIMEOUT_S, labels={"role": "calibrate"})
        ended = threading.Event()
        with (
            start(command, allow_uncontained=True) as process,
            ThreadPoolExecutor(1, initializer=priority.raise_own) as watcher,
        ):
            process.release()
            # A thread of the best priority allowed: what is looked at late seems to come late.
            watching = watcher.submit(passport.watch, gpu, ended.is_set, time.monotonic_ns, time.sleep)
            try:
                report = process.wait(None)
            finally:
                ended.set()
            moved, kind = watching.result()
        said = log.read_text(errors="replace")
    if report is None or report.exit_code != 0:
        words = said.strip().splitlines()[-1:] or [report.error if report and report.error else "no word of it"]
        raise CannotRunError(
            f"the load on GPU {gpu.index} did not run: {words[0]}; it needs torch with CUDA "
            "(pip install torch), or --load COMMAND"
        )
    counter_s = passport.counter_period_s(sources.gpu_counters[gpu.uuid], COUNTER_WATCH_S, time.monotonic_ns)
    return passport.passport(gpu, driver, moved, kind, steps_of(said), counter_s)


def steps_of(said: str) -> list[LoadStep]:
    """The steps that a load printed; other lines are passed over."""
    words = (line.split() for line in said.splitlines())
    return [LoadStep(int(w[0]), w[1] == "1") for w in words if len(w) == 2 and w[0].isdigit() and w[1] in ("0", "1")]
