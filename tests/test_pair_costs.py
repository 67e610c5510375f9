"""What a pair saves: rows with known truth."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from profiler import config
from profiler.analysis.pairs import pair_costs
from profiler.planned import Background, PlannedRun
from profiler.planner import make_plan
from profiler.solo import SoloRuns
from profiler.workloads import load_catalog
from tests import campaigns
from tests.campaigns import REPOS

START_S, END_S, SETUP_J = 1.5, 0.5, 300.0


def solo(model: str, seconds: float, joules: float, epochs: int = 10) -> dict[str, Any]:
    return {
        "repo": "r", "model": model, "requested_hyperparameters": {"epochs": epochs}, "background_repo": None,
        "safe": True, "duration_s": seconds, "training_s": seconds - START_S - END_S, "epochs_done": epochs,
        "gpu_energy_j": joules, "gpu_energy_training_j": joules - SETUP_J, "sharing": None, "background_mode": None,
    }  # fmt: skip


def back(seconds: float, joules: float) -> dict[str, Any]:
    """The background alone; `joules` are those of its training, without its start and end."""
    return solo("b", seconds, joules + SETUP_J)


def pair(seconds: float, joules: float, epochs: int) -> dict[str, Any]:
    partner = {"background_repo": "r", "background_model": "b", "background_hyperparameters": {"epochs": 10}}
    how = {"sharing": "time_slice", "background_mode": "reuse"}
    return {**solo("f", seconds, joules), **partner, **how, "background_epochs_worked": epochs}


def test_a_pair_that_saves() -> None:
    """Alone 60 s and 12 kJ; the background's epoch 5 s and 1 kJ. Together 90 s for 15 kJ and 9 epochs: 21 kJ alone."""
    (cost,) = pair_costs([solo("f", 60, 12_000), back(52, 10_000), pair(90, 15_000, 9)])
    assert cost.runs == (1, 1, 1)
    assert cost.slowdown_foreground.value == pytest.approx(1.5)
    assert cost.slowdown_background.value == pytest.approx(90 / 45)
    assert cost.energy_saved_j.value == pytest.approx(6_000)
    assert cost.energy_saved_share.value == pytest.approx(6 / 21)
    assert cost.time_saved_s.value == pytest.approx(15)
    assert cost.energy_saved_j.low is None


@pytest.mark.slow
def test_most_intervals_hold_the_truth() -> None:
    draw = random.Random(3)
    held = []
    for _ in range(6):
        rows = [solo("f", 60 * draw.gauss(1, 0.02), 12_000 * draw.gauss(1, 0.02)) for _ in range(8)]
        rows += [back(52 * draw.gauss(1, 0.02), 10_000 * draw.gauss(1, 0.02)) for _ in range(8)]
        rows += [pair(90 * draw.gauss(1, 0.02), 15_000 * draw.gauss(1, 0.02), 9) for _ in range(8)]
        (cost,) = pair_costs(rows)
        for estimate, truth in ((cost.slowdown_foreground, 1.5), (cost.energy_saved_j, 6_000)):
            assert estimate.low is not None and estimate.high is not None
            held.append(estimate.low < truth < estimate.high)
    assert sum(held) >= 0.75 * len(held)


def test_a_figure_has_its_interval_whatever_the_runs_that_it_is_not_made_of() -> None:
    fronts, pairs = [solo("f", 60 + n, 12_000) for n in range(3)], [pair(90 + n, 15_000, 9) for n in range(3)]
    (cost,) = pair_costs([*fronts, back(52, 10_000), *pairs])
    assert cost.slowdown_foreground.low is not None and cost.slowdown_foreground.high is not None
    assert cost.slowdown_background.low is None and cost.energy_saved_j.low is None
    backs = [back(52 + n, 10_000) for n in range(3)]
    (cost,) = pair_costs([fronts[0], *backs, *pairs])
    assert cost.slowdown_foreground.low is None and cost.slowdown_background.low is not None


def test_what_is_missing_is_named() -> None:
    (cost,) = pair_costs([solo("f", 60, 12_000), pair(90, 15_000, 9)])
    assert cost.slowdown_foreground.value == pytest.approx(1.5)
    assert cost.energy_saved_j.null_reason == "no_solo_background_run"
    (cost,) = pair_costs([pair(90, 15_000, 9)])
    assert cost.slowdown_foreground.null_reason == "no_solo_foreground_run"


