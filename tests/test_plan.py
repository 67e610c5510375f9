"""Plans: every run before anything starts, the same for the same seed, unique, checked against memory and history."""

from __future__ import annotations

import copy
import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from profiler.config import load
from profiler.errors import CannotRunError, ConfigError, ConfigIssue
from profiler.history import History
from profiler.planner import Plan, PlannedRun, make_plan
from profiler.preflight import check_campaign
from profiler.store import write
from profiler.workloads import Catalog, load_catalog
from tests import campaigns
from tests.config.helpers import CATALOG, ITEM, PAIR, document
from tests.report.sessions import Run, make_session, run_row

BUG = {"repo": "bug-localization-by-dnn-and-rvsm", "model": "default"}


def planned(*items: dict[str, Any], history: History | None = None, **top: Any) -> Plan:
    return make_plan(load(document(*items, **top), catalog=CATALOG), CATALOG, history)


def refused(*items: dict[str, Any], **top: Any) -> list[ConfigIssue]:
    with pytest.raises(ConfigError) as caught:
        planned(*items, **top)
    return caught.value.issues


def column(plan: Plan | Sequence[PlannedRun], name: str) -> list[Any]:
    return [run.hyperparameters[name] for run in plan]


# Runs and their numbers


def test_runs_are_numbered_over_the_whole_plan() -> None:
    plan = planned(
        {**ITEM, "model": "mnist", "mutate": ["epochs"], "runs_per_config": 2}, PAIR, {**BUG, "mutate": "all"}
    )
    assert [run.experiment_id for run in plan] == [
        "examples_mnist_cnn_001",
        "examples_mnist_cnn_002",
        "pytorch_resnet_cifar10_resnet20_003_parallel",
        "bug-localization-by-dnn-and-rvsm_default_004",
    ]
    assert [run.index for run in plan] == [1, 2, 3, 4]
    assert [run.item for run in plan] == [0, 0, 1, 2]
    assert [(run.mode, run.foreground_mode) for run in plan[1:3]] == [
        ("mutation", "mutation"),
        ("parallel", "mutation"),
    ]
    assert planned({**ITEM, "mode": "default"}, runs_per_config=1001)[1000].experiment_id == "examples_mnist_cnn_1001"


@pytest.mark.parametrize(
    ("line", "open_end"),
    [
        ("metrics: {score: {direction: minimize}}", False),
        ("metrics: {score: {direction: minimize, pattern: 'score (.+)'}}", True),
        ("metrics: {score: {direction: minimize, pattern: 'score (.+)'}}\ncompletion_pattern: done", False),
        ("metrics: {score: {direction: minimize}}\neffective_patterns: {steps: 'steps (.+)'}", True),
        ("metrics: {score: {direction: minimize}}\nepoch_pattern: '^epoch'", True),
        ("metrics: {score: {direction: minimize}}\ntrust_argv: true", True),
    ],
)
def test_a_program_whose_end_nothing_tells_is_noted_once(line: str, open_end: bool, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "workload.yaml").write_text(
        "description: mine\ncommand: [sh, '{folder}/train.sh', '{hyperparameters}']\n"
        "hyperparameters: {steps: {flag: --steps, type: int, default: 3, range: [1, 9]}}\n"
        f"primary_metric: score\nmodels: {{small: {{}}}}\n{line}\n"
    )
    catalog = load_catalog([tmp_path])
    item = {"repo": "mine", "model": "small"}
    plan = make_plan(load(document(item, dict(item)), catalog=catalog), catalog)
    assert ["completion_pattern" in note and "mine / small" in note for note in plan.notes] == [True] * open_end


def test_each_run_holds_the_complete_vector() -> None:
    plan = planned({**ITEM, "mutate": ["learning_rate", "epochs"], "fixed_hyperparameters": {"batch_size": 64}}, PAIR)
    run, pair = plan
    assert list(run.hyperparameters) == ["epochs", "learning_rate", "batch_size", "seed", "size"]
    assert (run.hyperparameters["batch_size"], run.hyperparameters["seed"]) == (64, 1)
    assert run.mutated == ("learning_rate", "epochs")
    assert pair.background is not None
    assert pair.background.hyperparameters == {
        "epochs": 1,
        "learning_rate": 3e-05,
        "weight_decay": 0.0,
        "batch_size": 4,
        "seed": 42,
        "size": "full",
    }
    assert (pair.fraction, pair.background.fraction, run.fraction) == (0.7, 0.3, 1.0)
    assert pair.memory_mib == 700 + 1400 and run.memory_mib == 500


