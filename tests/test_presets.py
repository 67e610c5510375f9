"""The presets: all load and plan with the counts they promise; documents made from code are up to date."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from profiler.config import Campaign, load
from profiler.planner import Plan, make_plan
from tests.config.helpers import CATALOG

ROOT = Path(__file__).parents[1]
COUNTS = {
    "quickstart": 3,
    "default": 15,
    "all": 17,
    "parallel_example": 2,
    "parallel_with_script_reuse": 2,
    "parallel_feasibility_test": 12,
    "parallel_laptop": 1,
    "minimal_validation": 14,
    "mutation_all_models_2x_dynamic": 160,
    "gpu_memory_cleanup_test": 10,
    "learning_rate_study": 7,
}


def preset(name: str) -> Campaign:
    return load(ROOT / "configs" / f"{name}.yaml", catalog=CATALOG)


def plan_of(name: str) -> Plan:
    return make_plan(preset(name), CATALOG)


def test_these_are_the_presets() -> None:
    assert {path.stem for path in (ROOT / "configs").glob("*.yaml")} == COUNTS.keys()


@pytest.mark.parametrize("name", COUNTS)
def test_a_preset_plans_with_its_count(name: str) -> None:
    plan = plan_of(name)
    assert len(plan) == COUNTS[name]
    assert plan.campaign.name == name and plan.campaign.description
    assert plan.campaign.governor is None
    assert make_plan(load(plan.campaign.to_dict(), catalog=CATALOG), CATALOG).digest == plan.digest


def test_the_quick_start_is_quick_and_always_the_same() -> None:
    plan = plan_of("quickstart")
    assert plan.digest == plan_of("quickstart").digest
    assert {(run.repo, run.model, run.mode) for run in plan} == {("examples", "mnist_cnn", "mutation")}
    assert {(run.hyperparameters["epochs"], run.hyperparameters["batch_size"]) for run in plan} == {(1, 32)}
    assert len({run.hyperparameters["learning_rate"] for run in plan}) == 3
    assert {run.size for run in plan} == {"full"}
    assert all(run.cooling.seconds is not None and run.cooling.seconds <= 5 for run in plan)


def test_all_has_every_model_once() -> None:
    models = [(run.repo, run.model) for run in plan_of("all")]
    assert len(set(models)) == 17
    assert set(models) <= {(model.repo, model.name) for model in CATALOG.models()}
    defaults = plan_of("default")
    assert {(run.repo, run.model) for run in defaults} < set(models)
    for run in defaults:
        assert run.hyperparameters == CATALOG.resolve(run.repo, run.model).defaults()


def test_the_pairs_of_the_feasibility_test_fit_their_limit() -> None:
    plan = plan_of("parallel_feasibility_test")
    assert all(run.mode == "parallel" and run.foreground_mode == "default" for run in plan)
    assert {run.hyperparameters["epochs"] for run in plan} == {1}
    memory = [run.memory_mib for run in plan]
    assert min(memory) >= 1000 and max(memory) <= 5500 < 7500
    assert {run.memory_mib for run in plan} != {0}


def test_the_big_campaign_mutates_one_parameter_at_a_time_alone_and_in_pairs() -> None:
    plan = plan_of("mutation_all_models_2x_dynamic")
    assert {len(run.mutated) for run in plan} == {1}
    assert sum(run.mode == "parallel" for run in plan) == 80 == sum(run.mode == "mutation" for run in plan)
    assert len({(run.repo, run.model) for run in plan}) == 11


def test_the_laptop_pair_needs_no_gpu_to_be_worth_running() -> None:
    (run,) = plan_of("parallel_laptop")
    assert run.background is not None
    assert {run.repo, run.background.repo} == {"examples"}
    assert run.size == run.background.size == "reduced"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_documents_made_from_code_are_up_to_date(generator: ModuleType) -> None:
    documents = {name: render() for name, render in generator.DOCUMENTS}
    assert generator.stale(documents) == [], "run: python docs/generate.py"


def test_a_stale_document_is_noticed(generator: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert generator.stale({"docs/configuration.md": "old", "docs/none.md": ""}) == [
        "docs/configuration.md",
        "docs/none.md",
    ]
    assert generator.main(["--nonsense"]) == 2
    assert "usage" in capsys.readouterr().err
