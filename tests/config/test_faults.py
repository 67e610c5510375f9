"""Configs: every fault at once, with file, path, value, what is allowed and the nearest name."""

from __future__ import annotations

import copy
import json
from collections import UserDict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profiler.config import load
from tests.config.helpers import CATALOG, ITEM, PAIR, document, faults, only, paths, read


def test_every_fault_of_a_config_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(
        json.dumps(
            {
                "experiment_name": "bad",
                "mode": "mutaton",
                "runs_per_config": "3",
                "max_retries": True,
                "timeout": 60,
                "govenor": "performance",
                "experiments": [
                    {"mode": "default", "repo": "exampels", "model": "mnist"},
                    {"mode": "default", "repo": "examples", "model": "mnits"},
                    {"mode": "default", **ITEM, "hyperparameters": {"lr": 0.1, "epochs": 2.5, "batch_size": 0}},
                    {"mode": "parallel", "foreground": {**ITEM, "mode": "parallel"}, "background": {}},
                    {
                        **PAIR,
                        "background": {"repo": "VulBERTa", "model": "mlp", "hyperparameters": {"dropout": 0.2}},
                    },
                    7,
                    {"mode": "mutation", **ITEM, "mutate": ["learning_rat"], "num_mutations": 5},
                ],
            }
        )
    )
    issues = faults(path)
    found = {issue.path: issue for issue in issues}
    assert found.keys() == {
        "mode",
        "runs_per_config",
        "max_retries",
        "timeout",
        "govenor",
        "experiments[0].repo",
        "experiments[1].model",
        "experiments[2].hyperparameters.lr",
        "experiments[2].hyperparameters.epochs",
        "experiments[2].hyperparameters.batch_size",
        "experiments[3].foreground.mode",
        "experiments[3].background.repo",
        "experiments[3].background.model",
        "experiments[4].background.hyperparameters.dropout",
        "experiments[5]",
        "experiments[6].mutate[0]",
        "experiments[6].num_mutations",
    }
    assert len(issues) == len(found)
    assert all(issue.file == str(path) for issue in issues)
    suggestions = {issue.path: issue.suggestion for issue in issues if issue.suggestion}
    assert suggestions == {
        "mode": "mutation",
        "timeout": "timeout_seconds",
        "govenor": "governor",
        "experiments[0].repo": "examples",
        "experiments[1].model": "mnist",
        "experiments[2].hyperparameters.lr": "learning_rate",
        "experiments[6].mutate[0]": "learning_rate",
        "experiments[6].num_mutations": "runs_per_config",
    }
    assert found["experiments[2].hyperparameters.batch_size"].value == 0
    assert "at least 1" in found["experiments[2].hyperparameters.batch_size"].message
    assert "default, mutation, parallel, mixed, batch" in found["mode"].message
    assert "epochs, learning_rate, batch_size, seed, size" in found["experiments[2].hyperparameters.lr"].message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", 7),
        ("name", ""),
        ("experiments", []),
        ("experiments", {}),
        ("experiments", None),
        ("mode", "Default"),
        ("mode", None),
        ("seed", True),
        ("seed", -1),
        ("seed", 2**63),
        ("seed", 1.0),
        ("runs_per_config", 0),
        ("runs_per_config", 1.5),
        ("runs_per_config", True),
        ("runs_per_config", 10**7),
        ("max_retries", -1),
        ("timeout_seconds", 0),
        ("timeout_seconds", "60"),
        ("timeout_seconds", float("nan")),
        ("timeout_seconds", float("inf")),
        ("governor", "turbo"),
        ("use_deduplication", "yes"),
        ("historical_csvs", "results/summary.csv"),
        ("historical_csvs", [7]),
        ("history", [None]),
        ("cpus", 0),
        ("startup_wait_seconds", -1),
        ("cooling", 60),
        ("cooling", {}),
        ("cooling", {"seconds": -1}),
        ("cooling", {"until": "cold"}),
        ("cooling", {"seconds": 1, "max_seconds": 5}),
        ("order", "random"),
        ("isolation", "cluster"),
        ("sharing", "mig"),
        ("memory_limit_mib", 0),
        ("memory_limit_mib", "8GB"),
        ("require_energy", ["tpu"]),
        ("require_energy", "gpu"),
        ("gate", {"max_wait_seconds": -1}),
        ("sampling", {"rate_hz": 0}),
        ("sampling", {"rate_hz": 101}),
        ("thresholds", {"throttled": "a"}),
        ("thresholds", {"throttled": 1.1}),
        ("thresholds", {"suspended": -1}),
        ("thresholds", {"exit": 1}),
        ("thresholds", {"throtled": 1}),
        ("data", 7),
        ("data", {"examples": 7}),
        ("size", "tiny"),
        ("size", None),
        ("resources", {"big": "x"}),
        ("gpus", 0),
        ("gpu_model", 7),
        ("notes", {"a": 1}),
    ],
)
def test_a_wrong_value_is_one_fault_at_its_key(key: str, value: Any) -> None:
    raw = {**document(), key: value}
    (path,) = {path.split("[")[0].split(".")[0] for path in paths(raw)}
    assert path == key