def test_n_runs_change_all_named_parameters_together() -> None:
    plan = planned({**ITEM, "mutate": ["learning_rate", "epochs"], "runs_per_config": 20})
    defaults = {"learning_rate": 0.01, "batch_size": 32, "seed": 1}
    assert len(plan) == 20
    for name in ("batch_size", "seed"):
        assert set(column(plan, name)) == {defaults[name]}
    assert len(set(column(plan, "learning_rate"))) == 20
    assert all(5 <= epochs <= 15 and type(epochs) is int for epochs in column(plan, "epochs"))
    assert all(0.005 <= rate <= 0.02 and type(rate) is float for rate in column(plan, "learning_rate"))


def test_default_items_run_as_often_as_they_say() -> None:
    plan = planned({**ITEM, "mode": "default", "hyperparameters": {"epochs": 3}, "runs_per_config": 3})
    assert column(plan, "epochs") == [3, 3, 3]
    assert [run.mutated for run in plan] == [()] * 3


def test_baselines_come_before_mutated_runs() -> None:
    plan = planned({**ITEM, "mutate": ["epochs"], "fixed_hyperparameters": {"seed": 7}, "baseline_runs": 2})
    assert [(run.mode, run.mutated) for run in plan] == [("default", ()), ("default", ()), ("mutation", ("epochs",))]
    assert column(plan, "epochs")[:2] == [10, 10] and column(plan, "seed") == [7, 7, 7]
    raw = {**copy.deepcopy(PAIR), "baseline_runs": 1}
    pair = planned(raw)
    assert [(run.model, run.mode, run.foreground_mode) for run in pair] == [
        ("resnet20", "default", "default"),
        ("mlp", "default", "default"),
        ("resnet20", "parallel", "default"),
        ("resnet20", "parallel", "mutation"),
    ]
    assert [run.memory_mib for run in pair] == [700, 1400, 2100, 2100]
    assert pair[1].hyperparameters["epochs"] == 1 and pair[1].background is None


def test_settings_reach_the_runs() -> None:
    raw = copy.deepcopy(PAIR)
    raw["background"].update(cpus=1, startup_wait_seconds=30, timeout_seconds=60, data="/b", fraction=0.25)
    raw["foreground"].update(cpus=2, timeout_seconds=90)
    raw.update(cooling={"seconds": 4}, max_retries=0, note="a pair", size="reduced")
    run = planned(raw, data="/d")[0]
    assert run.background is not None
    assert (run.cpus, run.timeout_seconds, run.data, run.size, run.note) == (2, 90, "/d", "reduced", "a pair")
    assert (run.cooling.seconds, run.max_retries, run.fraction) == (4, 0, 0.7)
    background = run.background
    assert (background.cpus, background.timeout_seconds, background.data, background.size) == (1, 60, "/b", "reduced")
    assert (background.startup_wait_seconds, background.startup_timeout_seconds) == (30, 120)
    assert (background.mode, background.min_busy_share, background.fraction) == ("loop", None, 0.25)


def test_estimates_are_of_full_size_or_nothing() -> None:
    full, small, unknown, pair = planned(
        {**ITEM, "mode": "default"},
        {**ITEM, "mode": "default", "size": "reduced"},
        {"repo": "examples", "model": "mnist_ff", "mode": "default"},
        PAIR,
    )
    assert full.estimated_seconds == pytest.approx(143) and full.estimated_gpu_energy_j == pytest.approx(143 * 92)
    assert (small.estimated_seconds, small.estimated_gpu_energy_j) == (None, None)
    assert unknown.estimated_seconds is None
    assert pair.estimated_seconds is not None and pair.estimated_gpu_energy_j is None


# Grids


def test_a_grid_is_gone_through_in_order() -> None:
    plan = planned({**ITEM, "values": {"learning_rate": [0.01, 0.1], "epochs": [1, 2]}})
    assert list(zip(column(plan, "learning_rate"), column(plan, "epochs"), strict=True)) == [
        (0.01, 1),
        (0.01, 2),
        (0.1, 1),
        (0.1, 2),
    ]
    assert {run.mutated for run in plan} == {("epochs", "learning_rate")}
    twice = planned({**ITEM, "values": {"epochs": [1, 2]}, "runs_per_config": 2})
    assert column(twice, "epochs") == [1, 1, 2, 2]


