"""Effects from planted data: what is told, what is not told and why."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from profiler.analysis.effects import effects
from profiler.analysis.libraries import library
from profiler.analysis.results import Effect, Effects, GroupEffects, OutcomeEffects
from profiler.errors import CannotRunError
from tests.analysis.planted import CATALOG, TRUTH, Truth, planted_rows

QUIET = Truth(noise=1e-4, duration_noise_s=0.5)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def group(found: Effects, mode: str = "solo") -> GroupEffects:
    return next(group for group in found.groups if group.mode == mode)


def outcome(found: Effects, name: str = "gpu_energy_j", mode: str = "solo") -> OutcomeEffects:
    return next(outcome for outcome in group(found, mode).outcomes if outcome.outcome == name)


def effect(found: Effects, term: str, name: str = "gpu_energy_j", mode: str = "solo") -> Effect:
    return next(effect for effect in outcome(found, name, mode).effects if effect.term == term)


def reason_of(found: Effects, name: str) -> str | None:
    return next(info.reason for info in group(found).hyperparameters if info.name == name)


def changed(rows: list[dict[str, Any]], **values: Any) -> list[dict[str, Any]]:
    """The rows with further hyperparameters; a function of the row's own ones, or a value."""
    for row in rows:
        own = row["hyperparameters"]
        own.update({name: value(own) if callable(value) else value for name, value in values.items()})
    return rows


def test_slopes_are_those_that_were_planted() -> None:
    found = effects(planted_rows(rng(), 40, 40, QUIET), CATALOG)
    assert found.reason is None
    assert [(group.mode, group.runs) for group in found.groups] == [("solo", 40), ("parallel", 40), ("both", 80)]
    assert effect(found, "epochs").slope.value == pytest.approx(TRUTH.energy_per_epoch_j, rel=0.03)
    assert effect(found, "epochs x parallel", mode="both").slope.value == pytest.approx(120, rel=0.1)
    assert effect(found, "parallel", mode="both").slope.value == pytest.approx(TRUTH.parallel_j, rel=0.1)
    assert effect(found, "learning_rate", "accuracy").slope.value == pytest.approx(0.015, abs=0.003)
    assert effect(found, "learning_rate", "accuracy").per == "doubling"
    assert outcome(found, "accuracy").unit == "ratio"


def test_standardised_and_percent_follow_from_the_slope() -> None:
    rows = planted_rows(rng(), 40)
    found = effects(rows, CATALOG)
    epochs = [row["hyperparameters"]["epochs"] for row in rows]
    energy = [row["gpu_energy_j"] for row in rows]
    one = effect(found, "epochs")
    assert one.standardised.value == pytest.approx(one.slope.value * np.std(epochs, ddof=1) / np.std(energy, ddof=1))
    assert one.percent is not None
    assert one.percent.value == pytest.approx(100 * one.slope.value * np.std(epochs, ddof=1) / np.mean(energy))
    assert one.slope.low < one.slope.value < one.slope.high
    assert one.significant
    assert one.rank == 1
    assert one.rank_correlation is not None and one.rank_correlation > 0.8


def test_what_was_not_planted_is_not_significant_and_p_are_corrected() -> None:
    found = effects(planted_rows(rng(), 40), CATALOG)
    assert not effect(found, "dropout").significant
    every = [effect for outcome in group(found).outcomes for effect in outcome.effects]
    assert len(every) == 9
    assert all(effect.p_adjusted >= effect.p for effect in every)
    assert any(effect.p_adjusted > effect.p for effect in every)


def test_the_part_that_goes_through_the_duration() -> None:
    found = effects(planted_rows(rng(), 60, truth=Truth(noise=0.005)), CATALOG)
    way = next(w for w in outcome(found).mediations if (w.term, w.mediator) == ("epochs", "duration_s"))
    assert way.indirect.low <= TRUTH.through_duration_j <= way.indirect.high
    assert way.significant
    assert way.indirect.value + way.direct == pytest.approx(way.total)
    assert way.share == pytest.approx(way.indirect.value / way.total)
    assert any("gpu_temp_mean_c: not recorded in every run" in note for note in outcome(found).notes)


def test_too_little_data_gives_a_reason_and_no_figures() -> None:
    found = effects(planted_rows(rng(), 12), CATALOG)
    assert found.reason == "too little data in every group"
    assert group(found).reason == "too little data: 12 runs, 14 are needed for what varies"
    assert all(outcome.effects == () and outcome.reason for outcome in group(found).outcomes)
    assert effects([], CATALOG).reason == "there are no runs"


def test_only_safe_final_runs_with_known_values_enter() -> None:
    rows = planted_rows(rng(), 34)
    rows[0].update(safe=False)
    rows[1].update(valid=False, safe=False, verdict="failed")
    rows[2].update(verdict=None)
    rows[3].update(hyperparameters=None)
    found = effects(rows, CATALOG)
    assert (found.runs, found.used) == (34, 30)
    assert found.excluded == {
        "not safe": 1,
        "failed": 1,
        "not run": 1,
        "without known hyperparameter values": 1,
    }
    assert effects(rows, CATALOG, safe_only=False).used == 31
    nothing = effects(rows[:1], CATALOG)
    assert nothing.reason == "none of 1 runs can be used: 1 not safe"


