"""Reads everything `NvmlDevice` can read on a real GPU and prints it as one JSON document, with what each call costs.

Also: how often counter and instant power move, and how far apart the energy of one window is on four paths: counter,
10 Hz instant power, the driver's power buffer, 1 s average power. It asserts nothing; the figures are for a reader.

    python -m tests.benchmarks.nvml_probe --load idle --load steady --load bursts:5 --seconds 20 > nvml.json

A load is a child process with torch: `steady` products, or `bursts:HZ` of them in half of each period.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from profiler.energy.nvml import (
    Nvml,
    NvmlDevice,
    NvmlReadError,
    PowerSample,
    describe_throttle_reasons,
    open_nvml,
)

Points = list[tuple[int, float]]  # CLOCK_MONOTONIC ns, W


def cost_us(call: Callable[[], object], rounds: int) -> dict[str, float | str]:
    """Median, 95th percentile and maximum of one call, in microseconds."""
    taken: list[float] = []
    for _ in range(rounds):
        before = time.perf_counter_ns()
        try:
            call()
        except NvmlReadError as error:
            return {"failed": error.reason}
        taken.append((time.perf_counter_ns() - before) / 1e3)
    taken.sort()
    return {
        "median": round(statistics.median(taken), 1),
        "p95": round(taken[int(0.95 * (rounds - 1))], 1),
        "max": round(taken[-1], 1),
    }


def costs(device: NvmlDevice) -> dict[str, Any]:
    counter = device.energy_counter()
    return {
        "read": cost_us(device.read, 500),
        "energy_counter": cost_us(counter.read, 100),
        "processes": cost_us(device.processes, 200),
        "process_utilization": cost_us(device.process_utilization, 100),
        "power_samples": cost_us(device.power_samples, 50),
    }


def moves(read: Callable[[], float | None], seconds: float) -> dict[str, Any]:
    """How often a value changes when it is read without pause: the periods between changes, in ms."""
    end = time.monotonic_ns() + int(seconds * 1e9)
    changes, last, reads = [], read(), 0
    while (now := time.monotonic_ns()) < end:
        value = read()
        reads += 1
        if value != last:
            changes.append(now)
            last = value
    gaps = sorted((b - a) / 1e6 for a, b in pairwise(changes))
    if not gaps:
        return {"reads": reads, "changes": len(changes)}
    return {
        "reads": reads,
        "changes": len(changes),
        "median_ms": round(statistics.median(gaps), 2),
        "min_ms": round(gaps[0], 2),
        "max_ms": round(gaps[-1], 2),
    }


class CounterStep(NamedTuple):
    """The counter had moved to `units` (mJ) when it was read at `t_ns`, and not yet at the reading before. `width_ns`:
    from the beginning of that reading to the end of this one."""

    t_ns: int
    units: int
    width_ns: int


def next_step(device: NvmlDevice) -> CounterStep | None:
    """Waits for the counter to step; None when it does not move within a second."""
    counter = device.energy_counter()
    before_ns = begun_ns = time.monotonic_ns()
    first = now = counter.read()
    while now.units is not None and first.units is not None and now.t_ns - first.t_ns < 1_000_000_000:
        if now.units != first.units:
            return CounterStep(now.t_ns, now.units, time.monotonic_ns() - before_ns)
        before_ns, begun_ns = begun_ns, time.monotonic_ns()
        now = counter.read()
    return None


def integral_j(points: Points, t0_ns: int, t1_ns: int) -> float | None:
    """Trapezoids over the points inside the window; the first and last value are held to its edges."""
    inside = [point for point in points if t0_ns <= point[0] <= t1_ns]
    if not inside:
        return None
    closed = [(t0_ns, inside[0][1]), *inside, (t1_ns, inside[-1][1])]
    return sum((b[0] - a[0]) / 1e9 * (a[1] + b[1]) / 2 for a, b in pairwise(closed))


@dataclass
class Trace:
    instant: Points = field(default_factory=list)
    average: Points = field(default_factory=list)
    buffer: list[PowerSample] = field(default_factory=list)
    null_reasons: dict[str, str] = field(default_factory=dict)
    lateness_ms: float = 0.0
    peak_mib: float = 0.0
    temp_c: list[float] = field(default_factory=list)
    throttle: int = 0


def record(device: NvmlDevice, seconds: float, average_w: Callable[[], float]) -> Trace:
    """10 Hz on absolute deadlines; the power buffer once a second."""
    trace, start = Trace(), time.monotonic_ns()
    for tick in range(1, int(seconds * 10) + 1):
        deadline = start + tick * 100_000_000
        time.sleep(max(0, deadline - time.monotonic_ns()) / 1e9)
        reading = device.read()
        trace.lateness_ms = max(trace.lateness_ms, (reading.t_ns - deadline) / 1e6)
        trace.null_reasons |= reading.null_reasons
        if reading.power_w is not None:
            trace.instant.append((reading.t_ns, reading.power_w))
        trace.average.append((time.monotonic_ns(), average_w()))
        trace.peak_mib = max(trace.peak_mib, reading.memory_mib or 0.0)
        trace.throttle |= reading.throttle_reasons or 0
        if reading.temp_c is not None:
            trace.temp_c.append(reading.temp_c)
        if tick % 10 == 0:
            with contextlib.suppress(NvmlReadError):
                trace.buffer += device.power_samples(trace.buffer[-1].stamp_us if trace.buffer else 0)
    return trace


def window(device: NvmlDevice, seconds: float, average_w: Callable[[], float]) -> dict[str, Any]:
    """Energy of one window, from counter step to counter step, on four paths."""
    first = next_step(device)
    trace = record(device, seconds, average_w)
    last = next_step(device)
    with contextlib.suppress(NvmlReadError):
        trace.buffer += device.power_samples(trace.buffer[-1].stamp_us if trace.buffer else 0)
    if first is None or last is None:
        return {"problem": "the energy counter does not move"}
    t0_ns, t1_ns = first.t_ns, last.t_ns
    truth_j = (last.units - first.units) / 1000
    buffered = [(sample.t_ns, sample.power_w) for sample in trace.buffer]
    paths = {"instant_10hz": trace.instant, "buffer": buffered, "average_10hz": trace.average}
    energies = {name: integral_j(points, t0_ns, t1_ns) for name, points in paths.items()}
    gaps = [(b[0] - a[0]) / 1e6 for a, b in pairwise(buffered)]
    return {
        "seconds": round((t1_ns - t0_ns) / 1e9, 3),
        "edges_ms": [round(step.width_ns / 1e6, 3) for step in (first, last)],
        "counter_j": truth_j,
        "mean_w": round(truth_j / ((t1_ns - t0_ns) / 1e9), 2),
        "energy_j": {name: value and round(value, 2) for name, value in energies.items()},
        "gap_percent": {
            name: round((value / truth_j - 1) * 100, 3) for name, value in energies.items() if value is not None
        },
        "buffer_samples": len(buffered),
        "buffer_gap_ms": {"median": round(statistics.median(gaps), 2), "max": round(max(gaps), 2)} if gaps else None,
        "max_lateness_ms": round(trace.lateness_ms, 2),
        "null_reasons": trace.null_reasons,
        "memory_peak_mib": trace.peak_mib,
        "temp_c": [min(trace.temp_c), max(trace.temp_c)] if trace.temp_c else None,
        "throttle_reasons": describe_throttle_reasons(trace.throttle),
    }


def run_load(name: str) -> None:
    """The child: products on the GPU until it is ended. The caller chose the GPU with CUDA_VISIBLE_DEVICES."""
    import torch

    kind, _, hertz = name.partition(":")
    period_s = 1 / float(hertz) if hertz else 0.0
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    (a @ a).sum().item()
    print("ready", flush=True)
    while True:
        start = time.monotonic()
        while kind == "steady" or time.monotonic() - start < period_s / 2:
            torch.mm(a, a)
            torch.cuda.synchronize()
        time.sleep(max(0.0, start + period_s - time.monotonic()))


@contextlib.contextmanager
def load(name: str, uuid: str) -> Iterator[int | None]:
    """Starts a load and waits until it computes; gives its PID."""
    if name == "idle":
        yield None
        return
    command = [sys.executable, "-m", "tests.benchmarks.nvml_probe", "--child", name]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": uuid}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as child:
        try:
            if child.stdout is None or child.stdout.readline() != "ready\n":
                raise SystemExit(f"the load {name!r} did not start (is torch with CUDA installed?)")
            time.sleep(2)
            yield child.pid
        finally:
            child.kill()


def under_load(device: NvmlDevice, name: str, seconds: float, average_w: Callable[[], float]) -> dict[str, Any]:
    with load(name, device.uuid) as pid:
        result = window(device, seconds, average_w)
        processes = device.processes()
        shares = device.process_utilization()[-3:]
        result |= {
            "pid": pid,
            "processes": [asdict(process) for process in processes],
            "pid_is_shown": pid in [process.pid for process in processes],
            "process_utilization": [asdict(share) for share in shares],
        }
    if pid is not None:
        result["gone_after_s"] = seconds_until_gone(device, pid)
    return result


def seconds_until_gone(device: NvmlDevice, pid: int) -> float | None:
    """How long after its SIGKILL and wait a process is still shown; None: longer than 5 s."""
    start = time.monotonic()
    while time.monotonic() - start < 5:
        if pid not in [process.pid for process in device.processes()]:
            return round(time.monotonic() - start, 3)
        time.sleep(0.005)
    return None


def probe(nvml: Nvml, device: NvmlDevice, loads: list[str], seconds: float, watch_s: float) -> dict[str, Any]:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByUUID(device.uuid)

    def average_w() -> float:
        return float(pynvml.nvmlDeviceGetPowerUsage(handle)) / 1000

    problem, info = device.energy_problem(), device.energy_counter().info
    return {
        "driver": nvml.driver_version,
        "unavailable": [asdict(item) for item in nvml.unavailable],
        "device": {"index": device.index, "uuid": device.uuid, "name": device.name, "mig": device.mig_enabled},
        "power_limit_w": device.power_limit_w,
        "counter": {**asdict(info), "joules_per_unit": str(info.joules_per_unit)},
        "counter_problem": asdict(problem) if problem else None,
        "first_reading": device.read()._asdict(),
        "cost_us": costs(device),
        "counter_moves": moves(lambda: device.energy_counter().read().units, watch_s),
        "loads": {name: under_load(device, name, seconds, average_w) for name in loads},
        "instant_power_moves_after_load": moves(lambda: device.read().power_w, watch_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", action="append", help="idle, steady or bursts:HZ; may be given several times")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each window")
    parser.add_argument("--watch-seconds", type=float, default=3.0, help="how long to watch a value move")
    parser.add_argument("--gpu", type=int, default=0, help="NVML index of the GPU")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_load(options.child)
        return
    nvml = open_nvml()
    if not isinstance(nvml, Nvml):
        raise SystemExit(json.dumps(asdict(nvml)))
    with nvml:
        device = next(device for device in nvml.devices if device.index == options.gpu)
        loads = options.load or ["idle"]
        print(json.dumps(probe(nvml, device, loads, options.seconds, options.watch_seconds), indent=1))


if __name__ == "__main__":
    main()
