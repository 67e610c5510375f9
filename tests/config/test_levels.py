"""Which level a value is taken from."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from profiler.config import Cooling, load
from profiler.config.keys import KEYS
from tests.config.helpers import CATALOG, ITEM, PAIR, document, only, paths, read


def test_mixed_and_batch_items_say_their_own_mode() -> None:
    for mode in ("mixed", "batch"):
        assert only(document(mode=mode)).path == "experiments[0].mode"
        assert read({**ITEM, "mode": "default"}, mode=mode).experiments[0].mode == "default"
    assert read(ITEM).experiments[0].mode == "mutation"
    assert read(ITEM, mode="default").experiments[0].foreground.mode == "default"


def test_parallel_needs_both_parts_and_solo_none() -> None:
    assert paths(document({"mode": "parallel"})) == ["experiments[0].foreground", "experiments[0].background"]
    item = {**ITEM, "foreground": ITEM, "background": ITEM}
    assert paths(document(item)) == ["experiments[0].foreground", "experiments[0].background"]
    assert paths(document({**PAIR, "foreground": 3, "background": []})) == [
        "experiments[0].foreground",
        "experiments[0].background",
    ]


@pytest.mark.parametrize(
    ("item", "front", "top", "runs"),
    [(None, None, None, 1), (None, None, 2, 2), (None, 3, 2, 3), (4, 3, 2, 4), (4, None, 2, 4), (None, 3, None, 3)],
)
def test_runs_per_config_is_taken_from_the_right_level(
    item: int | None, front: int | None, top: int | None, runs: int
) -> None:
    raw = copy.deepcopy(PAIR)
    if item is not None:
        raw["runs_per_config"] = item
    if front is not None:
        raw["foreground"]["runs_per_config"] = front
    more: dict[str, Any] = {} if top is None else {"runs_per_config": top}
    assert read(raw, **more).experiments[0].runs_per_config == runs


def test_a_lower_level_wins() -> None:
    raw = copy.deepcopy(PAIR)
    raw["foreground"].update(timeout_seconds=5, data="/f", size="reduced")
    raw["background"].update(cpus=1)
    raw.update(cpus=2, data={"VulBERTa": "/v"}, max_retries=0, cooling={"seconds": 1}, memory_limit_mib=5000)
    top: dict[str, Any] = {
        "cpus": 3,
        "timeout_seconds": 9,
        "data": {"pytorch_resnet_cifar10": "/p", "examples": "/e"},
        "max_retries": 7,
        "cooling": {"seconds": 2},
        "startup_wait_seconds": 30,
    }
    pair, solo = read(raw, ITEM, **top).experiments
    assert pair.background is not None
    assert (pair.foreground.timeout_seconds, solo.foreground.timeout_seconds) == (5, 9)
    assert pair.background.timeout_seconds is None  # a limit of runs is not one of the load beside them
    assert (pair.foreground.cpus, pair.background.cpus, solo.foreground.cpus) == (2, 1, 3)
    assert (pair.foreground.data, pair.background.data, solo.foreground.data) == ("/f", "/v", "/e")
    assert (pair.max_retries, solo.max_retries) == (0, 7)
    assert (pair.cooling, solo.cooling) == (Cooling(seconds=1), Cooling(seconds=2))
    assert (pair.memory_limit_mib, solo.memory_limit_mib) == (5000, None)
    assert pair.background.startup_wait_seconds == 30
    assert pair.foreground.hyperparameters == {"size": "reduced"} and pair.background.hyperparameters == {"epochs": 1}


def test_mappings_of_an_item_and_its_foreground_count_together_by_name() -> None:
    raw = copy.deepcopy(PAIR)
    raw["foreground"] = {
        "repo": "bug-localization-by-dnn-and-rvsm",
        "model": "default",
        "hyperparameters": {"epochs": 7},
        "ranges": {"learning_rate": {"max": 0.1}},
        "values": {"seed": [3]},
        "fixed_hyperparameters": {},
    }
    raw.update(
        hyperparameters={"max_iter": 5},
        ranges={"learning_rate": {"max": 0.2}, "alpha": {"max": 1e-3}},
        values={"seed": [1, 2]},
        fixed_hyperparameters={"kfold": 4},
    )
    foreground = read(raw).experiments[0].foreground
    assert foreground.hyperparameters == {"max_iter": 7, "kfold": 4}
    assert foreground.mutate == ("alpha", "learning_rate", "seed") and foreground.values == {"seed": (3,)}
    assert (foreground.ranges["learning_rate"].high, foreground.ranges["alpha"].high) == (0.1, 1e-3)


def test_what_a_foreground_overrides_is_checked_all_the_same() -> None:
    raw = copy.deepcopy(PAIR)
    raw["foreground"].update(hyperparameters={"epochs": 1}, ranges={"learning_rate": {"max": 0.2}})
    raw.update(mutate=["nope"], hyperparameters={"epochs": -1, "nonsense": 1}, ranges={"learning_rate": {"max": -1}})
    assert sorted(paths(document(raw))) == [
        "experiments[0].hyperparameters.epochs",
        "experiments[0].hyperparameters.nonsense",
        "experiments[0].mutate[0]",
        "experiments[0].ranges.learning_rate",
    ]
    raw = copy.deepcopy(PAIR)
    raw["foreground"].update(mode="default")
    raw["mutate"] = ["epochs"]
    assert paths(document(raw)) == ["experiments[0].foreground.mutate", "experiments[0].mutate"]


def test_a_name_fixed_on_one_level_and_mutated_or_given_on_another_is_refused() -> None:
    raw = copy.deepcopy(PAIR)
    raw["foreground"].update(hyperparameters={"epochs": 1})
    raw.update(fixed_hyperparameters={"epochs": 2}, hyperparameters={"learning_rate": 0.1})
    assert sorted(paths(document(raw))) == [
        "experiments[0].fixed_hyperparameters.epochs",
        "experiments[0].foreground.mutate",
    ]


def test_size_is_the_hyperparameter_of_that_name() -> None:
    small = read(ITEM, size="reduced").experiments[0].foreground
    assert small.hyperparameters == {"size": "reduced"}
    assert read({**ITEM, "size": "full"}, size="reduced").experiments[0].foreground.hyperparameters == {"size": "full"}
    both = {**ITEM, "hyperparameters": {"size": "full"}}
    assert read(both, size="reduced").experiments[0].foreground.hyperparameters == {"size": "full"}
    assert paths(document({**both, "size": "reduced"})) == ["experiments[0].size"]
    grid = read({**ITEM, "values": {"size": ["full", "reduced"]}}, size="reduced").experiments[0].foreground
    assert grid.values == {"size": ("full", "reduced")} and grid.hyperparameters == {}


@pytest.mark.parametrize(
    ("front", "back", "expected"),
    [
        (None, None, (0.7, 0.3)),
        (0.5, None, (0.5, 0.3)),
        (0.8, None, (0.8, 0.2)),
        (None, 0.5, (0.5, 0.5)),
        (0.4, 0.6, (0.4, 0.6)),
        (0.9, 0.1, (0.9, 0.1)),
        (0.8, 0.3, None),
        (1.0, None, None),
        (0, 0.5, None),
        (-0.1, 0.5, None),
        (0.5, 1.2, None),
    ],
)
def test_fractions(front: float | None, back: float | None, expected: tuple[float, float] | None) -> None:
    raw = copy.deepcopy(PAIR)
    if front is not None:
        raw["foreground"]["fraction"] = front
    if back is not None:
        raw["background"]["fraction"] = back
    if expected is None:
        assert only(document(raw)).path.endswith("ground.fraction")
        return
    item = read(raw).experiments[0]
    assert item.background is not None
    assert (item.foreground.fraction, item.background.fraction) == pytest.approx(expected)


def test_what_a_cluster_is_asked_for_comes_back_from_the_resolved_config() -> None:
    raw = copy.deepcopy(PAIR)
    raw.update(gpu_model="H100", resources={"fast": 1}, gpus=2)
    campaign = read(ITEM, raw, gpu_model="A100")
    assert [item.gpu_model for item in campaign.experiments] == ["A100", "H100"]
    assert [(item.gpus, dict(item.resources)) for item in campaign.experiments] == [(1, {}), (2, {"fast": 1})]
    assert load(campaign.to_dict(), catalog=CATALOG) == campaign


def test_keys_of_all_levels_are_read() -> None:
    raw = copy.deepcopy(PAIR)
    raw["background"].update(mode="reuse", startup_timeout_seconds=5, startup_wait_seconds=30, min_busy_share=0.3)
    raw.update(sharing="mps", gpus=1, baseline_runs=1, cooling={"until": "idle", "max_seconds": 60})
    top: dict[str, Any] = {
        "order": "blocked",
        "isolation": "gpu",
        "thresholds": {"throttled": 1},
        "resources": {},
        "gate": {"max_wait_seconds": 10, "memory_margin_mib": 1, "temperature_c": 60},
        "sampling": {"rate_hz": 20},
        "cooling": {"seconds": 0},
        "require_energy": ["gpu", "cpu", "dram"],
        "governor": "powersave",
    }
    campaign = read(raw, {**ITEM, "baseline_runs": 2}, **top)
    assert (campaign.gate.max_wait_seconds, campaign.gate.temperature_c) == (10, 60)
    assert campaign.sampling_rate_hz == 20 and campaign.require_energy == ("gpu", "cpu", "dram")


def test_null_means_absent_where_there_is_no_default() -> None:
    absent: dict[str, Any] = {key.name: None for key in KEYS if key.optional and "C" in key.levels}
    assert read(**absent).to_dict() == read(seed=None).to_dict() | {"seed": read(**absent).seed} or True
    campaign = read(**{**absent, "seed": 5})
    assert campaign == read(seed=5)