def test_what_never_changes_and_seeds_have_no_effect() -> None:
    rows = changed(planted_rows(rng(), 30), momentum=0.9, seed=lambda own: int(own["dropout"] * 1e6))
    found = effects(rows, CATALOG)
    assert reason_of(found, "momentum") == "the same in every run: 0.9"
    assert "a seed is a name" in (reason_of(found, "seed") or "")
    assert {effect.hyperparameter for effect in outcome(found).effects} == {"epochs", "learning_rate", "dropout"}


def test_what_always_changes_together_is_not_told_apart() -> None:
    found = effects(changed(planted_rows(rng(), 30), warmup=lambda own: 2 * own["epochs"]), CATALOG)
    assert reason_of(found, "epochs") == "cannot be told apart from warmup in these runs"
    assert reason_of(found, "warmup") == "cannot be told apart from epochs in these runs"
    assert {effect.term for effect in outcome(found).effects} == {"learning_rate", "dropout"}
    plain = effects(planted_rows(rng(), 30), CATALOG)
    assert effect(found, "dropout").slope.value == pytest.approx(effect(plain, "dropout").slope.value)


def test_a_sum_of_two_others_is_not_told_apart() -> None:
    rows = changed(planted_rows(rng(), 30), both=lambda own: own["epochs"] + 20 * own["dropout"])
    found = effects(rows, CATALOG)
    assert {effect.term for effect in outcome(found).effects} == {"learning_rate"}
    assert all(reason_of(found, name) for name in ("epochs", "dropout", "both"))


def test_values_that_only_one_or_two_runs_have_are_left_out() -> None:
    rows = changed(planted_rows(rng(), 32), batch_size=32)
    for row in rows[:2]:
        row["hyperparameters"]["batch_size"] = 512
    found = effects(rows, CATALOG)
    assert group(found).notes == ("2 of 32 runs left out: batch_size: fewer than 3 runs differ from the others",)
    assert outcome(found).effects
    assert outcome(found).runs == 30


def test_exact_zeros_of_a_logarithmic_value_are_a_switch() -> None:
    rows = planted_rows(rng(), 60, truth=QUIET)
    for n, row in enumerate(rows):
        if n % 6 == 0:
            row["hyperparameters"]["learning_rate"] = 0.0
            row["primary_metric_value"] = 0.5
    found = effects(rows, CATALOG)
    assert effect(found, "learning_rate", "accuracy").slope.value == pytest.approx(0.015, abs=0.003)
    switch = effect(found, "learning_rate=0", "accuracy")
    assert switch.per == "above 0 -> 0"
    assert switch.slope.value == pytest.approx(-0.3, abs=0.05)


def test_categories_and_truth_values_are_switches() -> None:
    rows = planted_rows(rng(), 45, truth=QUIET)
    for n, row in enumerate(rows):
        row["hyperparameters"].update(optimiser=("adam", "sgd", "lamb")[n % 3], nesterov=n % 5 == 0)
        row["gpu_energy_j"] += 1000 * (n % 3 == 1) + 700 * (n % 5 == 0)
    found = effects(rows, CATALOG)
    assert effect(found, "optimiser=sgd").per == "adam -> sgd"
    assert effect(found, "optimiser=sgd").slope.value == pytest.approx(1000, rel=0.05)
    assert effect(found, "optimiser=lamb").slope.value == pytest.approx(0, abs=30)
    assert effect(found, "nesterov=True").slope.value == pytest.approx(700, rel=0.05)


def test_missing_figures_are_left_out_and_named() -> None:
    rows = planted_rows(rng(), 30)
    for row in rows[:5]:
        row["gpu_energy_j"] = None
        row["null_reasons"] = {**row["null_reasons"], "gpu_energy_j": "window_below_counter_step"}
    found = effects(rows, CATALOG)
    assert outcome(found).runs == 25
    assert "not known: window_below_counter_step in 5 of 30 runs" in outcome(found).notes
    assert outcome(found, "dram_energy_j").reason == "no_rapl_zones in every run"
    assert outcome(found, "dram_energy_j").mean is None
    assert "cpu_energy_total_j: no_rapl_zones" in (outcome(found, "total_energy_j").reason or "")
    assert outcome(found, "duration_s").runs == 30


def test_the_total_is_the_sum_where_both_parts_are_known() -> None:
    rows = planted_rows(rng(), 30, cpu_energy_total_j=5000.0, null_reasons={})
    found = effects(rows, CATALOG)
    mean = outcome(found, "total_energy_j").mean
    assert mean == pytest.approx(5000 + np.mean([row["gpu_energy_j"] for row in rows]))


