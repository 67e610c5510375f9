"""What mutates: names, grids, ranges, multipliers, and what makes no sense."""

from __future__ import annotations

from typing import Any

import pytest

from tests.config.helpers import ITEM, document, only, paths, read


def test_what_mutates_when_nothing_is_named() -> None:
    assert read(ITEM).experiments[0].foreground.mutate == ("epochs", "learning_rate", "batch_size", "seed")
    for mutate in ("all", ["all"]):
        pinned = {**ITEM, "mutate": mutate, "fixed_hyperparameters": {"epochs": 1}}
        assert read(pinned).experiments[0].foreground.mutate == ("learning_rate", "batch_size", "seed")
    named = {**ITEM, "ranges": {"learning_rate": {"min": 0.1, "max": 0.2}}, "values": {"epochs": [1, 2]}}
    foreground = read(named).experiments[0].foreground
    assert foreground.mutate == ("epochs", "learning_rate")
    assert foreground.values == {"epochs": (1, 2)} and foreground.ranges.keys() == {"learning_rate"}


def test_ranges_and_multipliers() -> None:
    item = {
        "repo": "MRT-OAST",
        "model": "default",
        "mutate": ["learning_rate", "epochs", "weight_decay"],
        "ranges": {"weight_decay": {"zero_probability": 0.5}},
        "multipliers": {"learning_rate": [0.5, 2], "epochs": [0.25, 1.75]},
    }
    ranges = read(item).experiments[0].foreground.ranges
    assert (ranges["weight_decay"].low, ranges["weight_decay"].zero_probability) == (1e-5, 0.5)
    assert (ranges["learning_rate"].low, ranges["learning_rate"].high) == (5e-5, 2e-4)
    assert (ranges["epochs"].low, ranges["epochs"].high) == (3, 17)  # integers, rounded inwards
    assert type(ranges["epochs"].low) is int


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"mutate": []}, "mutate"),
        ({"mutate": "learning_rate"}, "mutate"),
        ({"mutate": ["all", "epochs"]}, "mutate[0]"),
        ({"mutate": ["epochs", "epochs"]}, "mutate[1]"),
        ({"mutate": ["epochs"], "hyperparameters": {"epochs": 3}}, "mutate"),
        ({"mutate": ["epochs"], "fixed_hyperparameters": {"seed": 3}, "hyperparameters": {"seed": 3}}, None),
        ({"mutate": ["size"]}, "mutate"),
        ({"mutate": ["epochs"], "values": {"seed": [1]}}, "values.seed"),
        ({"mutate": ["epochs"], "ranges": {"seed": {"min": 1}}}, "ranges.seed"),
        ({"values": {"epochs": [1, 2]}, "ranges": {"epochs": {"min": 1}}}, "ranges.epochs"),
        ({"values": {"epochs": [1, 2]}, "multipliers": {"epochs": [1, 2]}}, "multipliers.epochs"),
        ({"ranges": {"epochs": {"min": 1}}, "multipliers": {"epochs": [1, 2]}}, "multipliers.epochs"),
        ({"values": {"epochs": []}}, "values.epochs"),
        ({"values": {"epochs": 3}}, "values.epochs"),
        ({"values": {"epochs": [1, 1]}}, "values.epochs[1]"),
        ({"values": {"learning_rate": [1, 1.0]}}, "values.learning_rate[1]"),
        ({"values": {"epochs": [1, True]}}, "values.epochs[1]"),
        ({"ranges": {"epochs": {"min": 5, "max": 4}}}, "ranges.epochs"),
        ({"ranges": {"epochs": {"min": 0}}}, "ranges.epochs"),
        ({"ranges": {"epochs": {"min": 1.5}}}, "ranges.epochs"),
        ({"ranges": {"epochs": {"low": 1}}}, "ranges.epochs.low"),
        ({"ranges": {"epochs": [1, 2]}}, "ranges.epochs"),
        ({"ranges": {"learning_rate": {"min": 0}}}, "ranges.learning_rate"),
        ({"ranges": {"size": {"min": 0, "max": 1}}}, "ranges.size"),
        ({"multipliers": {"epochs": 2}}, "multipliers.epochs"),
        ({"multipliers": {"epochs": [1, 2, 3]}}, "multipliers.epochs"),
        ({"multipliers": {"size": [1, 2]}}, "multipliers.size"),
        ({"multipliers": {"epochs": [0.01, 0.02]}}, "multipliers.epochs"),
        ({"multipliers": {"nope": [1, 2]}}, "multipliers.nope"),
    ],
)
def test_mutations_that_make_no_sense(change: dict[str, Any], path: str | None) -> None:
    found = paths(document({**ITEM, **change}))
    assert f"experiments[0].{path or 'fixed_hyperparameters.seed'}" in found, found


def test_multiples_of_nothing() -> None:
    item = {"repo": "MRT-OAST", "model": "default", "multipliers": {"weight_decay": [0.5, 2]}}
    assert "nothing to multiply" in only(document(item)).message
    ff = {"repo": "examples", "model": "mnist_ff", "multipliers": {"batch_size": [0.5, 2]}}
    assert "nothing to multiply" in only(document(ff)).message


@pytest.mark.parametrize("key", ["mutate", "values", "ranges", "multipliers", "fixed_hyperparameters"])
def test_mutation_keys_mean_nothing_in_mode_default(key: str) -> None:
    value: Any = ["epochs"] if key == "mutate" else {"epochs": [1, 2]}
    value = {"epochs": {"min": 1}} if key == "ranges" else {"epochs": 2} if key.startswith("fixed") else value
    issue = only(document({**ITEM, "mode": "default", key: value}))
    assert issue.path == f"experiments[0].{key}" and "no effect in mode default" in issue.message
    assert only(document({**ITEM, "mode": "default", "baseline_runs": 2})).path == "experiments[0].baseline_runs"
