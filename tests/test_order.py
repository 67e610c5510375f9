"""The order of a plan: drawn with its seed, and in blocks that have one run of every item."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from profiler import config
from profiler.order import block_numbers, ordered
from profiler.planned import Plan
from profiler.planner import make_plan
from profiler.workloads import load_catalog
from tests.campaigns import REPOS, pair, quick

CATALOG = load_catalog([REPOS])


def plan(order: str, seed: int = 1, repeats: int = 4) -> Plan:
    items = [{**quick(epochs=epochs), "runs_per_config": repeats} for epochs in (1, 2, 3)]
    raw: dict[str, Any] = {"name": "t", "seed": seed, "order": order, "experiments": items}
    return make_plan(config.load(raw, catalog=CATALOG), CATALOG)


@pytest.mark.parametrize("order", ["as_written", "shuffled", "blocked", "longest_first"])
def test_no_run_is_lost_and_all_are_numbered(order: str) -> None:
    runs = plan(order)
    assert sorted(run.item for run in runs) == sorted([0, 1, 2] * 4)
    assert [run.index for run in runs] == list(range(1, 13))
    assert [run.experiment_id for run in runs] == [f"quick_quick_{number:03d}" for number in range(1, 13)]


def test_the_seed_decides() -> None:
    assert plan("shuffled").to_json() == plan("shuffled").to_json()
    orders = {tuple(run.item for run in plan("shuffled", seed)) for seed in range(5)}
    assert len(orders) == 5
    assert [run.item for run in plan("as_written")] == [0] * 4 + [1] * 4 + [2] * 4


def test_every_block_has_one_run_of_each_item() -> None:
    items = [run.item for run in plan("blocked")]
    blocks = [items[start : start + 3] for start in range(0, 12, 3)]
    assert all(sorted(block) == [0, 1, 2] for block in blocks)
    assert len(set(map(tuple, blocks))) > 1


def test_blocks_are_numbered_as_the_plan_has_them() -> None:
    runs = plan("blocked")
    assert list(block_numbers(runs)) == [block for block in range(1, 5) for _ in range(3)]


def test_longest_first_goes_by_the_estimates_and_keeps_the_rest_as_written() -> None:
    runs = plan("longest_first")
    assert [run.item for run in runs] == [2] * 4 + [1] * 4 + [0] * 4
    seconds = [run.estimated_seconds for run in runs]
    assert seconds == sorted(seconds, reverse=True)  # type: ignore[type-var]
    unknown = [replace(run, estimated_seconds=None) for run in runs[:2]]
    again = ordered([*runs[2:], *unknown], "longest_first", 1)
    assert [run.estimated_seconds for run in again[:2]] == [None, None]


def test_baselines_of_a_pair_are_both_partners_alone() -> None:
    item = pair({"epochs": 2}, {"epochs": 3})
    item["foreground"] |= {"mode": "mutation", "mutate": ["learning_rate"]}
    raw = {
        "name": "t",
        "seed": 1,
        "order": "blocked",
        "experiments": [{**item, "baseline_runs": 2, "runs_per_config": 2}],
    }
    campaign = config.load(raw, catalog=CATALOG)
    runs = make_plan(campaign, CATALOG)
    alone = [run for run in runs if run.background is None]
    assert sorted(run.hyperparameters["epochs"] for run in alone) == [2, 2, 3, 3]
    assert len([run for run in runs if run.foreground_mode == "default" and run.background is not None]) == 2
    assert len(runs) == 8
    blocks = list(block_numbers(runs))
    assert [blocks.count(number) for number in (1, 2)] == [4, 4], "each block has both alone, both together and mutated"


@pytest.mark.parametrize("order", ["shuffled", "blocked", "longest_first"])
def test_each_partner_was_alone_before_their_first_pair(order: str) -> None:
    """What they took alone tells how to split the energy of a pair; a pair that came first would be split otherwise."""
    for seed in range(20):
        item = {**pair({"epochs": 2}, {"epoch_seconds": 3.0}), "baseline_runs": 2, "runs_per_config": 3}
        raw = {"name": "t", "seed": seed, "order": order, "experiments": [item]}
        runs = list(make_plan(config.load(raw, catalog=CATALOG), CATALOG))
        assert [run.index for run in runs] == list(range(1, 8))
        first = next(number for number, run in enumerate(runs) if run.background is not None)
        assert {run.hyperparameters["epoch_seconds"] for run in runs[:first]} == {0.05, 3.0}
        if order == "blocked":
            assert list(block_numbers(runs)) == [1, 1, 1, 2, 2, 2, 3]
