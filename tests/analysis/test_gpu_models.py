"""Runs on different models of GPU are never mixed silently: groups, fronts, pairs and yardsticks are apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from profiler.analysis.effects import effects
from profiler.analysis.pairs import pair_costs
from profiler.analysis.tradeoffs import pareto_front
from profiler.report.groups import groups_of
from profiler.report.tradeoff import tradeoffs
from profiler.solo import SoloRuns
from tests.analysis.planted import CATALOG, planted_rows
from tests.test_pair_costs import back, pair, solo

H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"


def on_two(count: int = 60) -> list[dict[str, Any]]:
    """The same trainings on both; the A100 takes twice the energy."""
    rows = []
    for gpu, factor in ((H100, 1.0), (A100, 2.0)):
        for row in planted_rows(np.random.default_rng(3), count):
            row.update(gpu_name=gpu, run_id=f"{gpu}-{row['run_id']}", gpu_energy_j=factor * row["gpu_energy_j"])
            rows.append(row)
    return rows


def test_each_kind_of_gpu_has_a_front_of_its_own() -> None:
    rows = on_two(8)
    fronts = pareto_front(rows, CATALOG, energy="gpu_energy_j")
    assert [(front.gpu, len(front.points)) for front in fronts] == [(A100, 8), (H100, 8)]
    assert [any(point.on_front for point in front.points) for front in fronts] == [True, True]
    (alone,) = pareto_front([row for row in rows if row["gpu_name"] == H100], CATALOG, energy="gpu_energy_j")
    assert alone.gpu == ""
    names = [one.name for one in tradeoffs(rows, CATALOG)[0]]
    assert [name.rpartition(", ")[2] for name in names] == [f"on {A100}", f"on {H100}"]


@pytest.mark.slow
def test_an_effect_is_not_the_difference_of_two_gpus_and_says_what_it_holds_fixed() -> None:
    mixed = effects(on_two(), CATALOG)
    (group,) = [group for group in mixed.groups if group.mode == "solo"]
    assert "gpu_name" in group.adjusted_for


def test_pairs_are_weighed_against_solo_runs_on_the_same_kind_of_gpu() -> None:
    rows = [
        {**row, "gpu_name": gpu, **{name: factor * row[name] for name in ("gpu_energy_j", "gpu_energy_training_j")}}
        for gpu, factor in ((H100, 1.0), (A100, 2.0))
        for row in (solo("f", 60, 12_000), back(52, 10_000), pair(90, 15_000, 9))
    ]
    costs = pair_costs(rows)
    assert [cost.gpu for cost in costs] == [A100, H100]
    assert [cost.energy_saved_j.value for cost in costs] == pytest.approx([12_000, 6_000])


def test_the_report_groups_them_apart() -> None:
    def row(gpu: str | None, run: int, **changes: Any) -> dict[str, Any]:
        known = {"repo": "r", "model": "m", "mode": "default", "gpu_name": gpu, "null_reasons": {}, "is_final": True}
        figures = {"gpu_energy_j": 10.0, "cpu_package_energy_j": None, "dram_energy_j": None}
        rest = {"gpu_power_mean_w": 1.0, "duration_s": 1.0, "primary_metric": None, "primary_metric_value": None}
        return {**known, **figures, **rest, "verdict": "valid", "valid": True, "safe": True, "index": run, **changes}

    waiting = row(None, 4, verdict=None, valid=None, safe=None, is_final=False)
    one = groups_of([row(H100, 1), row(H100, 2), waiting])
    assert [(group.name, group.planned) for group in one] == [("r / m", 3)]
    several = groups_of([row(H100, 1), row(A100, 2), row(A100, 3), waiting])
    assert [(group.name, group.planned) for group in several] == [
        (f"r / m on {A100}", 2),
        (f"r / m on {H100}", 1),
        ("r / m on no GPU yet", 1),
    ]


def test_the_yardstick_for_a_pair_is_of_its_own_kind_of_gpu() -> None:
    from profiler import config
    from profiler.planner import make_plan
    from profiler.workloads import load_catalog
    from tests.campaigns import REPOS
    from tests.campaigns import pair as paired

    catalog = load_catalog([REPOS])
    raw = {"name": "t", "seed": 1, "mode": "parallel", "experiments": [paired({"epochs": 2}, {"epochs": 3})]}
    (run,) = make_plan(config.load(raw, catalog=catalog), catalog)
    assert run.background is not None
    known = SoloRuns([run])
    for gpu, power_w in ((H100, 300.0), (A100, 200.0)):
        for values in (run.hyperparameters, run.background.hyperparameters):
            known.take(
                {
                    "safe": True, "repo": "quick", "model": "quick", "requested_hyperparameters": values,
                    "gpu_power_mean_w": power_w, "gpu_idle_power_w": 50.0, "gpu_name": gpu,
                    **({"gpu_energy_training_j": 2640.0, "training_s": 6.0} if gpu == H100 else {}),
                }
            )  # fmt: skip
    assert known.of(run, H100)["foreground"].above_idle_w == 250.0
    assert known.of(run, H100)["background"].training_w == 2640.0 / 6 - 50
    assert known.of(run, A100)["background"].training_w is None
    assert known.of(run, A100)["background"].above_idle_w == 150.0
    assert known.of(run, None) == {}
