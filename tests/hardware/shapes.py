"""Counter against 10 Hz integral by shape of load: `python -m tests.hardware.shapes [SECONDS]` on a GPU machine.

Each shape of load.py runs under `profiler measure`. Then: the sampler's CPU time over 30 idle seconds, and how much a
steady load slows down when it is measured (pairs in ABBA order). Prints JSON.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from profiler.energy.meter import Meter
from profiler.energy.nvml import Nvml, open_nvml

LOAD = Path(__file__).with_name("load.py")
SHAPES = ("steady", "light", "idle", "burst2", "burst5", "burst10", "ramp", "two")
KEPT = ("duration_s", "samples", "samples_missed", "gpu_energy_j", "gpu_energy_integral_j", "gpu_power_mean_w",
        "gpu_power_max_w", "gpu_util_mean_percent", "energy_sources", "uncertainty_j", "null_reasons")  # fmt: skip
PAIRS = 5
SLOWDOWN_S = 6.0
T_975 = {4: 2.776}  # Student's t for PAIRS - 1 degrees of freedom


def measured(shape: str, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "profiler", "measure", "--json", "--", sys.executable, str(LOAD), shape]
    done = subprocess.run([*command, str(seconds)], capture_output=True, text=True)
    if done.returncode:
        return {"shape": shape, "error": done.stderr[-1000:]}
    document = json.loads(done.stdout)
    counter, integral = document["gpu_energy_j"], document["gpu_energy_integral_j"]
    gap = None if counter is None or integral is None else 100 * (integral / counter - 1)
    return {"shape": shape, "gap_percent": gap, **{name: document.get(name) for name in KEPT}}


def sampler_cpu_percent(seconds: float = 30.0) -> float:
    with Meter():
        time.sleep(1)
        cpu, begun = time.process_time(), time.monotonic()
        time.sleep(seconds)
        return 100 * (time.process_time() - cpu) / (time.monotonic() - begun)


def products(*, measure: bool) -> float:
    before = [sys.executable, "-m", "profiler", "measure", "--result", "/dev/null", "--"] if measure else []
    done = subprocess.run(
        [*before, sys.executable, str(LOAD), "steady", str(SLOWDOWN_S)], capture_output=True, text=True, check=True
    )
    found = re.search(r"([\d.]+) products", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1])


def slowdown() -> dict[str, Any]:
    """Per cent by which a measured load does fewer products, with its 95 % interval over PAIRS of pairs."""
    products(measure=False)  # the first is colder
    slower = []
    for number in range(PAIRS):
        order = (False, True) if number % 2 == 0 else (True, False)
        rates = {measure: products(measure=measure) for measure in order}
        slower.append(100 * (1 - rates[True] / rates[False]))
    half = T_975[PAIRS - 1] * statistics.stdev(slower) / math.sqrt(PAIRS)
    mean = statistics.mean(slower)
    return {"percent": mean, "low": mean - half, "high": mean + half, "pairs": slower}


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
    nvml = open_nvml()
    assert isinstance(nvml, Nvml), nvml
    about = {"device": nvml.devices[0].uuid, "name": nvml.devices[0].name, "driver": nvml.driver_version}
    nvml.close()
    shapes = [measured(shape, seconds) for shape in SHAPES]
    print(json.dumps({**about, "sampler_cpu_percent": sampler_cpu_percent(), "slowdown": slowdown(), "shapes": shapes},
                     indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
