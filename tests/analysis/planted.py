"""Makes rows of runs whose effects are known, because they were planted. It analyses nothing.

The model `planted` has hyperparameters epochs (uniform), learning_rate (log-uniform), dropout (uniform, never any
effect). Energy scatters in proportion to its size, as long trainings do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from profiler.models import MetricSpec, ModelSpec
from profiler.workloads import Catalog, HyperparameterSpec, RepoSpec

REPO, MODEL, METRIC = "repo", "planted", "accuracy"

MODEL_SPEC = ModelSpec(
    repo=REPO,
    name=MODEL,
    hyperparameters={
        "epochs": HyperparameterSpec(name="epochs", type="int", default=10, range=(5, 20)),
        "learning_rate": HyperparameterSpec(
            name="learning_rate", type="float", default=0.01, range=(0.001, 0.1), distribution="log_uniform"
        ),
        "dropout": HyperparameterSpec(name="dropout", type="float", default=0.25, range=(0.0, 0.5)),
    },
    metrics={METRIC: MetricSpec(name=METRIC, unit="ratio", direction="maximize")},
    primary_metric=METRIC,
    folder=Path("/nowhere"),
)
CATALOG = Catalog({REPO: RepoSpec(REPO, Path("/nowhere"), {MODEL: MODEL_SPEC})})


@dataclass(frozen=True)
class Truth:
    """What is planted: slopes per epoch and per doubling of the learning rate, and what parallel adds to them.

    Of the energy per epoch, `watts * seconds_per_epoch` goes through the duration."""

    energy_j: float = 8000.0
    energy_per_epoch_j: float = 300.0
    parallel_per_epoch_j: float = 120.0
    parallel_j: float = 2500.0
    seconds_per_epoch: float = 6.0
    watts: float = 20.0
    accuracy_per_doubling: float = 0.015
    accuracy_per_epoch: float = 0.004
    noise: float = 0.04
    """Standard deviation of the energy, as a share of it."""
    duration_noise_s: float = 8.0

    @property
    def through_duration_j(self) -> float:
        """The part of the energy per epoch that goes through the duration."""
        return self.watts * self.seconds_per_epoch


TRUTH = Truth()
MEAN_EPOCHS = 12.5


def values(rng: np.random.Generator) -> dict[str, Any]:
    """One complete set of hyperparameters, as mutation draws them."""
    return {
        "epochs": int(rng.integers(5, 21)),
        "learning_rate": float(np.exp(rng.uniform(np.log(0.001), np.log(0.1)))),
        "dropout": float(rng.uniform(0.0, 0.5)),
    }


def planted_rows(
    rng: np.random.Generator, solo: int, parallel: int = 0, truth: Truth = TRUTH, **columns: Any
) -> list[dict[str, Any]]:
    """`solo` runs alone and `parallel` runs beside a background, every one with values of its own."""
    modes = ["mutation"] * solo + ["parallel"] * parallel
    return [run_row(n, mode, values(rng), rng, truth, **columns) for n, mode in enumerate(modes, start=1)]


def run_row(
    index: int,
    mode: str,
    hyperparameters: Mapping[str, Any],
    rng: np.random.Generator,
    truth: Truth = TRUTH,
    **columns: Any,
) -> dict[str, Any]:
    """One valid, safe row of `runs` with these values. `columns` overrides any of it."""
    beside = mode == "parallel"
    more = hyperparameters["epochs"] - MEAN_EPOCHS
    slope = truth.energy_per_epoch_j + beside * truth.parallel_per_epoch_j
    late_s = truth.duration_noise_s * rng.standard_normal()
    expected = truth.energy_j + beside * truth.parallel_j + slope * more + truth.watts * late_s
    doublings = float(np.log2(hyperparameters["learning_rate"] / 0.01))
    accuracy = 0.8 + truth.accuracy_per_doubling * doublings + truth.accuracy_per_epoch * more
    return {
        "run_id": f"run_20260101_000000-{index:03d}",
        "experiment_id": f"{REPO}_{MODEL}_{index:03d}",
        "repo": REPO,
        "model": MODEL,
        "mode": mode,
        "is_final": True,
        "verdict": "valid",
        "valid": True,
        "safe": True,
        "hyperparameters": dict(hyperparameters),
        "gpu_energy_j": float(expected * (1 + truth.noise * rng.standard_normal())),
        "duration_s": float(truth.seconds_per_epoch * hyperparameters["epochs"] + late_s),
        "primary_metric": METRIC,
        "primary_metric_value": float(accuracy + 0.01 * rng.standard_normal()),
        "gpu_name": "GPU X",
        "node_id": "node-1",
        "background_repo": REPO if beside else None,
        "background_model": "load" if beside else None,
        "null_reasons": dict.fromkeys(("cpu_package_energy_j", "dram_energy_j", "cpu_energy_total_j"), "no_rapl_zones"),
        **columns,
    }
