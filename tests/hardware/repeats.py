"""Does cooling until idle repeat as well as fixed waits? `python -m tests.hardware.repeats OUT.json [--minutes 12]`.

One training of about 30 s (or of the epochs that --values names), again and again in one campaign, cooled until idle
and for fixed seconds in turn (idle, fixed, fixed, idle), so that whatever drifts meanwhile meets both alike. A run
counts for the cooling before it; the first comes after neither. Writes each run and the coefficients of variation of
energy, to one JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from tests.hardware.pairs import campaign

SECONDS = 30.0
OF_A_RUN = (
    "experiment_id", "verdict", "reasons", "gpu_uuid", "duration_s", "ready_s", "gpu_energy_j", "training_s",
    "gpu_energy_training_j", "gpu_power_mean_w", "gpu_temp_mean_c", "gpu_idle_power_w", "cooling_s", "cooling_end",
    "cooling_idle_proven", "steps",
)  # fmt: skip


def main() -> None:
    options = parse()
    deadline = time.monotonic() + 60 * options.minutes
    found = repeats(options, deadline)
    options.out.write_text(json.dumps(found, indent=1, default=str))
    print(json.dumps(found["summary"], indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the JSON file to write")
    parser.add_argument("--minutes", type=float, default=12.0, help="after that time the campaign is ended (12)")
    parser.add_argument("--size", choices=("full", "reduced"), default="full")
    parser.add_argument("--model", default="pytorch_resnet_cifar10/resnet110", help="REPO/MODEL")
    parser.add_argument("--values", type=json.loads, default={}, help="hyperparameters, as in '{\"batch_size\": 9}'")
    parser.add_argument("--repeats", type=int, default=5, help="runs after each way of cooling (5)")
    parser.add_argument("--fixed-seconds", type=float, default=60.0, help="the fixed wait to compare with (60)")
    return parser.parse_args()


def repeats(options: argparse.Namespace, deadline: float) -> dict[str, Any]:
    """All runs in their order, what they were cooled by before, and a summary of both ways."""
    repo, model = options.model.split("/", 1)
    values = {"seed": 1, **options.values}
    item = {"repo": repo, "model": model, "mode": "default", "hyperparameters": values}
    base = {"name": "repeats", "seed": 1, "max_retries": 0, "size": options.size}
    if "epochs" not in values:
        values["epochs"] = epochs_of_a_repeat(base, item, deadline)
    ways = {"idle": {"until": "idle"}, "fixed": {"seconds": options.fixed_seconds}}
    after = list(islice(cycle(("idle", "fixed", "fixed", "idle")), 2 * options.repeats))
    items = [{**item, "cooling": ways[way]} for way in [*after, "idle"]]
    rows, _ = campaign({**base, "experiments": items}, deadline)
    by_number = {row["index"]: row for row in rows if row["verdict"] == "valid" and row["cooling_s"] is not None}
    runs = [
        {"after": way, "waited_s": before["cooling_s"] + run["steps"]["gate"], **{name: run[name] for name in OF_A_RUN}}
        for number, way in enumerate(after, start=1)
        if (before := by_number.get(number)) is not None and (run := by_number.get(number + 1)) is not None
    ]
    return {
        "model": options.model,
        "values": values,
        "summary": {way: summary([run for run in runs if run["after"] == way]) for way in ways},
        "all": [{name: row[name] for name in OF_A_RUN} for row in rows],
        "runs": runs,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "runs": len(runs),
        "energy_cv_percent": variation_percent([run["gpu_energy_j"] for run in runs]),
        "training_energy_cv_percent": variation_percent([run["gpu_energy_training_j"] for run in runs]),
        "duration_mean_s": mean([run["duration_s"] for run in runs]) if runs else None,
        "waited_median_s": median([run["waited_s"] for run in runs]) if runs else None,
    }


def variation_percent(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return 100 * stdev(known) / mean(known) if len(known) > 1 else None


def epochs_of_a_repeat(base: dict[str, Any], item: dict[str, Any], deadline: float) -> int:
    """How many epochs make SECONDS, by a run of two."""
    short = {**item, "hyperparameters": {**item["hyperparameters"], "epochs": 2}}
    (probe,), _ = campaign({**base, "cooling": {"seconds": 0}, "experiments": [short]}, deadline)
    epoch_s = (probe["duration_s"] - probe["ready_s"]) / 2
    return max(1, round((SECONDS - probe["ready_s"]) / epoch_s))


if __name__ == "__main__":
    main()