def test_what_is_not_in_the_grid_is_drawn_for_each_point() -> None:
    item = {**ITEM, "mutate": ["epochs", "seed"], "values": {"epochs": [1, 2]}, "runs_per_config": 3}
    plan = planned(item)
    assert column(plan, "epochs") == [1, 1, 1, 2, 2, 2]
    assert len(set(zip(column(plan, "epochs"), column(plan, "seed"), strict=True))) == 6


def test_drawing_keeps_off_the_points_of_a_later_grid() -> None:
    first = {**BUG, "mutate": ["kfold"], "runs_per_config": 5}
    grid = {**BUG, "values": {"kfold": [2, 3, 4]}}
    plan = planned(first, grid)
    assert sorted(column(plan[:5], "kfold")) == [5, 6, 7, 8, 9]
    (issue,) = refused({**first, "runs_per_config": 6}, grid)
    assert "8 exist, of which 3 are taken" in issue.message


# Uniqueness


def test_too_few_values_is_an_error_that_counts_them() -> None:
    assert sorted(column(planned({**BUG, "mutate": ["kfold"], "runs_per_config": 8}), "kfold")) == list(range(2, 10))
    (issue,) = refused({**BUG, "mutate": ["kfold"], "runs_per_config": 9})
    assert issue.path == "experiments[0].mutate"
    assert "9 runs need as many unique values of kfold; beside the default 8 exist" in issue.message
    pair = copy.deepcopy(PAIR)
    pair["foreground"].update(mutate=["epochs"], ranges={"epochs": {"min": 1, "max": 3}}, runs_per_config=9)
    issues = refused({**BUG, "mutate": ["kfold"], "runs_per_config": 9}, pair)
    assert [issue.path for issue in issues] == ["experiments[0].mutate", "experiments[1].foreground.mutate"]


def test_values_are_unique_over_items_but_apart_by_mode() -> None:
    solo = {**BUG, "mutate": ["kfold"], "runs_per_config": 4}
    pair = {"mode": "parallel", "foreground": solo, "background": {"repo": "examples", "model": "siamese"}}
    plan = planned(solo, solo, pair, pair)
    assert sorted(column(plan[:8], "kfold")) == list(range(2, 10))
    assert sorted(column(plan[8:], "kfold")) == list(range(2, 10))
    assert refused(solo, solo, {**solo, "runs_per_config": 1})


def test_the_whole_vector_counts() -> None:
    """The same kfold beside another fixed alpha is another vector."""
    first = {**BUG, "mutate": ["kfold"], "runs_per_config": 8}
    second = {**first, "fixed_hyperparameters": {"alpha": 1e-6}}
    plan = planned(first, second)
    assert len({json.dumps(dict(run.hyperparameters), sort_keys=True) for run in plan}) == 16


# Seeds


def many_items() -> list[dict[str, Any]]:
    return [
        {**ITEM, "mutate": "all", "runs_per_config": 5},
        {**BUG, "mutate": ["max_iter", "alpha"], "runs_per_config": 5},
        {**copy.deepcopy(PAIR), "runs_per_config": 5},
    ]


def test_the_same_seed_gives_the_same_plan_in_any_process() -> None:
    here = json.dumps(planned(*many_items(), seed=7).to_json())
    code = (
        "import sys, json; from profiler.config import load; from profiler.planner import make_plan;"
        "print(json.dumps(make_plan(load(json.load(sys.stdin))).to_json()))"
    )
    text = json.dumps(document(*many_items(), seed=7))
    for hash_seed in ("0", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code], input=text, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == here
    assert planned(*many_items(), seed=8).digest != planned(*many_items(), seed=7).digest


def test_a_resolved_campaign_gives_the_same_plan() -> None:
    campaign = load(document(*many_items(), seed=3), catalog=CATALOG)
    again = load(campaign.to_dict(), catalog=CATALOG)
    assert json.dumps(make_plan(again, CATALOG).to_json()) == json.dumps(make_plan(campaign, CATALOG).to_json())


