"""Trains every model at full size on a real GPU: `python -m tests.hardware.models --out models.json`.

One campaign, one run a model, one epoch each with the manifest's defaults; what a run needed goes into one JSON file:
verdict, seconds, memory, power, energy, metrics, and the end of the log where it failed. A run that is too long is
ended (`--seconds`); resnet1202 trains on a part of its images, so that its epoch takes about as long as the others'.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import profiler
from profiler.store.layout import SessionFolder
from profiler.workloads import ModelSpec, load_catalog, manifest_roots

COLUMNS = (
    "verdict", "reasons", "valid", "exit_code", "error_message", "duration_s", "gpu_name", "gpu_memory_peak_mib",
    "gpu_power_mean_w", "gpu_util_mean_percent", "gpu_energy_j", "cpu_s", "data_source", "metrics", "hyperparameters",
    "gate_wait_s", "left_behind",
)  # fmt: skip
# Arguments that a model gets beside its hyperparameters.
MORE: dict[str, tuple[str, ...]] = {"resnet1202": ("--train-limit", "6400")}
LOG_TAIL_CHARACTERS = 3000


def main() -> int:
    """Run the chosen models; 0 if every run is valid."""
    options = _options()
    # Sessions hold checkpoints of every model; only the file named by --out is meant to stay.
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PROFILER_REPOS"] = str(_with_more_arguments(Path(folder) / "repos"))
        specs = [spec for spec in load_catalog().models() if _wanted(spec, options.only)]
        report = Report(options.out, options.epochs)
        profiler.run(profiler.load(_campaign(specs, options)), results=Path(folder) / "results", observer=report.take)
    return 0 if len(report.runs) == len(specs) and all(run["valid"] for run in report.runs) else 1


class Report:
    """The file, written anew after each run, so that an end from outside leaves what was measured until then."""

    def __init__(self, path: Path, epochs: int) -> None:
        self.path, self.epochs = path, epochs
        self.runs: list[dict[str, Any]] = []
        self.folder: SessionFolder | None = None

    def take(self, event: dict[str, Any]) -> None:
        """One progress event of the campaign."""
        if event["event"] == "session":
            self.folder = SessionFolder(Path(event["path"]))
        elif event["event"] == "attempt" and self.folder is not None:
            self.runs.append(_result(event["row"], self.folder))
            document = {"epochs": self.epochs, "arguments": MORE, "runs": self.runs}
            self.path.write_text(json.dumps(document, indent=1, default=str))
            print(_line(self.runs[-1]), flush=True)


def _wanted(spec: ModelSpec, only: Sequence[str] | None) -> bool:
    return only is None or bool({spec.name, spec.repo, f"{spec.repo}/{spec.name}"} & set(only))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("models.json"), metavar="FILE")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), metavar="NAME,NAME", help="these models or repositories"
    )
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=100.0, help="a run that takes longer is ended")
    parser.add_argument("--size", choices=("full", "reduced"), default="full")
    return parser.parse_args()


def _with_more_arguments(root: Path) -> Path:
    """A folder of manifests that hand the arguments of MORE to their models; the trainers stay where they are."""
    for manifest in manifest_roots()[0].glob("*/workload.yaml"):
        document = yaml.safe_load(manifest.read_text())
        command = [part.replace("{folder}", str(manifest.parent)) for part in document["command"]]
        models = {name: dict(own or {}) for name, own in document["models"].items()}
        for name in models.keys() & MORE.keys():
            models[name]["command"] = [*command, *MORE[name]]
            target = root / manifest.parent.name / manifest.name
            target.parent.mkdir(parents=True)
            target.write_text(yaml.safe_dump({**document, "command": command, "models": models}, sort_keys=False))
    return root


def _campaign(specs: Sequence[ModelSpec], options: argparse.Namespace) -> dict[str, Any]:
    items = [{"repo": spec.repo, "model": spec.name, "hyperparameters": {"epochs": options.epochs}} for spec in specs]
    if not items:
        raise SystemExit(f"--only names no model; known: {', '.join(spec.name for spec in load_catalog().models())}")
    return {
        "name": "models",
        "mode": "default",
        "seed": 1,
        "size": options.size,
        "max_retries": 0,
        "timeout_seconds": options.seconds,
        "cooling": {"seconds": 1},
        "experiments": items,
    }


def _result(row: dict[str, Any], folder: SessionFolder) -> dict[str, Any]:
    experiment: str = row["experiment_id"]
    events_path, log_path = folder.events(experiment), folder.run_folder(experiment) / "training.log"
    events = [json.loads(line) for line in events_path.read_text().splitlines()] if events_path.is_file() else []
    result = {"repo": row["repo"], "model": row["model"], **{name: row[name] for name in COLUMNS}}
    result["null_reasons"] = {name: why for name, why in row["null_reasons"].items() if name in COLUMNS}
    result.update(_seconds(row, events))
    result["facts"] = next((event.get("facts") for event in events if event["event"] == "config"), None)
    if not row["valid"] and log_path.is_file():
        result["log_tail"] = log_path.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]
    return result


def _seconds(row: dict[str, Any], events: list[dict[str, Any]]) -> dict[str, float | None]:
    """Seconds until the training began, of an epoch, and from the last epoch to the end; None where unknown."""
    times = {event["event"]: event["t_ns"] for event in events}  # of the last one of each kind
    epochs = sum(event["event"] == "epoch" for event in events)

    def between(first: int | None, last: int | None) -> float | None:
        return None if first is None or last is None else (last - first) / 1e9

    training = between(times.get("config"), times.get("epoch"))
    return {
        "start_s": between(row["window_start_ns"], times.get("config")),
        "seconds_per_epoch": training / epochs if training is not None and epochs else None,
        "final_s": between(times.get("epoch"), times.get("done")),
    }


def _line(run: dict[str, Any]) -> str:
    def shown(name: str, unit: str) -> str:
        return f"{run[name]:8.1f} {unit}" if run[name] is not None else f"{'-':>8} {unit}"

    figures = [shown("duration_s", "s"), shown("seconds_per_epoch", "s/epoch"), shown("gpu_memory_peak_mib", "MiB")]
    figures += [shown("gpu_power_mean_w", "W"), shown("gpu_energy_j", "J")]
    name = f"{run['repo'][:12]}/{run['model']}"
    return f"{name:32} {run['verdict']:12} {' '.join(figures)} {run['error_message'] or ''}"


if __name__ == "__main__":
    sys.exit(main())
