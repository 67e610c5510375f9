"""Whole campaigns through the command line: real Ray, real processes, real files."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset
import pytest
import yaml

import profiler
from profiler.process.command import Command
from profiler.process.launch import start
from profiler.store.layout import SessionFolder
from tests.campaigns import REPOS, config, pair, quick, run, run_json

pytestmark = pytest.mark.ray

# The kernel's out-of-memory killer is tried inside a small control group, where one can be made.
MEMORY_GROUPS = (Path("/sys/fs/cgroup/memory/cgroup.procs"), Path("/sys/fs/cgroup/cgroup.procs"))
HOST_OOM = ["host_oom"] if os.geteuid() == 0 and any(os.access(path, os.W_OK) for path in MEMORY_GROUPS) else []


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One campaign with a run of every behaviour, so that Ray starts once."""
    folder = tmp_path_factory.mktemp("campaign")
    behaviours = [
        *HOST_OOM,
        "good",
        "exit_3",
        "fail_once",
        "no_metric",
        "no_done",
        "wrong_rate",
        "out_of_range",
        "kill_self",
        "oom",
        "oom_in_its_log",
    ]
    experiments = [quick(behaviour=name, marker=str(folder / "once")) for name in behaviours]
    experiments.append(quick(epochs=100, epoch_seconds=1.0) | {"timeout_seconds": 1.0})
    path = config(folder, experiments, max_retries=1)
    document = run_json("run", path, "--results", folder / "results", expect=1)
    rows = dict(zip([*behaviours, "timeout"], document["runs"], strict=True))
    return {"folder": Path(document["path"]), "rows": rows}


def test_every_planned_run_has_its_row(many: dict[str, Any]) -> None:
    assert [row["index"] for row in many["rows"].values()] == list(range(1, len(many["rows"]) + 1))
    assert all(row["is_final"] for row in many["rows"].values())


@pytest.mark.parametrize(
    ("behaviour", "verdict", "reason", "attempts"),
    [
        ("good", "valid", None, 1),
        ("exit_3", "failed", "exit", 2),
        ("fail_once", "valid", None, 2),
        ("no_metric", "failed", "metric_missing", 1),
        ("no_done", "failed", "not_finished", 1),
        ("wrong_rate", "failed", "parameter_not_applied", 1),
        ("out_of_range", "failed", "metric_out_of_range", 1),
        ("kill_self", "failed", "signal", 2),
        ("oom", "failed", "oom", 1),
        ("oom_in_its_log", "failed", "oom", 1),
        *((name, "failed", "oom", 1) for name in HOST_OOM),
        ("timeout", "failed", "timeout", 1),
    ],
)
def test_each_behaviour_gets_its_verdict(
    many: dict[str, Any], behaviour: str, verdict: str, reason: str | None, attempts: int
) -> None:
    row = many["rows"][behaviour]
    assert row["verdict"] == verdict
    assert reason is None or reason in row["reasons"]
    assert row["attempt"] == attempts
    assert row["valid"] == (verdict != "failed")
    assert (row["error_message"] == "") == row["valid"]


def test_the_values_are_the_same_everywhere(many: dict[str, Any]) -> None:
    row = many["rows"]["good"]
    session = profiler.open(many["folder"])
    frame = session.runs(flat=True)
    record = json.loads((many["folder"] / row["experiment_id"] / "experiment.json").read_text())
    table = duckdb.sql(
        f"select metrics from '{many['folder']}/dataset/runs/*.parquet' where experiment_id = '{row['experiment_id']}'"
    )
    with (many["folder"] / "summary.csv").open() as stream:
        summary = {line["experiment_id"]: line for line in csv.DictReader(stream)}
    assert row["metrics"]["accuracy"] == 0.75
    assert record["performance_metrics"]["accuracy"] == 0.75
    assert float(frame.set_index("experiment_id").loc[row["experiment_id"], "metric_accuracy"]) == 0.75
    assert dict(table.fetchall()[0][0])["accuracy"] == 0.75
    assert float(summary[row["experiment_id"]]["perf_accuracy"]) == 0.75


def test_requested_and_effective_values_agree_to_the_bit(many: dict[str, Any]) -> None:
    row = many["rows"]["good"]
    assert row["hyperparameters"] == row["requested_hyperparameters"]
    assert row["effective_source"] == "event"
    assert many["rows"]["wrong_rate"]["hyperparameters"]["learning_rate"] == 0.2


def test_energy_is_a_number_or_has_a_reason(many: dict[str, Any]) -> None:
    row = many["rows"]["good"]
    for column in ("cpu_package_energy_j", "dram_energy_j", "cpu_energy_total_j", "gpu_energy_j", "gpu_power_mean_w"):
        assert (row[column] is None) == (column in row["null_reasons"]), column
        assert row[column] != 0


def test_the_trace_covers_the_window(many: dict[str, Any]) -> None:
    row = many["rows"]["timeout"]
    samples = profiler.open(many["folder"]).samples(row["run_id"])
    ticks = samples["tick"].nunique()
    assert row["duration_s"] >= 1, "its time-out"
    assert abs(ticks - 10 * row["duration_s"]) <= 2
    assert abs(row["samples"] - ticks) <= 1


def test_the_datasets_open_without_this_project(many: dict[str, Any]) -> None:
    for name in ("plan", "runs", "samples"):
        assert pyarrow.dataset.dataset(many["folder"] / "dataset" / name).count_rows() > 0


