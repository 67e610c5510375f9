"""What the driver says a process kept busy: `python -m tests.hardware.activity OUT.json`. Needs a real GPU and torch.

Loads of known shape, alone and together, and `ActivityLog` beside them, once for each interval between looks: if a
sample stands for the time since the stamp that the call names, all of them see the same work. Every call is written
too, with the stamp that it named, when it was made, and what the driver answered.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from profiler.energy.counters import Unavailable
from profiler.energy.nvml import NvmlDevice, ProcessUtilization, open_nvml
from profiler.gpu_activity import ActivityLog

SCENES = (("steady",), ("light",), ("burst0.5",), ("steady", "burst0.5"), ("light", "steady"))
INTERVALS_S = (0.1, 0.25, 1.0, 2.0)
LOAD = Path(__file__).with_name("load.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the JSON file to write")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each scene (8)")
    options = parser.parse_args()
    found = [scene(shapes, options.seconds) for shapes in SCENES]
    options.out.write_text(json.dumps(found, indent=1))
    for one in found:
        print(*one["shapes"], json.dumps(one["percent"]))


def scene(shapes: tuple[str, ...], seconds: float) -> dict[str, Any]:
    """The percent of the scene's time that each load kept the SMs busy, by the interval between looks; raw samples."""
    loads = [
        subprocess.Popen(
            [sys.executable, LOAD, shape, str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for shape in shapes
    ]
    try:
        for load in loads:
            assert load.stdout is not None and load.stdout.readline() == "ready\n"
        time.sleep(2)  # getting ready has left samples too
        return measured(shapes, loads, seconds)
    finally:
        for load in loads:
            load.kill()
            load.wait()


def measured(shapes: tuple[str, ...], loads: list[subprocess.Popen[str]], seconds: float) -> dict[str, Any]:
    stop = threading.Event()
    logs = {every_s: ActivityLog() for every_s in INTERVALS_S}
    devices = {every_s: Recorder(the_gpu()) for every_s in INTERVALS_S}
    lookers = [
        threading.Thread(target=look, args=(log, devices[every_s], every_s, stop)) for every_s, log in logs.items()
    ]
    for thread in lookers:
        thread.start()
    time.sleep(0.5)
    t0_ns = time.monotonic_ns()
    for load in loads:
        assert load.stdin is not None
        load.stdin.write("\n")
        load.stdin.flush()
    rates = [load.communicate()[0].strip() for load in loads]
    t1_ns = time.monotonic_ns()
    time.sleep(2.5)
    stop.set()
    for thread in lookers:
        thread.join()
    names = {load.pid: shape for load, shape in zip(loads, shapes, strict=True)}
    percent, samples = {}, {}
    for every_s, log in logs.items():
        window = log.between(the_gpu().uuid, t0_ns - 400_000_000, t1_ns + 2_500_000_000)
        worked_s: dict[str, float] = defaultdict(float)
        for item in window.activities:
            worked_s[names.get(item.pid, "others")] += item.sm_percent * item.seconds_in(0, t1_ns + 10**10) / 100
        percent[f"{every_s} s"] = {shape: round(100 * worked / seconds, 2) for shape, worked in worked_s.items()}
        samples[f"{every_s} s"] = [
            {**asdict(item), "since_s": (item.since_ns - t0_ns) / 1e9, "until_s": (item.t_ns - t0_ns) / 1e9}
            for item in window.activities
        ]
    calls = {f"{every_s} s": device.calls for every_s, device in devices.items()}
    return {
        "shapes": shapes, "rates": rates, "window_s": (t1_ns - t0_ns) / 1e9, "pids": list(names),
        "percent": percent, "samples": samples, "calls": calls,
    }  # fmt: skip


class Recorder:
    """A GPU whose answers are kept. `calls`: the stamp asked after, the wall clock then (us), (PID, stamp, percent)."""

    def __init__(self, device: NvmlDevice) -> None:
        self.uuid, self._device = device.uuid, device
        self.calls: list[tuple[int, int, list[tuple[int, int, int]]]] = []

    def process_utilization(self, after_us: int = 0) -> tuple[ProcessUtilization, ...]:
        now_us = time.time_ns() // 1000
        found = self._device.process_utilization(after_us)
        self.calls.append((after_us, now_us, [(one.pid, one.stamp_us, one.sm_percent) for one in found]))
        return found


def the_gpu() -> NvmlDevice:
    nvml = open_nvml()
    if isinstance(nvml, Unavailable) or not nvml.devices:
        raise SystemExit("no GPU here")
    return nvml.devices[0]


def look(log: ActivityLog, device: Recorder, every_s: float, stop: threading.Event) -> None:
    while not stop.is_set():
        log.look([device])
        stop.wait(every_s)
    log.look([device])


if __name__ == "__main__":
    main()