def test_pairs_with_other_limits_of_sms_are_apart() -> None:
    limits = ((100.0, 100.0), (70.0, 30.0))
    names = "mps_active_thread_percent", "background_mps_active_thread_percent"
    both = [{**pair(60, 9_000, 9), "sharing": "mps", **dict(zip(names, limit, strict=True))} for limit in limits]
    assert [cost.sm_percents for cost in pair_costs([solo("f", 60, 12_000), *both])] == list(limits)


@pytest.mark.parametrize("change", [{"sharing": "mps"}, {"background_mode": "loop"}])
def test_pairs_that_share_the_gpu_in_another_way_are_apart(change: dict[str, str]) -> None:
    rows = [solo("f", 60, 12_000), back(52, 10_000), pair(120, 20_000, 9), {**pair(60, 9_000, 9), **change}]
    costs = pair_costs(rows)
    assert [cost.slowdown_foreground.value for cost in costs] == pytest.approx([2.0, 1.0])
    assert [(cost.sharing, cost.background_mode) for cost in costs] == [
        ("time_slice", "reuse"), (change.get("sharing", "time_slice"), change.get("background_mode", "reuse"))
    ]  # fmt: skip


def test_unsafe_runs_do_not_count() -> None:
    rows = [
        solo("f", 60, 12_000),
        {**solo("f", 600, 1.0), "safe": False},
        back(52, 10_000),
        pair(90, 15_000, 9),
    ]
    assert pair_costs(rows)[0].runs == (1, 1, 1)


def test_runs_on_several_gpus_are_no_yardstick() -> None:
    wide = {**solo("f", 30, 40_000), "gpu_uuids": ["GPU-0", "GPU-1"]}
    rows = [solo("f", 60, 12_000), wide, back(52, 10_000), pair(90, 15_000, 9)]
    assert pair_costs(rows)[0].runs == (1, 1, 1)


def test_without_a_counter_there_is_no_saving() -> None:
    rows = [{**solo("f", 60, 1), "gpu_energy_j": None}, back(52, 10_000), pair(90, 15_000, 9)]
    (cost,) = pair_costs(rows)
    assert cost.energy_saved_j.null_reason == "gpu_energy_j_unknown"
    older = {**back(52, 10_000), "gpu_energy_training_j": None}
    (cost,) = pair_costs([solo("f", 60, 12_000), older, pair(90, 15_000, 9)])
    assert cost.energy_saved_j.null_reason == "gpu_energy_training_j_unknown"
    assert cost.time_saved_s.value == pytest.approx(15)


def test_a_clone_of_the_original_alone_is_no_yardstick_for_the_trainer_here() -> None:
    """And the other way round: they are different programs."""
    clone = {"checkout": "/clone"}
    alone = [solo("f", 60, 12_000), {**solo("f", 30, 1), **clone}, back(52, 10_000), {**back(5, 1), **clone}]
    both = [pair(90, 15_000, 9), {**pair(90, 15_000, 9), "background_checkout": "/clone"}]
    own, beside_clone = pair_costs([*alone, *both])
    assert (own.runs, own.checkouts) == ((1, 1, 1), (None, None))
    assert own.energy_saved_j.value == pytest.approx(6_000)
    assert (beside_clone.runs, beside_clone.checkouts) == ((1, 1, 1), (None, "/clone"))
    assert beside_clone.slowdown_background.value == pytest.approx(90 / (9 * 0.3))


def test_nor_does_it_tell_what_the_trainer_here_takes() -> None:
    catalog = load_catalog([REPOS])
    campaign = config.load(
        {"name": "t", "seed": 1, "experiments": [campaigns.pair({}, {"epoch_seconds": 9.0})]}, catalog=catalog
    )
    (run,) = make_plan(campaign, catalog)
    assert run.background is not None
    theirs = replace(run, background=replace(run.background, checkout="/clone"))
    solos = SoloRuns([run, theirs])

    def take(training: PlannedRun | Background, watts: float, checkout: str | None) -> None:
        which = {"repo": training.repo, "model": training.model, "checkout": checkout}
        power = {"gpu_power_mean_w": watts, "gpu_idle_power_w": 70.0, "gpu_name": "H100", "safe": True}
        solos.take({**which, **power, "requested_hyperparameters": dict(training.hyperparameters)})

    take(run, 170.0, None)
    take(run.background, 270.0, "/clone")
    assert solos.of(run, "H100") == {}
    assert solos.of(theirs, "H100")["background"].above_idle_w == 200.0
    take(run.background, 370.0, None)
    assert solos.of(run, "H100")["background"].above_idle_w == 300.0
