"""The sampler on virtual hardware: its grid, its lateness and what it costs, with the CPUs free or oversubscribed.

    python -m tests.benchmarks.sampler --seconds 600 --oversubscribe 2      the grid under load: 6,000 ticks
    python -m tests.benchmarks.sampler --seconds 60 --gpus 8                what it costs

Prints one JSON document. The figures are of the machine it runs on, and of what else runs there.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from profiler.energy.sampler import Sampler
from profiler.energy.sources import discover
from tests.fakes import nvml, powercap

PACKAGES = 2
SPIN = "while True: pass"


def cpu_s() -> tuple[float, int]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, used.ru_nvcsw


def measure(folder: Path, seconds: float, rate_hz: float) -> dict[str, object]:
    """One sampler over the discovered sources for `seconds`."""
    with discover(folder, probe_s=0) as sources, Sampler(sources, rate_hz) as sampler:
        time.sleep(1.0)
        (used_s, switches), began_ns = cpu_s(), time.monotonic_ns()
        time.sleep(seconds)
        end_ns = time.monotonic_ns()
        used_s, switches = cpu_s()[0] - used_s, cpu_s()[1] - switches
        rows = sampler.window(began_ns, end_ns, margin_ticks=0)
        node = [row for row in rows if row.source == "node"]
        late_ms = sorted(row.lateness_ns / 1e6 for row in node if not row.missed)
        return {
            "seconds": seconds,
            "rate_hz": rate_hz,
            "gpus": len(sources.gpus),
            "cpu_counters": len(sources.counters),
            "priority": sampler.priority,
            "ticks": len(node),
            "missed": sum(row.missed for row in node),
            "lateness_ms": {
                "median": round(late_ms[len(late_ms) // 2], 3),
                "p99": round(late_ms[int(0.99 * (len(late_ms) - 1))], 3),
                "max": round(late_ms[-1], 3),
            },
            "cpu_percent_of_a_core": round(100 * used_s / (end_ns - began_ns) * 1e9, 3),
            "context_switches_per_s": round(switches / seconds, 1),
            "load_average": os.getloadavg()[0],
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sampler", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--oversubscribe", type=float, default=0.0, help="busy processes for each CPU")
    options = parser.parse_args()
    count = round(options.oversubscribe * len(os.sched_getaffinity(0)))
    busy = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            fake = nvml.FakeNvml(folder / "state", nvml.build(folder), gpus=max(1, options.gpus), watts=300.0)
            zones = [
                powercap.Zone(f"intel-rapl:{i}", f"package-{i}", 40.0, 10**9 + i * 10**10) for i in range(PACKAGES)
            ]
            powercap.build(folder, zones)
            if options.gpus:
                with fake.attached():
                    found = measure(folder, options.seconds, options.rate)
            else:
                found = measure(folder, options.seconds, options.rate)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    print(json.dumps({**found, "busy_processes": count}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