def test_a_number_too_large_is_told_its_bound() -> None:
    issue = only(document({**ITEM, "mode": "mutation", "ranges": {"seed": {"min": 0, "max": 2**63 - 1}}}))
    assert issue.path == "experiments[0].ranges.seed.max"
    assert issue.message.startswith("must be a number, at most 1e+18 away from zero, not 9223372036854775807")


@pytest.mark.parametrize(
    ("name", "instead"),
    [("CPU", "`cpus`"), ("GPU", "`gpus`"), ("memory", "leave it out"), ("object_store_memory", "leave it out"),
     ("energy_slot", "leave it out")],
)  # fmt: skip
def test_a_resource_that_ray_or_the_tool_keeps_for_itself_is_refused(name: str, instead: str) -> None:
    for raw, path in (
        (document(resources={name: 1, "fast": 1}), f"resources.{name}"),
        (document({**ITEM, "resources": {name: 1}}), f"experiments[0].resources.{name}"),
    ):
        issue = only(raw)
        assert (issue.path, issue.value) == (path, 1)
        assert instead in issue.message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"ranges": {"learning_rate": {"min": "a", "max": 1}, "nope": {"min": 1}, "epochs": {"min": 20, "max": 3}}},
            ["ranges.learning_rate.min", "ranges.nope", "ranges.epochs"],
        ),
        ({"ranges": {"nope": {"min": "a"}, 1: {}}}, ["ranges.nope.min", "ranges.nope", "ranges.1"]),
        (
            {"multipliers": {"learning_rate": ["x", 2], "nope": [1, 2], "epochs": [2, 1]}},
            ["multipliers.learning_rate[0]", "multipliers.nope", "multipliers.epochs"],
        ),
        ({"mutate": [1, "nope", "epochs", "epochs"]}, ["mutate[0]", "mutate[1]", "mutate[3]"]),
        (
            {"hyperparameters": {1: 2, "nope": 3, "epochs": -1}, "mutate": ["seed"]},
            ["hyperparameters.1", "hyperparameters.nope", "hyperparameters.epochs"],
        ),
        ({"values": {1: [2], "nope": [3], "epochs": [0]}}, ["values.1", "values.nope", "values.epochs[0]"]),
        ({"data": {"exampels": "/x", "examples": 3}}, ["data.exampels", "data.examples"]),
        ({"cooling": {1: 2, "seconds": -1, "nope": 3}}, ["cooling.1", "cooling.seconds", "cooling.nope"]),
        ({"thresholds": {1: 2, "throtled": 3}}, ["thresholds.1", "thresholds.throtled"]),
        ({1: 2, "mutate": ["nope"]}, ["1", "mutate[0]"]),
    ],
)
def test_every_faulty_entry_of_a_mapping_or_list_is_told(change: dict[Any, Any], expected: list[str]) -> None:
    top = "thresholds" in change
    found = paths(document(**change) if top else document({**ITEM, **change}))
    assert sorted(found) == sorted(expected if top else [f"experiments[0].{path}" for path in expected])


