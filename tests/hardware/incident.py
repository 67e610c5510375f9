"""Replays the incident on a real GPU: `python -m tests.hardware.incident`. Prints JSON.

A campaign of six short trainings; a stranger holds 5.5 GB before run 3 and appears again during run 5. Run 3 has to
wait with the stranger named, run 5 has to be marked, and no other run may be touched.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import profiler

HOLD = Path(__file__).with_name("hold_memory.py")
COLUMNS = (
    "experiment_id", "verdict", "reasons", "evidence", "gate_wait_s", "duration_s", "gpu_uuid", "gpu_energy_j",
    "gpu_memory_peak_mib",
)  # fmt: skip


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    run = {"repo": "examples", "model": "mnist_cnn", "mode": "default", "hyperparameters": {"epochs": 2}}
    config = {"name": "incident", "seed": 1, "cooling": {"seconds": 2}, "experiments": [run] * 6}
    (folder / "incident.yaml").write_text(yaml.safe_dump(config))
    results = folder / "results"
    with (folder / "stderr").open("w") as stderr:
        campaign = subprocess.Popen(
            [sys.executable, "-m", "profiler", "run", str(folder / "incident.yaml"), "--results", str(results)],
            stderr=stderr,
            stdout=subprocess.DEVNULL,
        )
        until(lambda: len(list(results.glob("run_*/dataset/runs/*.parquet"))) == 2)
        squat(8.0)
        until(lambda: bool(list(results.glob("run_*/*_005/training.log"))))
        time.sleep(1)
        squat(2.5)
        code = campaign.wait(timeout=300)
    session = profiler.open(next(results.glob("run_*")))
    rows = [{name: row[name] for name in COLUMNS} for row in session.rows()]
    processes: list[dict[str, Any]] = json.loads(session.processes().to_json(orient="records"))
    text = (folder / "stderr").read_text()
    print(json.dumps({"exit_code": code, "stderr": text, "runs": rows, "processes": processes}, indent=1))


def squat(seconds: float) -> None:
    """Hold 5.5 GB for some seconds."""
    process = subprocess.Popen([sys.executable, "-S", str(HOLD), "5500"], stdout=subprocess.DEVNULL)
    time.sleep(seconds)
    process.kill()
    process.wait()


def until(condition: Callable[[], bool], timeout_s: float = 200) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


if __name__ == "__main__":
    main()
