"""What a run costs besides its training. `python -m tests.benchmarks.run_overhead` writes one JSON document.

A campaign of trainings that do next to nothing, without cooling; overhead of a run = from its start (as the ledger has
it) to the next one's, less the training itself. Beside it the least that Ray can do: a task that starts a program and
waits for it, one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import profiler
from tests.campaigns import command, config, environment, quick

BARE = """
import json, subprocess, sys, time
import ray
ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR",
         _node_ip_address="127.0.0.1", object_store_memory=100 * 1024 * 1024)

@ray.remote
def once(argv):
    t0 = time.monotonic()
    subprocess.Popen(argv, stdout=subprocess.DEVNULL).wait()
    return time.monotonic() - t0

argv = sys.argv[2:]
ray.get(once.remote(argv))
overheads = []
for _ in range(int(sys.argv[1])):
    t0 = time.monotonic()
    inside_s = ray.get(once.remote(argv))
    overheads.append(time.monotonic() - t0 - inside_s)
print(json.dumps(overheads))
"""


def campaign(runs: int, folder: Path) -> tuple[Path, float, float]:
    """The session of a campaign, its wall and its CPU seconds: of the driver, of Ray and of the trainers."""
    item = {**quick(epochs=1, epoch_seconds=0.0), "runs_per_config": runs}
    path = config(folder, [item], cooling={"seconds": 0})
    begun_s = time.monotonic()
    process = subprocess.Popen(
        command("run", path, "--results", folder / "results"),
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the campaign ended with {process.returncode}")
    wall_s = time.monotonic() - begun_s
    return next((folder / "results").glob("run_*")), wall_s, usage.ru_utime + usage.ru_stime


def overheads_s(session: profiler.Session) -> list[float]:
    """From each attempt's start to the next one's, less the training in between."""
    starts = [
        datetime.fromisoformat(event["t_utc"]).timestamp()
        for event in session.ledger().events
        if event["event"] == "attempt_started"
    ]
    rows = session.attempts()
    lengths = [row["duration_s"] for row in rows]
    return [after - before - length for before, after, length in zip(starts, starts[1:], lengths, strict=False)]


def step_medians_ms(session: profiler.Session) -> dict[str, float]:
    """The steps of the attempts on their node, each with its median in ms."""
    rows = session.attempts()
    names = dict.fromkeys(name for row in rows for name in row["steps"])
    return {name: round(1000 * statistics.median(row["steps"].get(name, 0.0) for row in rows), 1) for name in names}


def bare(runs: int) -> list[float]:
    result = subprocess.run(
        [sys.executable, "-c", BARE, str(runs), "true"], capture_output=True, text=True, check=True,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip
    overheads: list[float] = json.loads(result.stdout.splitlines()[-1])
    return overheads


def spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 4),
        "p90": round(ordered[int(len(ordered) * 0.9)], 4),
        "max": round(ordered[-1], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--keep", type=Path, help="leave the session in this folder")
    options = parser.parse_args()
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path, wall_s, cpu_s = campaign(options.runs, folder)
        session = profiler.open(path)
        rows = session.attempts()
        figures: dict[str, Any] = {
            "what": "seconds of a run besides its training, cooling 0",
            "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
            "load_before": load_before,
            "runs": len(rows),
            "valid": sum(row["valid"] for row in rows),
            "overhead_s": spread(overheads_s(session)),
            "training_s": spread([row["duration_s"] for row in rows]),
            "steps_median_ms": step_medians_ms(session),
            "campaign_wall_s": round(wall_s, 1),
            "campaign_cpu_s": round(cpu_s, 1),
            "bare_ray_and_popen_overhead_s": spread(bare(options.runs)),
            "load_after": os.getloadavg(),
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