@pytest.mark.parametrize("key", ["gate.max_wait", "sampling.rate", "cooling.second"])
def test_unknown_keys_inside_a_key_are_found(key: str) -> None:
    top, inner = key.split(".")
    issue = only(document(**{top: {inner: 1}}))
    assert issue.path == key
    assert issue.suggestion in {"max_wait_seconds", "rate_hz", "seconds"}


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"epochs": True}, "must be an integer"),
        ({"epochs": "3"}, "must be an integer"),
        ({"epochs": 3.0}, "must be an integer"),
        ({"epochs": None}, "must be an integer"),
        ({"epochs": 0}, "at least 1"),
        ({"epochs": [3]}, "must be an integer"),
        ({"epochs": 10**30}, "must be an integer"),
        ({"seed": 2**32}, "at most 4.29497e+09"),
        ({"learning_rate": "fast"}, "must be a number"),
        ({"learning_rate": True}, "must be a number"),
        ({"learning_rate": float("nan")}, "must be a number"),
        ({"learning_rate": float("inf")}, "must be a number"),
        ({"learning_rate": 10**400}, "must be a number"),
        ({"learning_rate": -1e-9}, "at least 0"),
        ({"size": "tiny"}, 'must be one of "full", "reduced"'),
        ({"size": 1}, "must be a text"),
    ],
)
def test_hyperparameters_are_typed_and_bounded(values: dict[str, Any], fault: str) -> None:
    issue = only(document({**ITEM, "mode": "default", "hyperparameters": values}))
    assert fault in issue.message
    assert issue.path == f"experiments[0].hyperparameters.{next(iter(values))}"


def test_dropout_over_one_is_out_of_its_hard_bounds() -> None:
    item = copy.deepcopy(PAIR)
    item["background"] = {
        "repo": "Person_reID_baseline_pytorch",
        "model": "pcb",
        "hyperparameters": {"dropout": 1.5},
    }
    issue = only(document(*[dict(ITEM)] * 3, item))
    assert issue.path == "experiments[3].background.hyperparameters.dropout"
    assert issue.value == 1.5 and "at most 1" in issue.message


def test_a_range_does_not_bound_what_is_written() -> None:
    item = {
        "mode": "default",
        "repo": "pytorch_resnet_cifar10",
        "model": "resnet20",
        "hyperparameters": {"epochs": 1, "learning_rate": 0.4, "weight_decay": 1},
    }
    values = read(item).experiments[0].foreground.hyperparameters
    assert values == {"epochs": 1, "learning_rate": 0.4, "weight_decay": 1.0}
    assert type(values["weight_decay"]) is float


def test_numbers_that_old_yaml_readers_leave_texts_are_numbers() -> None:
    item = {**ITEM, "mode": "default", "hyperparameters": {"learning_rate": "1e-3"}}
    assert read(item, timeout_seconds="1e3").experiments[0].foreground.hyperparameters == {"learning_rate": 0.001}
    assert read(item, timeout_seconds="1e3").experiments[0].foreground.timeout_seconds == 1000.0


def test_numbers_of_numpy_and_other_mappings_are_taken() -> None:
    raw = UserDict(
        document({**ITEM, "mode": "default", "hyperparameters": {"epochs": np.int64(3)}}, cpus=Fraction(1, 2))
    )
    raw["experiments"] = tuple(raw["experiments"])
    foreground = load(raw, catalog=CATALOG).experiments[0].foreground
    assert foreground.hyperparameters == {"epochs": 3} and type(foreground.hyperparameters["epochs"]) is int
    assert foreground.cpus == 0.5


