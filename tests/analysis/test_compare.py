"""Two sets of runs: which test is made, on what, and what is said where none can be."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from profiler.analysis.compare import compare_commands, compare_rows
from profiler.analysis.comparison import Comparison, OutcomeComparison
from tests.analysis.planted import CATALOG, run_row, values

Rows = list[dict[str, Any]]


def campaign(seed: int, drawn: list[dict[str, Any]], **columns: Any) -> Rows:
    rng = np.random.default_rng(seed)
    return [run_row(n, "mutation", own, rng, **columns) for n, own in enumerate(drawn, start=1)]


def drawn(count: int, seed: int = 5) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [values(rng) for _ in range(count)]


def energy(found: Comparison) -> OutcomeComparison:
    return next(outcome for outcome in found.groups[0].outcomes if outcome.outcome == "gpu_energy_j")


def figures(rows: Rows) -> list[float]:
    return [row["gpu_energy_j"] for row in rows]


def test_equal_values_are_paired_whatever_their_order() -> None:
    a, b = campaign(1, drawn(8)), campaign(2, drawn(8))
    found = energy(compare_rows(a, list(reversed(b)), CATALOG))
    expected = stats.ttest_rel(figures(b), figures(a))
    assert (found.method, found.pairs, found.a_runs) == ("paired t", 8, 8)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.difference == pytest.approx(np.mean(figures(b)) - np.mean(figures(a)))


def test_a_set_with_several_runs_counts_once() -> None:
    a, b = campaign(1, drawn(4)), campaign(2, drawn(4) * 3)
    found = energy(compare_rows(a, b, CATALOG))
    means = [np.mean(figures(b)[n::4]) for n in range(4)]
    assert (found.pairs, found.a_runs, found.b_runs) == (4, 4, 12)
    assert found.p == pytest.approx(stats.ttest_rel(means, figures(a)).pvalue)


def test_repetitions_of_one_training_are_compared_by_welch() -> None:
    other = drawn(3, seed=99)
    a, b = campaign(1, drawn(1) * 6 + other[:1]), campaign(2, drawn(1) * 5 + other[1:])
    found = energy(compare_rows(a, b, CATALOG))
    expected = stats.ttest_ind(figures(b[:5]), figures(a[:6]), equal_var=False)
    assert (found.method, found.a_runs, found.b_runs) == ("Welch t", 6, 5)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.note is None


def test_other_values_are_compared_as_they_are_and_it_is_said() -> None:
    found = energy(compare_rows(campaign(1, drawn(8)), campaign(2, drawn(8, seed=6)), CATALOG))
    assert (found.method, found.pairs, found.a_runs) == ("Welch t", None, 8)
    assert found.note == "the runs have different hyperparameter values, which are part of the difference"


def test_p_are_corrected_over_everything() -> None:
    more = [{**row, "gpu_energy_j": 1.1 * row["gpu_energy_j"]} for row in campaign(2, drawn(8))]
    found = compare_rows(campaign(1, drawn(8)), more, CATALOG)
    tested = [outcome for outcome in found.groups[0].outcomes if outcome.p is not None]
    assert found.tests == len(tested) == 3
    smallest = min(tested, key=lambda outcome: outcome.p or 0)
    assert smallest.p_adjusted == pytest.approx(min(1.0, 3 * (smallest.p or 0)))


def test_too_few_runs_are_not_judged() -> None:
    found = compare_rows(campaign(1, drawn(2)), campaign(2, drawn(2)), CATALOG)
    assert energy(found).different is None
    assert energy(found).low is None
    assert energy(found).difference is not None
    assert energy(found).reason == "too little data: 2 and 2 runs, 3 of each are needed"
    assert found.reason == "too little data: nothing could be judged"
    assert compare_rows([], campaign(1, drawn(3)), CATALOG).reason == "A: there are no runs"


def test_another_gpu_is_named_never_mixed_in() -> None:
    a, b = campaign(1, drawn(6)), campaign(2, drawn(6), gpu_name="GPU Y")
    (group,) = compare_rows(a, b, CATALOG).groups
    assert (group.a_gpu, group.b_gpu) == ("GPU X", "GPU Y")
    assert group.notes == ("different devices: A on GPU X, B on GPU Y; the difference is one of devices, too",)
    (group,) = compare_rows(a, b + campaign(3, drawn(5)), CATALOG).groups
    assert (group.a_gpu, group.b_gpu, group.b_runs) == ("GPU X", "GPU X", 5)
    assert group.notes == ("6 runs on other GPU models are left out",)
    (group,) = compare_rows(a, b[:3] + campaign(3, drawn(3), gpu_name="GPU Z"), CATALOG).groups
    assert group.reason == "no GPU model in common: A on GPU X; B on GPU Y, GPU Z"


def test_another_board_of_the_same_model_is_named() -> None:
    a, b = campaign(1, drawn(6), gpu_uuids=["GPU-1"]), campaign(2, drawn(6), gpu_uuids=["GPU-2"])
    assert compare_rows(a, b, CATALOG).groups[0].notes == ("different GPUs: A GPU-1; B GPU-2",)
    assert compare_rows(a, a, CATALOG).groups[0].notes == ()
    assert compare_rows(a, campaign(3, drawn(6)), CATALOG).groups[0].notes == ("different GPUs: A GPU-1; B none known",)


def test_another_machine_is_named() -> None:
    found = compare_rows(campaign(1, drawn(3), host="one"), campaign(2, drawn(3), host="two"), CATALOG)
    assert found.notes == ("different machines: A on one; B on two",)


def test_missing_figures_have_their_reasons() -> None:
    a, b = campaign(1, drawn(6)), campaign(2, drawn(6))
    b[0].update(gpu_energy_j=None, null_reasons={"gpu_energy_j": "counter_reset"})
    found = compare_rows(a, b, CATALOG)
    assert (energy(found).pairs, energy(found).b_nulls) == (5, {"counter_reset": 1})
    dram = found.groups[0].outcomes[1]
    assert (dram.outcome, dram.a_mean, dram.difference) == ("dram_energy_j", None, None)
    assert dram.reason == "A: no_rapl_zones in every run; B: no_rapl_zones in 5 of 6 runs; not recorded in 1 of 6 runs"


def test_figures_without_spread_are_equal_or_cannot_be_tested() -> None:
    a, b = (campaign(seed, drawn(4), primary_metric_value=0.9) for seed in (1, 2))
    metric = compare_rows(a, b, CATALOG).groups[0].outcomes[-1]
    assert (metric.outcome, metric.difference, metric.different, metric.p) == ("accuracy", 0.0, False, None)
    for row in b:
        row["primary_metric_value"] = 0.8
    metric = compare_rows(a, b, CATALOG).groups[0].outcomes[-1]
    assert metric.difference == pytest.approx(-0.1)
    assert (metric.different, metric.reason) == (None, "no spread between the runs, so that no test is possible")


def test_a_model_that_one_side_lacks_says_so() -> None:
    found = compare_rows(campaign(1, drawn(3)), campaign(2, drawn(3), model="other"), CATALOG)
    assert [group.reason for group in found.groups] == ["no usable run in A", "no usable run in B"]


def test_contaminated_runs_only_on_demand_and_failed_ones_never() -> None:
    a = campaign(1, drawn(6))
    a[0].update(safe=False)
    a[1].update(safe=False, valid=False, verdict="failed")
    strict = compare_rows(a, a, CATALOG)
    assert (strict.a.used, strict.a.excluded) == (4, {"not safe": 1, "failed": 1})
    assert compare_rows(a, a, CATALOG, safe_only=False).a.used == 5


def measured(seconds: list[float], **columns: Any) -> Rows:
    nulls = dict.fromkeys(("cpu_package_energy_j", "gpu_energy_j", "cpu_energy_total_j"), "permission_denied")
    return [
        {"argv": ["train"], "exit_code": 0, "duration_s": s, "cpu_s": s / 2, "null_reasons": nulls, **columns}
        for s in seconds
    ]


def test_measured_commands() -> None:
    found = compare_commands(measured([1.0, 1.1, 1.2]), [*measured([2.0, 2.1, 2.3]), *measured([9.0], exit_code=1)])
    (group,) = found.groups
    duration = next(outcome for outcome in group.outcomes if outcome.outcome == "duration_s")
    assert duration.p == pytest.approx(stats.ttest_ind([2.0, 2.1, 2.3], [1.0, 1.1, 1.2], equal_var=False).pvalue)
    assert duration.different
    assert found.b.excluded == {"failed": 1}
    assert group.outcomes[0].reason == "A and B: permission_denied in every run"
    json.dumps(found.to_json(), allow_nan=False)


def test_measured_on_different_gpus() -> None:
    found = compare_commands(measured([1.0], gpu_uuids=["GPU-1"]), measured([1.0], gpu_uuids=["GPU-2"]))
    assert found.groups[0].notes == ("different GPUs: A GPU-1; B GPU-2",)
