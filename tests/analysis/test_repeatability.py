"""Coefficients of variation of repeated trainings, and repetitions compared with each other."""

from __future__ import annotations

import json

import numpy as np
import pytest

from profiler.analysis.repeatability import Variation, a_against_a, repeatability
from tests.analysis.planted import Truth, planted_rows, run_row, values

NOISY = Truth(noise=0.05, duration_noise_s=0.0)


def repeated(sets: int, times: int, seed: int = 3) -> list[dict[str, object]]:
    """Runs of `sets` sets of values, each `times` times; the energy scatters by 5 %."""
    rng = np.random.default_rng(seed)
    drawn = [values(rng) for _ in range(sets)]
    return [run_row(n, "mutation", own, rng, NOISY) for n, own in enumerate(drawn * times, start=1)]


def variation(rows: list[dict[str, object]], column: str = "gpu_energy_j") -> Variation:
    (model,) = repeatability(rows).models
    return next(figure for figure in model.figures if figure.column == column)


def test_the_variation_is_that_of_the_noise_not_of_the_values() -> None:
    found = variation(repeated(30, 5))
    assert found.cv_percent is not None
    assert found.cv_percent.low < 5 < found.cv_percent.high
    assert found.cv_percent.value == pytest.approx(5, rel=0.15)
    assert (found.runs, found.sets, found.unit) == (150, 30, "J")


def test_two_sets_by_hand() -> None:
    rows = repeated(2, 2)
    for row, energy in zip(rows, (90.0, 400.0, 110.0, 400.0), strict=True):  # set 1: 90, 110; set 2: 400, 400
        row["gpu_energy_j"] = energy
    figure = variation(rows).cv_percent
    assert figure is not None
    cv = np.std([90, 110], ddof=1) / 100
    assert figure.value == pytest.approx(100 * np.sqrt(cv**2 / 2))


def test_what_was_not_repeated_has_no_variation() -> None:
    found = repeatability(planted_rows(np.random.default_rng(1), 5, 4))
    assert [(model.mode, model.reason) for model in found.models] == [
        ("solo", "no two runs have the same values"),
        ("parallel", "no two runs have the same values"),
    ]
    assert found.reason == "no training was repeated with the same values"
    assert repeatability([]).reason == "there are no runs"


def test_another_gpu_or_node_is_no_repetition() -> None:
    rows = repeated(1, 4)
    rows[0]["gpu_name"], rows[1]["node_id"] = "GPU Y", "node-2"
    (model,) = repeatability(rows).models
    assert (model.runs, model.sets, model.figures[2].runs) == (4, 1, 2)


def test_another_board_of_the_same_model_is_no_repetition() -> None:
    rows = repeated(1, 4)
    for row, uuid in zip(rows, ("GPU-1", "GPU-2", "GPU-1", "GPU-2"), strict=True):
        row["gpu_uuids"] = [uuid]
        row["gpu_energy_j"] = 100.0 if uuid == "GPU-1" else 104.0
    (model,) = repeatability(rows).models
    assert (model.runs, model.sets, model.figures[2].runs) == (4, 2, 4)
    assert model.figures[2].cv_percent is not None
    assert model.figures[2].cv_percent.value == 0


def test_missing_figures_say_why() -> None:
    assert variation(repeated(2, 2), "dram_energy_j").reason == "no_rapl_zones in every run"
    negative = repeated(2, 2)
    for row in negative:
        row["primary_metric_value"] = -1.0
    assert variation(negative, "primary_metric_value").reason == "a mean is not above zero, so there is no percentage"


def test_repetitions_against_each_other() -> None:
    found = a_against_a(repeated(6, 4))
    assert (found.a.used, found.b.used) == (12, 12)
    assert found.different == 0
    assert found.tests == 2  # the duration is the same in every repetition
    json.dumps(repeatability(repeated(2, 2)).to_json(), allow_nan=False)


@pytest.mark.parametrize("change", [{"sharing": "mps"}, {"background_mode": "reuse"}])
def test_pairs_that_share_the_gpu_in_another_way_are_no_repetitions(change: dict[str, str]) -> None:
    beside = {"mode": "parallel", "background_repo": "r", "background_model": "b", "background_hyperparameters": {}}
    usual = {"background_mode": "loop", "sharing": "time_slice"}
    rows = [{**row, **beside, **usual} for row in repeated(1, 4)]
    (alike,) = repeatability(rows).models
    assert alike.sets == 1 and variation(rows).runs == 4
    rows = [{**row, **(change if number > 1 else {})} for number, row in enumerate(rows)]
    (apart,) = repeatability(rows).models
    assert apart.sets == 2 and variation(rows).runs == 4