def test_other_items_do_not_change_what_an_item_draws() -> None:
    first, second, third = many_items()
    alone = planned(second)
    beside = planned(first, second, {**third, "runs_per_config": 9})
    assert [run.hyperparameters for run in beside[5:10]] == [run.hyperparameters for run in alone]
    more = planned({**second, "runs_per_config": 9, "timeout_seconds": 3, "note": "x"})
    assert [run.hyperparameters for run in more[:5]] == [run.hyperparameters for run in alone]


def test_floats_are_exact_from_plan_to_argv() -> None:
    spec = CATALOG.resolve("examples", "mnist_cnn")
    for run in planned({**ITEM, "mutate": ["learning_rate"], "runs_per_config": 50}):
        rate = run.hyperparameters["learning_rate"]
        argv = spec.argv(run.hyperparameters, python="p")
        assert float(argv[argv.index("--learning-rate") + 1]) == rate
        assert json.loads(json.dumps(run.to_json()))["hyperparameters"]["learning_rate"] == rate


# Memory and size of the plan


def test_memory_is_checked_with_the_arithmetic_shown() -> None:
    assert len(planned(PAIR, memory_limit_mib=2100)) == 1
    issues = refused(PAIR, {**ITEM}, {**PAIR, "memory_limit_mib": 99999}, memory_limit_mib=499)
    assert [issue.path for issue in issues] == ["experiments[0]", "experiments[1]"]
    assert "resnet20 700 MiB (manifest) + mlp 1400 MiB (manifest) = 2100 MiB > 499 MiB" in issues[0].message
    assert "mnist_cnn 500 MiB (manifest) > 499 MiB" in issues[1].message


def test_memory_is_checked_for_every_point_of_a_grid(tmp_path: Path) -> None:
    """A batch of 4,096 was seen to take 3,000 MiB; the base values take the manifest's 500."""
    values = {**CATALOG.resolve("examples", "mnist_cnn").defaults(), "batch_size": 4096, "epochs": 3}
    run = Run(values=values)
    folder = make_session(tmp_path, [run], traces=False)
    seen = run_row(folder, 1, run, run, 1, 30.0, is_final=True)
    write.write_run(folder, {**seen, "gpu_memory_foreground_mib": 3000.0})
    grid = {"repo": "examples", "model": "mnist_cnn", "mode": "mutation", "values": {"batch_size": [32, 4096]}}
    known = {"history": [str(folder.root)]}
    with pytest.raises(ConfigError) as caught:
        make_plan(load(document(grid, **known, memory_limit_mib=2000), catalog=CATALOG))
    (issue,) = caught.value.issues
    assert "mnist_cnn 3150 MiB (measured in 1 run) with batch_size 4096 > 2000 MiB" in issue.message
    assert len(make_plan(load(document(grid, **known, memory_limit_mib=3200), catalog=CATALOG))) == 2


def test_base_values_that_no_run_has_refuse_nothing(tmp_path: Path) -> None:
    """A batch of 16 was seen to take 300 MiB and is all that is planned; the base values take the manifest's 500."""
    run = Run(values={**CATALOG.resolve("examples", "mnist_cnn").defaults(), "batch_size": 16})
    folder = make_session(tmp_path, [run], traces=False)
    write.write_run(
        folder, {**run_row(folder, 1, run, run, 1, 30.0, is_final=True), "gpu_memory_foreground_mib": 300.0}
    )
    small = {
        "repo": "examples",
        "model": "mnist_cnn",
        "mode": "mutation",
        "values": {"batch_size": [16], "epochs": [7]},
    }
    known = {"history": [str(folder.root)]}
    (planned_run,) = make_plan(load(document(small, **known, memory_limit_mib=400), catalog=CATALOG))
    assert planned_run.memory_mib == pytest.approx(315)
    kept = make_plan(load(document(small, **known, use_deduplication=False, memory_limit_mib=400), catalog=CATALOG))
    assert kept.notes == ("use_deduplication is false: the listed history tells of memory only",)
    with pytest.raises(ConfigError, match=r"mnist_cnn 315 MiB \(measured in 1 run\) with .*batch_size 16.* > 300 MiB"):
        make_plan(load(document(small, **known, memory_limit_mib=300), catalog=CATALOG))


def test_a_limit_of_one_training_is_refused_for_a_process_that_trains_again_and_again() -> None:
    warm = {**PAIR, "background": {**PAIR["background"], "mode": "reuse"}}
    check_campaign(planned(warm), CATALOG)
    limited = {**warm, "background": {**warm["background"], "timeout_seconds": 60}}
    with pytest.raises(CannotRunError, match=r"timeout_seconds: 60 would end the one process.*use mode loop"):
        check_campaign(planned(limited), CATALOG)


