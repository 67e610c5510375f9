"""Makes small session folders for the tests of the command line, with the store's own writers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from profiler.store import write
from profiler.store.layout import SessionFolder, create_session

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_session(results: Path, attempts: Mapping[int, Mapping[str, Any]], planned: int = 3) -> SessionFolder:
    """A session of `planned` runs of mnist_cnn; `attempts` maps the index of a run to what its final row says."""
    folder = create_session(results, lambda: STARTED)
    write.write_campaign(folder, "name: test\n")
    write.write_plan(folder, {"seed": 7, "runs": [planned_run(index) for index in range(1, planned + 1)]})
    for index, row in attempts.items():
        write.write_run(folder, {**run_row(folder, index), **row})
    write.refresh_summaries(folder)
    return folder


def planned_run(index: int) -> dict[str, Any]:
    return {
        "index": index,
        "experiment_id": f"examples_mnist_cnn_{index:03d}",
        "repo": "examples",
        "model": "mnist_cnn",
        "mode": "mutation",
        "foreground_mode": "mutation",
        "hyperparameters": {"epochs": 2, "learning_rate": 0.1 + 0.2},
        "mutated": ["learning_rate"],
        "background": None,
    }


def run_row(folder: SessionFolder, index: int) -> dict[str, Any]:
    """A valid, safe attempt without energy sources."""
    reason = dict.fromkeys(("cpu_package_energy_j", "dram_energy_j", "cpu_energy_total_j"), "no_rapl_zones")
    return {
        **{name: planned_run(index)[name] for name in ("experiment_id", "repo", "model", "mode", "foreground_mode")},
        "run_id": folder.run_id(index),
        "session_id": folder.session_id,
        "attempt": 1,
        "is_final": True,
        "started_at": STARTED,
        "ended_at": STARTED,
        "duration_s": 12.5,
        "hyperparameters": {"epochs": 2, "learning_rate": 0.1 + 0.2},
        "requested_hyperparameters": {"epochs": 2, "learning_rate": 0.1 + 0.2},
        "effective_source": "event",
        "mutated": ["learning_rate"],
        "exit_code": 0,
        "metrics": {"test_accuracy": 0.93},
        "primary_metric": "test_accuracy",
        "primary_metric_value": 0.93,
        "energy_sources": {},
        "verdict": "valid",
        "reasons": ["no_energy_source"],
        "valid": True,
        "safe": True,
        "null_reasons": reason,
    }


FAILED: Mapping[str, Any] = {"verdict": "failed", "valid": False, "safe": False, "reasons": ["exit"], "exit_code": 1}
CONTAMINATED: Mapping[str, Any] = {"verdict": "contaminated", "safe": False, "reasons": ["throttled"]}
