"""Manifest and trainer name the same hyperparameters, with the same defaults, for every model that has a trainer."""

import importlib.util
import sys
from types import ModuleType

import pytest

from profiler.workloads import ModelSpec, load_catalog
from tests.repos.trainings import REPOS

MODELS = [spec for spec in load_catalog().models() if spec.command is not None and spec.folder.parent == REPOS]


def program(spec: ModelSpec) -> ModuleType:
    """The model's train.py as a module; it imports nothing heavy."""
    loaded = importlib.util.spec_from_file_location(f"train_{spec.repo}", spec.folder / "train.py")
    assert loaded is not None and loaded.loader is not None
    module = importlib.util.module_from_spec(loaded)
    before = list(sys.path)
    try:
        loaded.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: f"{spec.repo}-{spec.name}")
def test_the_command_line_says_what_the_manifest_says(spec: ModelSpec) -> None:
    parse = program(spec).parse_options
    _, _, *arguments = spec.argv(spec.defaults(), python="python")
    chosen = vars(parse(arguments))
    assert {name: chosen[name] for name in spec.hyperparameters} == spec.defaults()
    bare = vars(parse(["--model", spec.name]))
    assert {name: bare[name] for name in spec.hyperparameters} == spec.defaults()


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: f"{spec.repo}-{spec.name}")
def test_every_value_of_the_range_arrives_unrounded(spec: ModelSpec) -> None:
    parse = program(spec).parse_options
    for name, parameter in spec.hyperparameters.items():
        if parameter.range is not None:
            low, high = parameter.range
            value = low + (high - low) / 3
            value = round(value) if parameter.type == "int" else value
            arguments = spec.argv(spec.defaults() | {name: value}, python="python")[2:]
            assert vars(parse(list(arguments)))[name] == value