def test_an_unknown_need_of_memory_is_said_where_it_counts() -> None:
    """Here by a manifest without `memory_mib`, and no session that has measured it."""
    quick_repo = load_catalog([campaigns.REPOS]).repos["quick"]
    model = quick_repo.models["quick"].model_copy(update={"memory_mib": 0.0})
    catalog = Catalog({"quick": replace(quick_repo, models={"quick": model})})
    items = campaigns.quick(), {**campaigns.quick(), "memory_limit_mib": 1}, campaigns.pair({}, {})
    notes = [make_plan(load(document(item), catalog=catalog), catalog).notes for item in items]
    assert [len(told) for told in notes] == [0, 1, 1]
    assert notes[1] == notes[2] and "quick / quick: nothing tells how much GPU memory it needs" in notes[1][0]


def test_a_model_without_gpu_needs_no_gpu_memory() -> None:
    pair = {"mode": "parallel", "foreground": BUG, "background": {"repo": "VulBERTa", "model": "mlp"}}
    assert planned(pair, memory_limit_mib=1400)[0].memory_mib == 1400


def test_an_endless_plan_is_refused_at_once() -> None:
    grid = {**ITEM, "values": {"epochs": list(range(1, 1002)), "seed": list(range(1001))}}
    (issue,) = refused(grid)
    assert issue.path == "experiments" and "at most 1000000" in issue.message


def test_a_large_plan_is_quick() -> None:
    plan = planned({**ITEM, "mutate": ["learning_rate"], "runs_per_config": 3000})
    assert len(set(column(plan, "learning_rate"))) == 3000


# The plan as data


def test_a_plan_is_a_sequence_and_a_table() -> None:
    plan = planned({**ITEM, "mutate": ["epochs"]}, PAIR)
    assert len(plan) == 2 and plan[-1] is plan.runs[1] and [run.index for run in plan] == [1, 2]
    table = plan.to_pandas()
    assert list(table["experiment_id"]) == [run.experiment_id for run in plan]
    assert list(table["background_model"].fillna("")) == ["", "mlp"]
    assert table["hp_epochs"][0] == plan[0].hyperparameters["epochs"]
    assert table["background_hp_batch_size"][1] == 4
    text = plan.to_json()
    assert text.keys() == {"name", "seed", "runs", "notes"}
    assert text["runs"][0]["background"] is None
    assert text["runs"][1]["background"]["hyperparameters"]["epochs"] == 1
    assert json.loads(json.dumps(text, allow_nan=False)) == text


def test_what_a_run_asks_of_a_cluster_shows_in_the_plan() -> None:
    raw = copy.deepcopy(PAIR)
    raw.update(gpu_model="H100", resources={"fast": 1})
    (run,) = planned(raw).to_json()["runs"][:1]
    assert (run["gpus"], run["gpu_model"], run["resources"]) == (1, "H100", {"fast": 1})


# History

HEAD = ["experiment_id", "timestamp", "repository", "model", "training_success", "duration_seconds", "retries"]


def write_csv(path: Path, rows: Sequence[Mapping[str, str]]) -> str:
    names = [*HEAD, *sorted({name for row in rows for name in row} - set(HEAD)), "perf_accuracy"]
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        for row in rows:
            plain = {
                "experiment_id": "x_001",
                "repository": BUG["repo"],
                "model": "default",
                "training_success": "True",
            }
            writer.writerow({**plain, **row})
    return str(path)


def kfolds_left(history: str, count: int, **top: Any) -> list[int]:
    item = {**BUG, "mutate": ["kfold"], "runs_per_config": count}
    return sorted(column(planned(item, use_deduplication=True, historical_csvs=[history], **top), "kfold"))


