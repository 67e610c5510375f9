"""The sampler: its grid, its lateness and what it costs, on virtual hardware or on this machine's own.

    python -m tests.benchmarks.sampler --seconds 600 --oversubscribe 2      the grid under load: 6,000 ticks
    python -m tests.benchmarks.sampler --gpus 8 --probe-seconds 10          what it costs, and which probe costs it
    python -m tests.benchmarks.sampler --real --load idle --load steady --probe-seconds 6 --call-seconds 8

Prints one JSON document. The figures are of the machine it runs on, and of what else runs there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from profiler.energy.probes import Identity, Look, Probe
from profiler.energy.sampler import Sampler
from profiler.energy.sources import Sources, discover
from tests.benchmarks import driver_calls
from tests.benchmarks.cpu_time import Cost, thread_use
from tests.benchmarks.nvml_probe import load
from tests.fakes import nvml, powercap

PACKAGES = 2
SPIN = "while True: pass"
WARM_UP_S = 1.0


def process_use() -> tuple[float, int]:
    """CPU seconds and voluntary context switches (wake-ups) of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, used.ru_nvcsw


def measure(sources: Sources, seconds: float, rate_hz: float) -> dict[str, Any]:
    """One sampler over `sources` for `seconds`: ticks, lateness, CPU time of the process and of each of its threads."""
    with Sampler(sources, rate_hz) as sampler:
        time.sleep(WARM_UP_S)
        (used_s, switches), threads, began_ns = process_use(), thread_use("sampler"), time.monotonic_ns()
        time.sleep(seconds)
        end_ns, after = time.monotonic_ns(), thread_use("sampler")
        used_s, switches = process_use()[0] - used_s, process_use()[1] - switches
        rows = sampler.window(began_ns, end_ns, margin_ticks=0)
        node = [row for row in rows if row.source == "node"]
        late_ms = sorted(row.lateness_ns / 1e6 for row in node if not row.missed)
        lasted_s = (end_ns - began_ns) / 1e9
        percent = {name: 100 * (after[name].cpu_ns - use.cpu_ns) / 1e9 / lasted_s for name, use in threads.items()}
        return {
            "seconds": seconds,
            "rate_hz": rate_hz,
            "gpus": len(sources.gpus),
            "cpu_counters": len(sources.counters),
            "priority": sampler.priority,
            "ticks": len(node),
            "ticks_due": round(rate_hz * seconds),
            "missed": sum(row.missed for row in node),
            "lateness_ms": {
                "median": round(late_ms[len(late_ms) // 2], 3),
                "p99": round(late_ms[int(0.99 * (len(late_ms) - 1))], 3),
                "max": round(late_ms[-1], 3),
            },
            "rows_a_second": round(len(rows) / lasted_s, 1),
            "cpu_percent_of_a_core": round(100 * used_s / lasted_s, 3),
            "cpu_percent_by_thread": {name: round(share, 3) for name, share in percent.items()},
            "wake_ups_per_s": round(switches / lasted_s, 1),
            "load_average": os.getloadavg()[0],
        }


class Timed:
    """A probe that takes what each of its readings costs."""

    def __init__(self, probe: Probe[Any]) -> None:
        self._probe = probe
        self.cost = Cost()

    @property
    def identity(self) -> Identity:
        return self._probe.identity

    @property
    def on_grid(self) -> bool:
        return self._probe.on_grid

    def read(self, clock_ns: Any) -> Any:
        return self.cost.of(lambda: self._probe.read(clock_ns))

    def look(self, shown: Any) -> Look | None:
        return self._probe.look(shown)

    def close(self) -> None:
        self._probe.close()


def by_probe(sources: Sources, seconds: float, rate_hz: float) -> dict[str, Any]:
    """What the readings of each probe cost; not in them are the grid, the rows and the wake-ups."""
    sampler = Sampler(sources, rate_hz)
    timed = []
    for lane in sampler._lanes:
        lane.probes = tuple(Timed(probe) for probe in lane.probes)
        timed += lane.probes
    with sampler:
        time.sleep(seconds)
    return {
        f"{probe.identity.scope} {probe.identity.device}": {
            "percent_of_a_core": round(sum(probe.cost.cpu_us) / 1e4 / seconds, 4),
            "readings": len(probe.cost.cpu_us),
            **probe.cost.told(),
        }
        for probe in timed
    }


@contextmanager
def virtual_machine(gpus: int) -> Iterator[Sources]:
    """Two packages and `gpus` GPUs that are not there."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        zones = [powercap.Zone(f"intel-rapl:{i}", f"package-{i}", 40.0, 10**9 + i * 10**10) for i in range(PACKAGES)]
        powercap.build(folder, zones)
        if gpus:
            fake = nvml.FakeNvml(folder / "state", nvml.build(folder), gpus=gpus, watts=300.0)
            stack.enter_context(fake.attached())
        yield stack.enter_context(discover(folder, probe_s=0, gpus=gpus > 0))


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    busy = [subprocess.Popen([sys.executable, "-S", "-c", SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def figures(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Everything that was asked for, under one load of the GPU."""
    with ExitStack() as stack:
        sources = stack.enter_context(discover() if options.real else virtual_machine(options.gpus))
        if name != "idle":
            stack.enter_context(load(name, sources.gpus[0].uuid))
        found = {"load": name, **measure(sources, options.seconds, options.rate)}
        if options.probe_seconds:
            found["by_probe"] = by_probe(sources, options.probe_seconds, options.rate)
        if options.call_seconds:
            found["by_call"] = driver_calls.measure(options.call_seconds, gpu=bool(sources.gpus))
    return found


def about(options: argparse.Namespace, busy: int) -> dict[str, Any]:
    """What the figures are of."""
    machine = {"python": platform.python_version(), "kernel": platform.release(), "cpus": os.cpu_count()}
    with discover() as own:
        hardware = [f"{gpu.name} {gpu.uuid}, driver {own.driver}" for gpu in own.gpus] if options.real else "virtual"
    return {**machine, "hardware": hardware, "busy_processes": busy}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.sampler",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--gpus", type=int, default=8, help="how many virtual ones")
    parser.add_argument("--real", action="store_true", help="this machine's own sources instead of virtual ones")
    parser.add_argument("--load", action="append", help="with --real: idle, steady or bursts:HZ (torch); several times")
    parser.add_argument("--oversubscribe", type=float, default=0.0, help="busy processes for each CPU")
    parser.add_argument("--probe-seconds", type=float, default=0.0, help="how long to take the cost of each probe")
    parser.add_argument("--call-seconds", type=float, default=0.0, help="how long to take the cost of each call")
    parser.add_argument("-o", "--output", type=Path, help="write the figures to this file too")
    return parser.parse_args()


def main() -> int:
    options = parse()
    busy = round(options.oversubscribe * len(os.sched_getaffinity(0)))
    with busy_processes(busy):
        found = {**about(options, busy), "runs": [figures(options, name) for name in options.load or ["idle"]]}
    text = json.dumps(found, indent=1)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