def test_summary_safe_holds_only_safe_runs(many: dict[str, Any]) -> None:
    with (many["folder"] / "summary_safe.csv").open() as stream:
        safe = {line["experiment_id"] for line in csv.DictReader(stream)}
    assert safe == {row["experiment_id"] for row in many["rows"].values() if row["safe"]}


def test_trainers_have_the_priority_of_the_driver(many: dict[str, Any]) -> None:
    log = many["folder"] / many["rows"]["good"]["experiment_id"] / "training.log"
    assert f"nice {os.nice(0)}\n" in log.read_text()


def test_every_attempt_keeps_its_log(many: dict[str, Any]) -> None:
    folder = many["folder"] / many["rows"]["exit_3"]["experiment_id"]
    assert "executed" in (folder / "training.log").read_text()
    assert "executed" in (folder / "attempts" / "1" / "training.log").read_text()


def test_nothing_is_left_in_the_work_directory_of_good_runs(many: dict[str, Any]) -> None:
    work = many["folder"].parent / ".work"
    kept = {path.name for path in work.iterdir()} if work.exists() else set()
    assert not [name for name in kept if many["rows"]["good"]["run_id"] in name]


def test_a_pair_overlaps_and_is_recorded(tmp_path: Path) -> None:
    foreground = {"epochs": 3, "epoch_seconds": 0.3}
    item = pair(foreground, {"behaviour": "work", "epochs": 8, "epoch_seconds": 0.05})
    item["background"]["min_busy_share"] = 0.05  # other tests may want the CPUs that it works on
    path = config(tmp_path, [item])
    row = run_json("run", path, "--results", tmp_path / "results")["runs"][0]
    assert row["verdict"] == "valid", row["evidence"]
    assert row["experiment_id"] == "quick_quick_001_parallel"
    assert row["background_started_at"] < row["started_at"] < row["ended_at"] < row["background_ended_at"]
    assert row["background_starts"] >= 2
    assert row["background_gpu_uuid"] == row["gpu_uuid"]
    folder = tmp_path / "results" / row["session_id"] / row["experiment_id"]
    assert len(list((folder / "background_logs").iterdir())) == row["background_starts"]
    record = json.loads((folder / "experiment.json").read_text())
    assert record["repository"] == "quick"
    assert record["background"]["repository"] == "quick"


def test_a_background_that_cannot_start_fails_the_run(tmp_path: Path) -> None:
    """It ends before its first step, again and again, until it gives up."""
    path = config(tmp_path, [pair({}, {"behaviour": "no_data"})], max_retries=0)
    row = run_json("run", path, "--results", tmp_path / "results", expect=1)["runs"][0]
    assert row["reasons"] == ["background_failed"]
    assert row["evidence"]["background_failed"].count("(exit code 1)") == 3
    assert row["duration_s"] is None


def test_a_config_that_cannot_run_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "untrained").mkdir()
    manifest = yaml.safe_load((REPOS / "quick" / "workload.yaml").read_text())
    del manifest["command"]
    (tmp_path / "untrained" / "workload.yaml").write_text(yaml.safe_dump(manifest))
    path = config(tmp_path, [{"repo": "untrained", "model": "quick", "mode": "default"}])
    result = run("run", path, "--results", tmp_path / "results", PROFILER_REPOS=str(tmp_path))
    assert result.returncode == 3
    assert "untrained/quick" in result.stderr
    assert not (tmp_path / "results").exists()


def test_resume_runs_what_is_missing_and_keeps_the_rest(tmp_path: Path) -> None:
    history = {"historical_csvs": ["none.csv"], "use_deduplication": False}
    path = config(tmp_path, [quick(), quick(behaviour="exit_3"), quick(seed=2)], max_retries=0, **history)
    first = run("run", path, "--results", tmp_path / "results", "--json")
    assert first.returncode == 1
    assert "warning: use_deduplication is false" in first.stderr
    session = Path(json.loads(first.stdout)["path"])
    # A "001" alone may also be in the session's name, which is a time, or in that of a trace.
    of_the_first = [*session.glob("quick_quick_001/**/*"), *session.glob(f"dataset/*/{session.name}-001-*")]
    files = {file: file.read_bytes() for file in of_the_first if file.is_file()}
    assert {file.suffix for file in files} == {".json", ".jsonl", ".log", ".parquet"}
    again = run_json("resume", session, expect=1)
    assert [row["attempt"] for row in again["runs"]] == [1, 1, 1]
    assert all(file.read_bytes() == content for file, content in files.items())
    retried = run_json("resume", session, "--retry-failed", expect=1)
    assert [row["attempt"] for row in retried["runs"]] == [1, 2, 1]
    finals = duckdb.sql(f"select index, attempt from '{session}/dataset/runs/*.parquet' where is_final order by index")
    assert finals.fetchall() == [(1, 1), (2, 2), (3, 1)]
    (archived,) = session.glob("*/attempts/1/experiment.json")
    assert json.loads(archived.read_text())["is_final"] is False


def test_a_campaign_of_the_same_second_in_another_folder_is_not_taken_for_it(
    many: dict[str, Any], tmp_path: Path
) -> None:
    there = SessionFolder(tmp_path / many["folder"].name)
    labels = {"session": there.session_id, "key": there.key, "run": "1", "attempt": "1", "role": "foreground"}
    command = Command(("sleep", "60"), {"PATH": os.environ["PATH"]}, tmp_path, labels=labels)
    with start(command, allow_uncontained=True) as process:
        process.release()
        seen = [one["session_key"] for one in run_json("status")["processes"]]
        assert there.key in seen
        assert run_json("status", many["folder"])["processes"] == []