def test_what_history_ran_validly_is_not_drawn_again(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "summary.csv",
        [
            {"hyperparam_kfold": "7"},
            {"hyperparam_kfold": "6.000000", "hyperparam_max_iter": "10000", "hyperparam_alpha": "1e-05"},
            {"hyperparam_kfold": "5", "hyperparam_epochs": "10000", "hyperparam_learning_rate": "0.001"},
            {"hyperparam_kfold": "4", "training_success": "False"},
            {"hyperparam_kfold": "3", "experiment_id": "x_002_parallel"},
            {"hyperparam_kfold": "3", "mode": "default"},
            {"hyperparam_kfold": "3", "hyperparam_alpha": "1.0000001e-05"},
            {"hyperparam_kfold": "3", "hyperparam_seed": "43"},
            {"hyperparam_kfold": "2.0000001"},
            {"hyperparam_kfold": "2", "hyperparam_dropout": "0.5"},
            {"hyperparam_kfold": "2", "repository": "examples", "model": "mnist"},
            {"hyperparam_kfold": "2", "repository": "", "model": ""},
            {"hyperparam_kfold": "2", "hyperparam_epochs": "10000", "hyperparam_max_iter": "10000"},
        ],
    )
    assert kfolds_left(path, 5) == [2, 3, 4, 8, 9]
    with pytest.raises(ConfigError, match="8 exist, of which 3 are taken by other runs of this plan or by history: 5"):
        kfolds_left(path, 6)


def test_what_a_run_left_to_its_trainer_is_known_again(tmp_path: Path) -> None:
    """A batch size of null is the default there, and the trainer tells which it then took."""
    asked = {**CATALOG.resolve(BUG["repo"], "default").defaults(), "kfold": 7}
    assert asked["batch_size"] is None
    folder = make_session(tmp_path, [Run(values=asked)], traces=False)
    run = Run(repo=BUG["repo"], model="default", values=asked)
    row = run_row(folder, 1, run, run, 1, 30.0, is_final=True)
    told = {**asked, "batch_size": 200}
    write.write_run(folder, {**row, "requested_hyperparameters": asked, "hyperparameters": told})
    item = {**BUG, "mutate": ["kfold"], "runs_per_config": 7}
    known = {"use_deduplication": True, "history": [str(folder.root)]}
    plan = make_plan(load(document(item, **known), catalog=CATALOG), CATALOG)
    assert sorted(column(plan, "kfold")) == [2, 3, 4, 5, 6, 8, 9]


def test_a_row_of_ours_must_tell_every_value_and_any_row_as_many_cells_as_its_header(tmp_path: Path) -> None:
    """Empty means the default only in files of the old tool; ours have what the trainer said that it used."""
    defaults = CATALOG.resolve(BUG["repo"], "default").defaults()
    told = {f"hyperparam_{name}": str(value) for name, value in defaults.items() if value is not None}
    ours = {"mode": "mutation", "verdict": "valid"}
    path = write_csv(
        tmp_path / "summary.csv",
        [
            ours | told | {"hyperparam_kfold": "7"},
            ours | told | {"hyperparam_kfold": "6", "verdict": "failed"},
            ours | {"hyperparam_kfold": "5"},
            ours,
        ],
    )
    assert kfolds_left(path, 7) == [2, 3, 4, 5, 6, 8, 9]
    old = write_csv(tmp_path / "old.csv", [{"hyperparam_kfold": "7"}, {"hyperparam_kfold": "6"}])
    lines = Path(old).read_text().splitlines()
    Path(old).write_text("\n".join([lines[0], lines[1] + ",1,2", lines[2].rpartition(",")[0]]) + "\n")
    assert kfolds_left(old, 8) == [2, 3, 4, 5, 6, 7, 8, 9]


def test_history_is_off_unless_wanted_and_then_said(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "summary.csv", [{"hyperparam_kfold": str(value)} for value in range(2, 10)])
    item = {**BUG, "mutate": ["kfold"]}
    plan = planned(item, historical_csvs=[path], use_deduplication=False)
    assert plan.notes == ("use_deduplication is false: the listed history is not used",)
    with pytest.raises(ConfigError, match="8 are taken"):
        planned(item, historical_csvs=[path])
    other = planned({**ITEM, "mutate": ["epochs"]}, historical_csvs=[path])
    assert other.notes == ("historical_csvs[0]: 8 rows, 8 count as done, 0 were not valid, 0 are not understood",)


def test_old_rows_without_a_value_mean_the_default(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "s.csv",
        [{"repository": "examples", "model": "mnist_ff", "hyperparam_epochs": "7", "hyperparam_batch_size": ""}],
    )
    item = {"repo": "examples", "model": "mnist_forward_forward", "mutate": ["epochs"], "runs_per_config": 9}
    plan = planned(item, historical_csvs=[path])
    assert sorted(column(plan, "epochs")) == [5, 6, 8, 9, 11, 12, 13, 14, 15]


