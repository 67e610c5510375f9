"""Manifests of the real repositories with stand-ins as trainers: same models, values and plans, half a second a run.

Nothing but the command, the data and the checkouts is another one, so a config plans here exactly what it plans there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from profiler.workloads import ModelSpec, load_catalog

REPOS = Path(__file__).parents[2] / "repos"
TRAINER = Path(__file__).parents[1] / "fakes" / "trainers" / "stand_in.py"
LEFT_OUT = ("command", "data", "checkout", "can_repeat", "multi_gpu")


def make(folder: Path) -> Path:
    """A folder for PROFILER_REPOS with the stand-in of each repository; returns it."""
    catalog = load_catalog()
    for manifest in sorted(REPOS.glob("*/workload.yaml")):
        name = manifest.parent.name
        target = folder / name
        target.mkdir(parents=True)
        facts = target / "facts.json"
        facts.write_text(json.dumps({model: _facts(spec) for model, spec in catalog.repos[name].models.items()}))
        document = _without(yaml.safe_load(manifest.read_text()))
        document["models"] = {model: _without(own or {}) for model, own in document["models"].items()}
        document["command"] = ["{python}", "-S", str(TRAINER), str(facts), "{model}", "{hyperparameters}"]
        (target / "workload.yaml").write_text(yaml.safe_dump(document))
    return folder


def _without(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in LEFT_OUT}


def _facts(spec: ModelSpec) -> dict[str, Any]:
    return {
        "flags": {parameter.flag: [name, parameter.type] for name, parameter in spec.hyperparameters.items()},
        "epochs": spec.epochs_parameter,
        "metrics": dict.fromkeys(spec.metrics, 0.5),
    }
