"""Shows runs in the shapes of the older tool: summary.csv, experiment.json, energy CSVs. It computes no figure.

Every number is the one of the Parquet row, written with round-trip precision.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.store.files import write_whole
from profiler.store.rows import timestamp_text, to_json
from profiler.store.schema import RUNS
from profiler.store.trace_csv import write_energy_files

if TYPE_CHECKING:
    from profiler.store.collection import Sessions
    from profiler.store.read import Session

SUMMARY_HEAD = ("experiment_id", "timestamp", "repository", "model", "training_success", "duration_seconds", "retries")

SUMMARY_ENERGY = {
    "energy_cpu_pkg_joules": "cpu_package_energy_j",
    "energy_cpu_ram_joules": "dram_energy_j",
    "energy_cpu_total_joules": "cpu_energy_total_j",
    "energy_gpu_avg_watts": "gpu_power_mean_w",
    "energy_gpu_max_watts": "gpu_power_max_w",
    "energy_gpu_min_watts": "gpu_power_min_w",
    "energy_gpu_total_joules": "gpu_energy_j",
    "energy_gpu_temp_avg_celsius": "gpu_temp_mean_c",
    "energy_gpu_temp_max_celsius": "gpu_temp_max_c",
    "energy_gpu_util_avg_percent": "gpu_util_mean_percent",
    "energy_gpu_util_max_percent": "gpu_util_max_percent",
}
"""Old column -> column of `runs`. The order is the old one; within the group it is fixed, not alphabetical."""

SUMMARY_TAIL = ("mode", "verdict", "safe", "reasons")

SUMMARY_BACKGROUND = {
    "background_repository": "background_repo",
    "background_model": "background_model",
    "background_busy_share": "background_busy_share",
    "background_starts": "background_starts",
}

EXPERIMENT_ENERGY = {
    "cpu_energy_pkg_joules": "cpu_package_energy_j",
    "cpu_energy_ram_joules": "dram_energy_j",
    "cpu_energy_total_joules": "cpu_energy_total_j",
    "gpu_power_avg_watts": "gpu_power_mean_w",
    "gpu_power_max_watts": "gpu_power_max_w",
    "gpu_power_min_watts": "gpu_power_min_w",
    "gpu_energy_total_joules": "gpu_energy_j",
    "gpu_temp_avg_celsius": "gpu_temp_mean_c",
    "gpu_temp_max_celsius": "gpu_temp_max_c",
    "gpu_util_avg_percent": "gpu_util_mean_percent",
    "gpu_util_max_percent": "gpu_util_max_percent",
}

BACKGROUND_NOTE = "The background is load on the same device; GPU figures of this record cover the whole device."


def summary_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """One run in the old column names; a value that is null or does not apply is None or absent."""
    cells: dict[str, Any] = {
        "experiment_id": row["experiment_id"],
        "timestamp": timestamp_text(row["ended_at"]) if row["ended_at"] else None,
        "repository": row["repo"],
        "model": row["model"],
        "training_success": row["valid"],
        "duration_seconds": row["duration_s"],
        "retries": row["attempt"] - 1,
        **{f"hyperparam_{name}": value for name, value in (row["hyperparameters"] or {}).items()},
        **{f"perf_{name}": value for name, value in (row["metrics"] or {}).items()},
        **{old: row[new] for old, new in SUMMARY_ENERGY.items()},
        "mode": row["mode"],
        "verdict": row["verdict"],
        "safe": row["safe"],
        "reasons": ";".join(row["reasons"] or ()),
        **{old: row[new] for old, new in SUMMARY_BACKGROUND.items()},
    }
    background = row["background_hyperparameters"] or {}
    return cells | {f"background_hyperparam_{name}": value for name, value in background.items()}


def summary_columns(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """Header for these rows: the fixed columns always, hyperparameters and metrics only where they occur."""
    seen: set[str] = set().union(*cells)
    return [
        *SUMMARY_HEAD,
        *sorted(name for name in seen if name.startswith("hyperparam_")),
        *sorted(name for name in seen if name.startswith("perf_")),
        *SUMMARY_ENERGY,
        *SUMMARY_TAIL,
        *SUMMARY_BACKGROUND,
        *sorted(name for name in seen if name.startswith("background_hyperparam_")),
    ]


def summary_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The text of summary.csv for attempts that have a row; null is an empty cell."""
    cells = [summary_row(row) for row in rows]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, summary_columns(cells), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    return text.getvalue().encode()


def to_csv(opened: Session | Sessions, path: Path, safe: bool = False) -> int:
    """Write the final rows to `path` in the old column names; the number of rows. `safe`: only safe runs."""
    rows = [row for row in opened.final_rows() if row["safe"] or not safe]
    _write(path, summary_csv(rows))
    return len(rows)


def to_json_file(opened: Session | Sessions, path: Path, safe: bool = False) -> int:
    """Write what `show --json` prints to `path`; the number of runs. `safe`: only safe runs."""
    document = opened.to_json()
    document["runs"] = [row for row in document["runs"] if row["safe"] or not safe]
    _write(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    return len(document["runs"])


def to_energy_folders(opened: Session | Sessions, path: Path, safe: bool = False) -> int:
    """Write the traces of the final attempts as CSV files of the older tool, a folder `path`/<run_id> for each run; the
    number of runs. `safe`: only safe runs."""
    rows = [row for row in opened.final_rows() if row["safe"] or not safe]
    path.mkdir(parents=True, exist_ok=True)
    for row in rows:
        write_energy_files(path / row["run_id"], row, opened.trace_of(row))
    return len(rows)


def _write(path: Path, data: bytes) -> None:
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as device:  # /dev/stdout, a pipe: what is no file must not be replaced by one
            device.write(data)
    else:
        write_whole(path.resolve(), data)


def experiment_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """experiment.json of one attempt: the old names flat at the top for every mode, then every column of `runs` under
    its own name. Effective values that nobody reported are {} under the old name (see effective_source)."""
    old: dict[str, Any] = {
        "experiment_id": row["experiment_id"],
        "timestamp": row["ended_at"],
        "repository": row["repo"],
        "model": row["model"],
        "mode": row["mode"],
        "hyperparameters": row["hyperparameters"] or {},
        "duration_seconds": row["duration_s"],
        "energy_metrics": {name: row[column] for name, column in EXPERIMENT_ENERGY.items()},
        "performance_metrics": row["metrics"] or {},
        "training_success": row["valid"],
        "retries": row["attempt"] - 1,
        "error_message": row["error_message"] or "",
    }
    if row["background_repo"] is not None:
        old["background"] = {
            "repository": row["background_repo"],
            "model": row["background_model"],
            "hyperparameters": row["background_hyperparameters"] or {},
            "log_directory": row["background_log_directory"],
            "note": BACKGROUND_NOTE,
        }
    columns = {name: row[name] for name in RUNS.names if name not in old}
    document: dict[str, Any] = to_json({**old, **columns})
    return document


def experiment_json(row: Mapping[str, Any]) -> bytes:
    return json.dumps(experiment_document(row), indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
