"""Small configs, and what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from profiler.config import Campaign, load
from profiler.errors import ConfigError, ConfigIssue
from profiler.workloads import load_catalog

CATALOG = load_catalog()
ITEM: dict[str, Any] = {"repo": "examples", "model": "mnist_cnn"}
PAIR: dict[str, Any] = {
    "mode": "parallel",
    "foreground": {"repo": "pytorch_resnet_cifar10", "model": "resnet20", "mutate": ["learning_rate"]},
    "background": {"repo": "VulBERTa", "model": "mlp", "hyperparameters": {"epochs": 1}},
}


def document(*items: dict[str, Any], **top: Any) -> dict[str, Any]:
    return {"name": "test", "seed": 1, "experiments": list(items) or [dict(ITEM)], **top}


def read(*items: dict[str, Any], overrides: tuple[str, ...] = (), **top: Any) -> Campaign:
    return load(document(*items, **top), overrides, CATALOG)


def faults(source: Any, overrides: tuple[str, ...] = ()) -> list[ConfigIssue]:
    with pytest.raises(ConfigError) as caught:
        load(source, overrides, CATALOG)
    assert caught.value.exit_code == 2
    for issue in caught.value.issues:
        json.dumps(issue.to_json(), allow_nan=False)
        assert issue.message and len(str(issue)) < 2000
    return caught.value.issues


def paths(source: Any, overrides: tuple[str, ...] = ()) -> list[str]:
    return [issue.path for issue in faults(source, overrides)]


def only(source: Any, overrides: tuple[str, ...] = ()) -> ConfigIssue:
    issues = faults(source, overrides)
    assert len(issues) == 1, issues
    return issues[0]
