"""Rows, plans and sessions for the tests of the store, small, complete, made by hand; and a disk that is full."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from profiler.store.layout import SessionFolder, create_session
from profiler.store.write import write_plan

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
BOOT = "5f0c0b5e-0000-4000-8000-000000000001"
# 208 days after boot: beyond 2**53 ns, where a float would lose digits.
T0_NS = 18_000_000_000_000_001


def planned(index: int, **changes: Any) -> dict[str, Any]:
    """A planned run as PlannedRun.to_json() gives it."""
    run: dict[str, Any] = {
        "index": index,
        "experiment_id": f"examples_mnist_cnn_{index:03d}",
        "repo": "examples",
        "model": "mnist_cnn",
        "mode": "mutation",
        "foreground_mode": "mutation",
        "hyperparameters": {"epochs": 2, "learning_rate": 0.1 + 0.2, "seed": 1},
        "mutated": ["learning_rate"],
        "background": None,
        "max_retries": 2,
        "timeout_seconds": None,
        "estimated_seconds": 12.5,
    }
    return run | changes


def plan_of(runs: Iterable[Mapping[str, Any]], seed: int = 7) -> dict[str, Any]:
    return {"seed": seed, "digest": "d" * 64, "runs": list(runs)}


def session_folder(results: Path, runs: Sequence[Mapping[str, Any]] | int = 3) -> SessionFolder:
    """A new session with a plan."""
    folder = create_session(results, lambda: NOON)
    write_plan(folder, plan_of([planned(i) for i in range(1, runs + 1)] if isinstance(runs, int) else runs))
    return folder


def attempt_row(folder: SessionFolder, index: int, attempt: int = 1, **changes: Any) -> dict[str, Any]:
    """The row of a successful attempt; `changes` override or add fields."""
    run = planned(index)
    start_ns = T0_NS + index * 100_000_000_000 + attempt * 10_000_000_000
    row: dict[str, Any] = {
        "run_id": folder.run_id(index),
        "session_id": folder.session_id,
        "experiment_id": run["experiment_id"],
        "attempt": attempt,
        "is_final": True,
        "repo": run["repo"],
        "model": run["model"],
        "mode": "mutation",
        "foreground_mode": "mutation",
        "started_at": NOON + timedelta(seconds=100 * index),
        "ended_at": NOON + timedelta(seconds=100 * index + 5),
        "window_start_ns": start_ns,
        "window_end_ns": start_ns + 5_000_000_000,
        "duration_s": 5.0,
        "node_id": "node-a",
        "boot_id": BOOT,
        "requested_hyperparameters": run["hyperparameters"],
        "hyperparameters": run["hyperparameters"],
        "effective_source": "event",
        "mutated": ["learning_rate"],
        "exit_code": 0,
        "signal": None,
        "error_message": "",
        "metrics": {"test_accuracy": 0.1 + 0.7, "test_loss": 1 / 3},
        "primary_metric": "test_accuracy",
        "primary_metric_value": 0.1 + 0.7,
        "gpu_energy_j": 1000 / 3,
        "gpu_power_mean_w": 200 / 3,
        "energy_sources": {"gpu_energy_j": "nvml counter"},
        "null_reasons": {"cpu_package_energy_j": "no_energy_source"},
        "verdict": "valid",
        "valid": True,
        "safe": True,
        "reasons": [],
        "evidence": {},
    }
    return row | changes


def failed(reason: str = "exit") -> dict[str, Any]:
    return {
        "verdict": "failed",
        "valid": False,
        "safe": False,
        "reasons": [reason],
        "evidence": {reason: "exit code 1"},
        "error_message": f"{reason}: exit code 1",
        "exit_code": 1,
    }


def sample(t_mono_ns: int, tick: int = 0, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "t_mono_ns": t_mono_ns,
        "t_utc_ns": 1_772_000_000_000_000_000 + t_mono_ns,
        "boot_id": BOOT,
        "tick": tick,
        "lateness_ns": 50_000,
        "missed": False,
        "source": "nvml",
        "device": "GPU-1",
        "scope": "gpu",
        "energy_j": None,
        "counter_units": None,
        "power_w": 72.125,
        "power_kind": "instant",
        "temp_c": 31.0,
        "util_percent": 0.0,
        "memory_mib": 512.0,
        "throttle_reasons": 1,
        "null_reason": None,
    }
    return row | changes


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the kernel then refuses to write on (EFBIG), as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
