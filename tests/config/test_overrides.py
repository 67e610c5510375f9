"""`--set` options and the command line's campaign."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from profiler.config import campaign_from_options, load
from profiler.errors import ConfigError
from tests.config.helpers import CATALOG, ITEM, PAIR, document, faults, only, read


@pytest.mark.parametrize(
    ("option", "path", "value"),
    [
        ("seed=9", ("seed",), 9),
        ("runs_per_config=3", ("experiments", 1, "runs_per_config"), 3),
        ("experiments.0.runs_per_config=4", ("experiments", 0, "runs_per_config"), 4),
        ("experiments[0].runs_per_config=4", ("experiments", 0, "runs_per_config"), 4),
        ("experiments.1.background.hyperparameters.epochs=7", None, 7),
        ("sampling.rate_hz=20", ("sampling", "rate_hz"), 20.0),
        ("cooling={seconds: 3}", ("experiments", 0, "cooling", "seconds"), 3.0),
        ("cooling.seconds=3", ("experiments", 0, "cooling", "seconds"), 3.0),
        ("governor=", ("governor",), None),
        ("name=a=b", ("name",), "a=b"),
        (
            "experiments.0.hyperparameters.learning_rate=1e-3",
            ("experiments", 0, "hyperparameters", "learning_rate"),
            0.001,
        ),
        ("require_energy=[gpu, cpu]", ("require_energy", 1), "cpu"),
    ],
)
def test_set_changes_any_key(option: str, path: tuple[Any, ...] | None, value: Any) -> None:
    raw = document({**ITEM, "mutate": ["epochs"]}, copy.deepcopy(PAIR))
    here: Any = load(raw, [option], CATALOG).to_dict()
    for part in path or ("experiments", 1, "background", "hyperparameters", "epochs"):
        here = here.get(part) if isinstance(here, dict) else here[part]
    assert here == value and type(here) is type(value)
    assert raw == document({**ITEM, "mutate": ["epochs"]}, copy.deepcopy(PAIR))  # the caller's own is untouched


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("seed", "must read KEY=VALUE"),
        ("=3", "must read KEY=VALUE"),
        ("", "must read KEY=VALUE"),
        ("a..b=3", "must read KEY=VALUE"),
        (".a=3", "must read KEY=VALUE"),
        ("experiments.5.mode=default", "is a list of 1"),
        ("experiments.x.mode=default", "no position"),
        ("experiments.-1.mode=default", "no position"),
        ("name.x=1", "`name` is a text"),
        ("seed=[", "not YAML"),
        ("seed={a: 1, a: 2}", "not YAML"),
        ("sede=3", "unknown key"),
        ("seed=yes", "an integer"),
        ("experiments.0.modle=x", "unknown key"),
        ("experiments=3", "a list of at least one item"),
    ],
)
def test_bad_overrides_are_faults_that_name_the_option(option: str, message: str) -> None:
    issue = only(document(), (option,))
    assert message in issue.message
    assert "--set" in issue.path or "--set" in issue.file


def test_overrides_apply_in_order_and_only_they_are_blamed() -> None:
    assert read(overrides=("seed=1", "seed=2")).seed == 2
    issues = faults({**document(), "max_retries": -1}, ("runs_per_config=0",))
    assert {issue.path: issue.file for issue in issues} == {
        "max_retries": "config",
        "runs_per_config": "config with --set runs_per_config=0",
    }


def test_campaign_from_options() -> None:
    campaign = campaign_from_options(
        "examples", "mnist", "learning_rate, epochs", 3, "performance", 1, 7, ["size=reduced"], CATALOG
    )
    (item,) = campaign.experiments
    assert (campaign.seed, campaign.governor, campaign.name) == (7, "performance", "examples_mnist")
    assert (item.mode, item.runs_per_config, item.max_retries) == ("mutation", 3, 1)
    assert item.foreground.mutate == ("learning_rate", "epochs")
    assert item.foreground.hyperparameters == {"size": "reduced"}
    everything = campaign_from_options("examples", "siamese", "all", catalog=CATALOG)
    assert everything.experiments[0].foreground.mutate == ("epochs", "learning_rate", "batch_size", "seed")
    with pytest.raises(ConfigError) as caught:
        campaign_from_options("exampels", "mnist", "lr", runs=0, governor="fast", catalog=CATALOG)
    assert {issue.path for issue in caught.value.issues} == {
        "governor",
        "runs_per_config",
        "experiments[0].repo",
    }
    assert caught.value.issues[0].file == "command line"


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("key", ["runs_per_config", "experiments.0.runs_per_config"])
def test_an_override_wins_over_the_option_for_the_number_of_runs(key: str, runs: int) -> None:
    campaign = campaign_from_options("examples", "mnist", "epochs", runs, overrides=[f"{key}=4"], catalog=CATALOG)
    assert campaign.experiments[0].runs_per_config == 4
