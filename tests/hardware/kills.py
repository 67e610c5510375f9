"""How long a GPU stays occupied after a SIGKILL: `python -m tests.hardware.kills [ROUNDS]` on a machine with a GPU.

Each round starts `profiler measure` on a program that holds 1 GiB of GPU memory, kills one part of it with SIGKILL, and
times until NVML shows neither a process nor memory above the idle mark. Prints JSON.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from profiler.energy.nvml import Nvml, NvmlDevice, open_nvml
from profiler.process.find import find_keepers

HOLD = Path(__file__).with_name("hold_memory.py")
VICTIMS = ("profiler", "keeper", "trainer", "profiler and keeper")
IDLE_MARGIN_MIB = 8.0


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    nvml = open_nvml()
    assert isinstance(nvml, Nvml), nvml
    device = nvml.devices[0]
    idle_mib = device.read().memory_mib or 0.0
    results = [one_round(device, idle_mib, VICTIMS[number % len(VICTIMS)]) for number in range(rounds)]
    seconds = [result["free_after_s"] for result in results]
    summary = {"rounds": rounds, "idle_mib": idle_mib, "median_s": statistics.median(seconds), "max_s": max(seconds)}
    print(json.dumps({"device": device.uuid, "driver": nvml.driver_version, **summary, "results": results}, indent=1))


def one_round(device: NvmlDevice, idle_mib: float, victim: str) -> dict[str, object]:
    measured = subprocess.Popen(
        [sys.executable, "-m", "profiler", "measure", "--", sys.executable, "-S", str(HOLD), "1024"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert measured.stdout is not None
    measured.stdout.readline()  # "holding"
    held_mib = device.read().memory_mib
    pids = [process.pid for process in device.processes()]
    keeper = next(keeper for keeper in find_keepers() if keeper.owner_pid == measured.pid)
    targets = {"profiler": [measured.pid], "keeper": [keeper.pid], "trainer": pids}
    for pid in targets.get(victim, [measured.pid, keeper.pid]):
        os.kill(pid, signal.SIGKILL)
    t0 = time.monotonic()
    while device.processes() or (device.read().memory_mib or 0.0) > idle_mib + IDLE_MARGIN_MIB:
        if time.monotonic() - t0 > 30:
            break
        time.sleep(0.005)
    free_after_s = time.monotonic() - t0
    measured.wait(timeout=20)
    return {"victim": victim, "held_mib": held_mib, "seen": len(pids), "free_after_s": round(free_after_s, 3)}


if __name__ == "__main__":
    main()