def test_alias_and_target_together_are_refused() -> None:
    bug = {"repo": "bug-localization-by-dnn-and-rvsm", "model": "default", "mode": "default"}
    for order in ({"epochs": 1, "max_iter": 10000}, {"max_iter": 10000, "epochs": 1}):
        issue = only(document({**bug, "hyperparameters": order}))
        assert issue.path == "experiments[0].hyperparameters.epochs"
        assert "alias of `max_iter`" in issue.message
    assert read({**bug, "hyperparameters": {"epochs": 5}}).experiments[0].foreground.hyperparameters == {"max_iter": 5}
    bug["mode"] = "mutation"
    assert paths(document({**bug, "mutate": ["epochs", "max_iter"]})) == ["experiments[0].mutate[1]"]
    assert paths(document({**bug, "mutate": ["max_iter"], "fixed_hyperparameters": {"epochs": 3}}))
    assert read({**bug, "mutate": ["epochs"]}).experiments[0].foreground.mutate == ("max_iter",)
    assert only({**document(), "experiment_name": "b"}).path == "experiment_name"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("num_mutations", "runs_per_config"),
        ("mutate_params", "mutate"),
        ("fixed_hyperparams", "fixed_hyperparameters"),
        ("timeout", "timeout_seconds"),
        ("repository", "repo"),
        ("mutation_strategy", "multipliers"),
        ("global_settings", None),
        ("cleanup_gpu_memory", "gate"),
        ("cleanup_wait", "gate"),
    ],
)
def test_old_keys_without_effect_are_refused_with_what_to_write(old: str, new: str | None) -> None:
    for source in (document(**{old: 1}), document({**ITEM, old: 1})):
        issue = only(source)
        assert issue.path.endswith(old) and issue.suggestion == new and "old key" in issue.message
        assert (new or "the same keys at the top level") in issue.message


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("experiments[0]", "governor"),
        ("experiments[0]", "seed"),
        ("experiments[0]", "fraction"),
        ("", "baseline_runs"),
        ("", "mutate"),
        ("", "hyperparameters"),
        ("experiments[1].foreground", "max_retries"),
        ("experiments[1].background", "mutate"),
        ("experiments[1].background", "runs_per_config"),
    ],
)
def test_a_key_at_the_wrong_level_is_told_where_it_belongs(place: str, key: str) -> None:
    raw = document({**ITEM}, copy.deepcopy(PAIR))
    here: Any = raw
    for part in place.replace("]", "").replace("[", ".").split(".") if place else []:
        here = here[int(part)] if part.isdecimal() else here[part]
    here[key] = 1
    issue = only(raw)
    assert issue.path == f"{place}.{key}".lstrip(".")
    assert "it belongs to" in issue.message


def test_a_data_folder_of_an_unknown_repository_is_a_fault() -> None:
    (issue,) = faults(document(dict(ITEM), dict(ITEM), data={"examples": "/data", "exampels": "/data"}))
    assert (issue.path, issue.suggestion) == ("data.exampels", "examples")


@pytest.mark.parametrize("length", [256, 100_000])
@pytest.mark.parametrize("key", ["checkout", "python", "data", "history", "historical_csvs"])
def test_a_path_that_no_file_can_have_is_a_fault(key: str, length: int) -> None:
    for text in ("x" * length, "/tmp/" + "ü" * (length // 2), "x/" * length * 20):
        value = [text] if key.startswith("hist") else text
        raw = document(**{key: value}) if key.startswith("hist") else document({**ITEM, key: value})
        issue = next(issue for issue in faults(raw) if key in issue.path)
        assert "must be a path of at most 4095 bytes, 255 in each name of it" in issue.message
    issue = next(issue for issue in faults(document(), (f"history=[{'x' * length}]",)))
    assert issue.path == "history[0]" and "--set history=[xxx" in issue.file
    assert read(data="x" * 255).experiments[0].foreground.data


def test_a_limit_of_sms_needs_mps() -> None:
    (issue,) = faults(document({**PAIR, "mps_active_threads": "fractions"}))
    assert issue.path == "experiments[0].mps_active_threads" and "sharing: mps" in issue.message
    (issue,) = faults(document({**PAIR, "sharing": "time_slice", "mps_active_threads": "fractions"}))
    assert issue.path == "experiments[0].mps_active_threads"
    (issue,) = faults(document(dict(PAIR), mps_active_threads="fractions"))
    assert issue.path == "experiments[0].mps_active_threads"
    alone = {**ITEM, "mode": "default"}
    items = [{**PAIR, "sharing": "mps"}, {**PAIR, "sharing": "time_slice"}, alone]
    campaign = load(document(*items, mps_active_threads="fractions"), (), CATALOG)
    assert [item.mps_active_threads for item in campaign.experiments] == ["fractions", "all", "all"]
    assert load(campaign.to_dict(), (), CATALOG).experiments == campaign.experiments
