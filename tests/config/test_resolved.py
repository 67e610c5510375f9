"""Resolved campaigns load back to themselves; no config ends in anything but a campaign or faults."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler.config import load
from profiler.config.keys import KEYS
from profiler.documents import parse_yaml
from profiler.errors import ConfigError
from profiler.workloads import Catalog
from tests.config.helpers import CATALOG, ITEM, PAIR, document


def test_a_seed_is_drawn_and_recorded() -> None:
    raw = document()
    del raw["seed"]
    campaigns = [load(raw, catalog=CATALOG) for _ in range(5)]
    assert len({campaign.seed for campaign in campaigns}) > 1
    again = load(campaigns[0].to_dict(), catalog=CATALOG)
    assert again == campaigns[0]


def test_the_resolved_config_says_everything_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = document({**ITEM, "mutate": ["learning_rate"], "data": "digits"}, mode="mutation", runs_per_config=2)
    resolved = load(raw, catalog=CATALOG).to_dict()
    assert resolved["experiments"][0] == {
        "mode": "mutation",
        "repo": "examples",
        "model": "mnist_cnn",
        "data": str(tmp_path / "digits"),
        "mutate": ["learning_rate"],
        "ranges": {
            "learning_rate": {"min": 0.005, "max": 0.02, "distribution": "log_uniform", "zero_probability": 0.0}
        },
        "runs_per_config": 2,
        "max_retries": 2,
    }


NAMES = st.sampled_from(
    ["a", "1e-3", "010", "yes", "null", "1:30", "2026-01-01", "ü 名", "a: b", "#x", "'", "~", "0x1F"]
)


@st.composite
def items(draw: st.DrawFn) -> dict[str, Any]:
    mode = draw(st.sampled_from(["default", "mutation", "parallel"]))
    values = {
        "epochs": draw(st.integers(1, 10**9)),
        "learning_rate": draw(st.floats(0, 1e6, allow_nan=False)),
    }
    solo: dict[str, Any] = {"repo": "examples", "model": draw(st.sampled_from(["mnist", "siamese"]))}
    if mode == "default":
        solo["hyperparameters"] = values
    else:
        solo["mutate"] = draw(st.sampled_from([["batch_size"], ["seed", "batch_size"]]))
        solo["fixed_hyperparameters"] = values
        solo["ranges"] = {"batch_size": {"max": draw(st.integers(16, 10**6))}}
    if draw(st.booleans()):
        solo["cpus"] = draw(st.floats(0.001, 64))
    if mode != "parallel":
        return {"mode": mode, "note": draw(NAMES), **solo}
    background = {"repo": "VulBERTa", "model": "cnn", "fraction": draw(st.floats(0.01, 0.3))}
    return {"mode": mode, "foreground": solo, "background": background, "cooling": {"seconds": draw(st.floats(0, 9))}}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(items(), min_size=1, max_size=3), NAMES, st.integers(0, 2**63 - 1))
def test_a_resolved_campaign_loads_back_to_itself(entries: list[dict[str, Any]], name: str, seed: int) -> None:
    campaign = load({"name": name, "seed": seed, "experiments": entries}, catalog=CATALOG)
    assert load(campaign.to_dict(), catalog=CATALOG) == campaign
    assert load(parse_yaml(campaign.to_yaml()), catalog=CATALOG) == campaign
    assert load(json.loads(json.dumps(campaign.to_dict())), catalog=CATALOG) == campaign


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_config_ends_in_anything_but_a_campaign_or_faults(data: st.DataObject) -> None:
    """Any value at any known key: a campaign, or faults that can be printed as JSON; never another exception."""
    raw: dict[str, Any] = document(copy.deepcopy(ITEM), copy.deepcopy(PAIR))
    places: list[tuple[dict[str, Any], str]] = [
        (raw, "C"),
        (raw["experiments"][0], "E"),
        (raw["experiments"][1], "E"),
        (raw["experiments"][1]["foreground"], "F"),
        (raw["experiments"][1]["background"], "B"),
    ]
    for _ in range(data.draw(st.integers(1, 4))):
        mapping, level = data.draw(st.sampled_from(places))
        key = data.draw(st.sampled_from([key.name for key in KEYS if level in key.levels]) | st.text(max_size=4))
        inner = st.dictionaries(st.sampled_from(["epochs", "learning_rate", "size", "min", "seconds", "x"]), JUNK)
        mapping[key] = data.draw(JUNK | inner)
    try:
        campaign = load(raw, catalog=CATALOG)
    except ConfigError as error:
        assert error.issues
        json.dumps([issue.to_json() for issue in error.issues], allow_nan=False)
    else:
        assert load(campaign.to_dict(), catalog=CATALOG) == campaign


def test_an_empty_catalog_is_told_as_unknown_repositories() -> None:
    with pytest.raises(ConfigError, match="unknown repo"):
        load(document(), catalog=Catalog())
