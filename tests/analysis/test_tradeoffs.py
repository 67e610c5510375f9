"""The Pareto front against its definition, and what keeps a model from having one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from profiler.analysis.tradeoffs import Front, pareto_front
from profiler.workloads import Catalog, RepoSpec
from tests.analysis.planted import CATALOG, MODEL, MODEL_SPEC, REPO, planted_rows


def front_of(rows: list[dict[str, object]], catalog: Catalog | None = CATALOG, mode: str = "solo") -> Front:
    fronts = pareto_front(rows, catalog, energy="gpu_energy_j")
    return next(front for front in fronts if front.mode == mode)


def minimizing() -> Catalog:
    metric = MODEL_SPEC.metrics["accuracy"].model_copy(update={"direction": "minimize"})
    model = MODEL_SPEC.model_copy(update={"metrics": {"accuracy": metric}})
    return Catalog({REPO: RepoSpec(REPO, Path("/nowhere"), {MODEL: model})})


@pytest.mark.parametrize(("catalog", "sign"), [(CATALOG, 1), (minimizing(), -1)])
@pytest.mark.parametrize("seed", range(5))
def test_on_the_front_is_what_nothing_dominates(catalog: Catalog, sign: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = planted_rows(rng, 25)
    for row in rows:  # coarse figures, so that some are equal
        row["gpu_energy_j"], row["primary_metric_value"] = float(rng.integers(1, 8)), float(rng.integers(1, 8))
    front = front_of(rows, catalog)
    assert len(front.points) == 25
    for point in front.points:
        beaten = any(
            other.energy_j <= point.energy_j
            and sign * other.metric >= sign * point.metric
            and (other.energy_j, other.metric) != (point.energy_j, point.metric)
            for other in front.points
        )
        assert point.on_front is not beaten, point


def test_each_mode_has_a_front_of_its_own_and_unsafe_runs_are_on_none() -> None:
    rows = planted_rows(np.random.default_rng(1), 4, 3)
    rows[0]["safe"] = False
    assert [(front.mode, len(front.points)) for front in pareto_front(rows, CATALOG, energy="gpu_energy_j")] == [
        ("solo", 3),
        ("parallel", 3),
    ]


def test_runs_without_a_figure_are_left_out_and_named() -> None:
    rows = planted_rows(np.random.default_rng(1), 4)
    rows[1].update(gpu_energy_j=None, null_reasons={"gpu_energy_j": "counter_reset"})
    front = front_of(rows)
    assert len(front.points) == 3
    assert front.left_out == "counter_reset in 1 of 4 runs"


def test_why_there_is_no_front() -> None:
    rows = planted_rows(np.random.default_rng(1), 4)
    assert front_of(rows, None).reason == "nothing says whether a high or a low metric is the better one"
    (total,) = pareto_front(rows, CATALOG)
    assert total.energy_column == "total_energy_j"
    assert total.reason == "cpu_energy_total_j: no_rapl_zones in every run"
    assert pareto_front([], CATALOG) == ()
