"""Two real GPUs in one campaign: `python -m tests.hardware.two_gpus OUT.json`. Needs a machine with two GPUs or more.

The same training several times, first with `isolation: gpu` (one run on each GPU at a time), then with
`isolation: node` (one run on the machine at a time): the second must have no two runs that overlap, and the first must
take about half the time. Each run's energy by the counter of its own GPU stands beside the integral of its trace.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import profiler

COLUMNS = ("experiment_id", "verdict", "reasons", "gpu_uuid", "gpu_name", "duration_s", "window_start_ns",
           "window_end_ns", "gpu_energy_j", "gpu_energy_integral_j", "gpu_power_mean_w", "gpu_temp_mean_c",
           "cooling_s", "cooling_end", "gate_wait_s", "primary_metric_value", "null_reasons")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the JSON file to write")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--model", default="pytorch_resnet_cifar10/resnet110", help="REPO/MODEL")
    parser.add_argument("--values", type=json.loads, default={"epochs": 10, "batch_size": 1024, "seed": 1})
    parser.add_argument("--size", choices=("full", "reduced"), default="full")
    options = parser.parse_args()
    found: dict[str, Any] = {"model": options.model, "values": options.values}
    for isolation in ("gpu", "node"):
        found[isolation] = campaign(options, isolation)
        found["speed_up"] = found["node"]["seconds"] / found["gpu"]["seconds"] if "node" in found else None
        options.out.write_text(json.dumps(found, indent=1, default=str))
    print(json.dumps({**found, **{name: found[name]["summary"] for name in ("gpu", "node")}}, indent=1))


def campaign(options: argparse.Namespace, isolation: str) -> dict[str, Any]:
    repo, model = options.model.split("/", 1)
    item = {"repo": repo, "model": model, "mode": "default", "hyperparameters": options.values,
            "runs_per_config": options.runs}  # fmt: skip
    config = {"name": "two-gpus", "seed": 1, "max_retries": 0, "size": options.size, "isolation": isolation,
              "cooling": {"until": "idle"}, "experiments": [item]}  # fmt: skip
    times: list[float] = []

    def watch(event: dict[str, Any]) -> None:
        if event["event"] in ("step", "cooled"):  # from the first step of a run to the end of the last cooling
            times.append(time.monotonic())

    with tempfile.TemporaryDirectory() as folder:
        rows = profiler.run(profiler.load(config), results=Path(folder), observer=watch).rows()
    return {
        "seconds": times[-1] - times[0],
        "summary": summary(rows, times[-1] - times[0]),
        "runs": [{name: row[name] for name in COLUMNS} for row in rows],
    }


def summary(rows: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    windows = sorted((row["window_start_ns"], row["window_end_ns"]) for row in rows)
    energies = defaultdict(list)
    for row in rows:
        if row["valid"] and row["gpu_energy_j"] is not None:
            energies[row["gpu_uuid"]].append(row["gpu_energy_j"])
    gaps = [row["gpu_energy_integral_j"] / row["gpu_energy_j"] - 1 for row in rows if row["gpu_energy_j"]]
    return {
        "seconds": seconds,
        "valid": sum(row["valid"] for row in rows),
        "safe": sum(row["safe"] for row in rows),
        "overlapping_pairs_of_runs": sum(late[0] < early[1] for early, late in combinations(windows, 2)),
        "runs_by_gpu": {uuid: len(values) for uuid, values in energies.items()},
        "energy_cv_percent_by_gpu": {
            uuid: 100 * stdev(values) / mean(values) for uuid, values in energies.items() if len(values) > 1
        },
        "integral_against_counter_percent": {"least": 100 * min(gaps), "most": 100 * max(gaps)} if gaps else None,
    }


if __name__ == "__main__":
    main()