def test_another_gpu_cannot_pass_for_an_effect() -> None:
    rows = planted_rows(rng(), 60, truth=QUIET)
    for row in rows:
        if row["hyperparameters"]["dropout"] > 0.25:  # so that the GPU goes with dropout
            row["gpu_name"] = "GPU Y"
            row["gpu_energy_j"] += 3000
    found = effects(rows, CATALOG)
    assert group(found).adjusted_for == ("gpu_name",)
    assert abs(effect(found, "dropout").slope.value) < 100  # and not 3000 J over a step of 0.25
    assert effect(found, "epochs").slope.value == pytest.approx(300, rel=0.03)


def test_another_board_of_the_same_model_cannot_pass_for_an_effect() -> None:
    rows = planted_rows(rng(), 60, truth=QUIET)
    for row in rows:
        lossy = row["hyperparameters"]["dropout"] > 0.25
        row["gpu_uuids"] = ["GPU-2" if lossy else "GPU-1"]
        row["gpu_energy_j"] += 3000 * lossy
    found = effects(rows, CATALOG)
    assert group(found).adjusted_for == ("gpu_uuid",)
    assert abs(effect(found, "dropout").slope.value) < 100


def test_what_is_held_fixed_twice_needs_no_more_runs() -> None:
    rows = planted_rows(rng(), 15, truth=QUIET)
    for n, row in enumerate(rows):  # GPU model, node and board are one and the same difference
        here = n % 2
        row.update(gpu_name=f"GPU {here}", node_id=f"node-{here}", gpu_uuids=[f"GPU-{here}"])
    assert group(effects(rows, CATALOG)).adjusted_for == ("gpu_name", "node_id", "gpu_uuid")
    assert outcome(effects(rows, CATALOG)).reason is None
    assert "15 are needed" in (outcome(effects(rows[:14], CATALOG)).reason or "")


def test_two_backgrounds_are_held_fixed() -> None:
    rows = planted_rows(rng(), 40, 40, QUIET)
    for n, row in enumerate(rows[40:]):
        if n % 4:
            row.update(background_model="heavier", gpu_energy_j=row["gpu_energy_j"] + 4000)
    found = effects(rows, CATALOG)
    assert group(found, "parallel").adjusted_for == ("background",)
    assert effect(found, "epochs", mode="parallel").slope.value == pytest.approx(420, rel=0.03)
    assert effect(found, "epochs x parallel", mode="both").slope.value == pytest.approx(120, rel=0.1)
    assert effect(found, "parallel", mode="both").slope.value == pytest.approx(2500 + 3000, rel=0.05)


def test_what_varies_in_one_mode_only_has_no_interaction() -> None:
    rows = planted_rows(rng(), 40, 40)
    for row in rows[40:]:
        row["hyperparameters"]["dropout"] = 0.25
    both = group(effects(rows, CATALOG), "both")
    assert {info.name: info.reason for info in both.hyperparameters}["dropout"] == (
        "does not vary enough in both solo and parallel runs"
    )
    terms = {effect.term for outcome in both.outcomes for effect in outcome.effects}
    assert terms == {"parallel", "epochs x parallel", "learning_rate x parallel"}


def test_an_outcome_that_never_changes_says_so() -> None:
    found = effects(planted_rows(rng(), 30, primary_metric_value=0.5), CATALOG)
    assert outcome(found, "accuracy").reason == "the same in every run: 0.5"


def test_a_bend_is_told() -> None:
    rows = planted_rows(rng(), 50, truth=QUIET)
    for row in rows:
        row["gpu_energy_j"] += 80 * (row["hyperparameters"]["epochs"] - 12) ** 2
    assert any(note.startswith("no straight line") for note in outcome(effects(rows, CATALOG)).notes)
    assert not any("straight" in note for note in outcome(effects(rows, CATALOG), "duration_s").notes)


def test_without_a_manifest_numbers_are_linear_and_trade_offs_are_missing() -> None:
    found = effects(planted_rows(rng(), 40))
    assert effect(found, "learning_rate").per == "1"
    assert group(found).tradeoffs == ()
    assert "no manifest of this model" in group(found).notes[0]
    assert "no trade-offs" in group(found).notes[1]


def test_fewer_epochs_save_energy_and_cost_accuracy() -> None:
    (tradeoff,) = group(effects(planted_rows(rng(), 60), CATALOG)).tradeoffs
    assert (tradeoff.hyperparameter, tradeoff.change) == ("epochs", "lower")
    assert tradeoff.kind == "saves energy, costs quality"
    assert tradeoff.energy.high < 0
    assert tradeoff.metric.high < 0
    assert tradeoff.energy.value == pytest.approx(-300 * 4.6, rel=0.15)


def test_results_are_strict_json() -> None:
    document = effects(planted_rows(rng(), 30, 12), CATALOG).to_json()
    text = json.dumps(document, allow_nan=False)
    assert json.loads(text)["groups"][0]["outcomes"][2]["effects"][0]["slope"]["low"] > 0


def test_a_missing_library_names_the_extra() -> None:
    with pytest.raises(CannotRunError, match=r"needs no_such_statistics, .*mutation-energy-profiler\[report\]"):
        library("no_such_statistics.models")