def test_grid_points_that_history_has_are_left_out_and_said(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "summary.csv", [{"hyperparam_kfold": "3"}])
    grid = {**BUG, "values": {"kfold": [2, 3, 4]}}
    plan = planned(grid, historical_csvs=[path])
    assert column(plan, "kfold") == [2, 4]
    assert any("1 of 3 points are left out" in note for note in plan.notes)
    (issue,) = refused({**BUG, "values": {"kfold": [3]}}, historical_csvs=[path])
    assert "nothing is left to run" in issue.message


def write_session(folder: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    kind = pa.schema(
        [
            ("repo", pa.string()),
            ("model", pa.string()),
            ("mode", pa.string()),
            ("hyperparameters", pa.map_(pa.string(), pa.string())),
            ("requested_hyperparameters", pa.map_(pa.string(), pa.string())),
            ("valid", pa.bool_()),
        ]
    )
    runs = folder / "dataset" / "runs"
    runs.mkdir(parents=True)
    for number, row in enumerate(rows):
        whole = {"repo": BUG["repo"], "model": "default", "mode": "mutation", "valid": True, **row}
        for name in ("hyperparameters", "requested_hyperparameters"):
            if whole.get(name) is not None:
                whole[name] = [(key, json.dumps(value)) for key, value in whole[name].items()]
        pq.write_table(pa.Table.from_pylist([whole], kind), runs / f"{number}.parquet")
    (runs / ".half-written.parquet").write_bytes(b"PAR1")
    return str(folder)


def test_session_folders_are_history(tmp_path: Path) -> None:
    defaults = CATALOG.resolve(BUG["repo"], "default").defaults()
    path = write_session(
        tmp_path / "run_20260101_000000",
        [
            {"hyperparameters": {**defaults, "kfold": 7}},
            {"hyperparameters": {**defaults, "kfold": 6}, "valid": False},
            {"hyperparameters": {**defaults, "kfold": 5}, "mode": "parallel"},
            {"hyperparameters": None},
            {"hyperparameters": {**defaults, "kfold": 4, "alpha": 1.0000000000000002e-05}},
            {"hyperparameters": {"kfold": 3}},
            {"hyperparameters": {"kfold": 2}, "requested_hyperparameters": {**defaults, "kfold": 2, "seed": 43}},
        ],
    )
    item = {**BUG, "mutate": ["kfold"], "runs_per_config": 6}
    plan = make_plan(load(document(item, history=[path]), catalog=CATALOG))
    assert sorted(column(plan, "kfold")) == [2, 4, 5, 6, 8, 9]


@pytest.mark.parametrize(
    ("key", "make", "message"),
    [
        ("historical_csvs", lambda path: None, "cannot be read"),
        ("historical_csvs", lambda path: path.mkdir(), "cannot be read"),
        ("historical_csvs", lambda path: path.write_text(""), "is not a summary.csv"),
        ("historical_csvs", lambda path: path.write_text("a,b\n1,2\n"), "no column repository, model"),
        ("historical_csvs", lambda path: path.write_bytes(b"repository\xff"), "cannot be read"),
        ("history", lambda path: None, "is not a session folder"),
        ("history", lambda path: path.write_text(""), "is not a session folder"),
        ("history", lambda path: path.mkdir(), "is not a session folder"),
    ],
)
def test_an_unreadable_history_is_a_fault_at_its_key(tmp_path: Path, key: str, make: Any, message: str) -> None:
    path = tmp_path / "thing"
    make(path)
    campaign = load(document({**ITEM}, **{key: [str(path)]}), catalog=CATALOG)
    with pytest.raises(ConfigError, match=message) as caught:
        make_plan(campaign, CATALOG)
    assert caught.value.issues[0].path == f"{key}[0]"


def test_a_broken_parquet_file_is_a_fault(tmp_path: Path) -> None:
    folder = Path(write_session(tmp_path / "s", []))
    (folder / "dataset" / "runs" / "a.parquet").write_bytes(b"PAR1 nothing")
    campaign = load(document({**ITEM}, history=[str(folder)]), catalog=CATALOG)
    with pytest.raises(ConfigError, match=r"a\.parquet cannot be read"):
        make_plan(campaign, CATALOG)
