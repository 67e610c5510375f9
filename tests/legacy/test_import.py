"""An old tree becomes a session: nothing is lost, nothing invented, every untruth is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from profiler.legacy.importer import import_tree
from profiler.legacy.knowledge import CPU_ONLY
from profiler.store.read import Session, open_session
from tests.legacy.old_tree import MNIST, SUCCESS, OldRun, later, write_summary


def imported(tmp_path: Path, *runs: OldRun, **options: Any) -> tuple[Session, list[dict[str, Any]], dict[str, Any]]:
    """The session made of `runs`, its rows, its audit."""
    source = tmp_path / "old" / "default"
    for run in runs:
        run.write(source)
    write_summary(source / "summary.csv", [run.row() for run in runs])
    folder, audit = import_tree(tmp_path / "old", tmp_path / "results", **options)
    session = open_session(folder.root)
    return session, session.rows(), audit


def findings(audit: dict[str, Any], place: int = 0) -> dict[str, str]:
    return {one["name"]: one["evidence"] for one in audit["runs"][place]["findings"]}


def test_one_run_comes_over_with_every_figure(tmp_path: Path) -> None:
    run = OldRun()
    session, (row,), audit = imported(tmp_path, run)
    assert (row["experiment_id"], row["repo"], row["model"]) == ("examples_mnist_cnn_001", "examples", "mnist_cnn")
    assert row["mode"] == "default"
    assert row["duration_s"] == run.duration_s
    assert row["gpu_energy_integral_j"] == row["gpu_energy_j"] == pytest.approx(run.trapezoid_j, rel=1e-12)
    assert row["imported_figures"]["gpu_energy_total_joules"] == run.sum_j != row["gpu_energy_j"]
    assert row["cpu_package_energy_j"] == run.package_j
    assert row["dram_energy_j"] == run.ram_j
    assert row["cpu_energy_total_j"] == pytest.approx(run.package_j + run.ram_j)
    assert row["metrics"] == {"test_accuracy": 0.96, "test_loss": 0.12}
    assert row["imported_figures"]["perf_test_accuracy"] == 96.0
    assert row["primary_metric_value"] == 0.96
    assert row["hyperparameters"] == row["requested_hyperparameters"] == MNIST
    assert row["error_message"] == ""
    assert row["exit_code"] is None
    assert row["null_reasons"]["exit_code"] == "not_recorded"
    assert "no counter was recorded" in row["energy_sources"]["gpu_energy_j"]
    told = findings(audit)
    assert f"recorded {run.sum_j:.1f} J" in told["gpu_joules_are_a_sum"]
    assert f"trapezoid {run.trapezoid_j:.1f} J" in told["gpu_joules_are_a_sum"]
    assert {"cpu_energy_is_system_wide", "metric_in_percent", "local_time", "success_message_as_error"} <= set(told)
    assert session.ledger().events[0]["event"] == "imported"


def test_no_value_of_the_csv_files_is_lost(tmp_path: Path) -> None:
    run = OldRun(power_w=(70.5, "N/A", 90.0, "[N/A]", 100.0, 100.0, 100.0, 90.0, 80.0, 75.0))
    session, (row,), audit = imported(tmp_path, run)
    trace = session.samples(row["run_id"])
    assert list(trace["t_utc_ns"]) == [second * 10**9 for second in run.times_s]
    kept = [(t // 10**9, w) for t, w in zip(trace["t_utc_ns"], trace["power_w"], strict=True) if w == w]
    assert kept == run.numbers
    assert list(trace["util_percent"]) == list(run.util_percent)
    assert list(trace["memory_util_percent"]) == [5.0] * 10
    assert list(trace["temp_c"]) == [60.0] * 10
    assert trace["memory_temp_c"].isna().all()
    assert "damaged_files" not in findings(audit)
    copied = session.root / row["experiment_id"] / "original"
    source = tmp_path / "old" / "default"
    for path in sorted((source / run.name).rglob("*.*")):
        assert (copied / path.relative_to(source / run.name)).read_bytes() == path.read_bytes()
    assert (session.root / "original" / "default" / "summary.csv").read_bytes() == (source / "summary.csv").read_bytes()
    assert row["extra"]["import"]["record"] == run.record()


def test_times_are_utc_by_the_traces_own_seconds(tmp_path: Path) -> None:
    run = OldRun()
    _, (row,), audit = imported(tmp_path, run)
    assert row["ended_at"].timestamp() == pytest.approx(run.times_s[-1] + 2, abs=0.01)
    assert (row["ended_at"] - row["started_at"]).total_seconds() == pytest.approx(run.duration_s, abs=1e-5)
    assert "UTC+8 h by this run's trace" in findings(audit)["local_time"]


def test_a_parallel_record_has_its_foreground_and_background(tmp_path: Path) -> None:
    back = {"epochs": 10, "learning_rate": 3e-05, "seed": 42}
    run = OldRun(name="examples_siamese_007_parallel", model="siamese", background=("VulBERTa", "mlp"),
                 background_values=back)  # fmt: skip
    _, (row,), audit = imported(tmp_path, run)
    assert (row["repo"], row["model"], row["mode"]) == ("examples", "siamese", "parallel")
    assert row["experiment_id"] == "examples_siamese_001_parallel"
    assert (row["background_repo"], row["background_model"]) == ("VulBERTa", "mlp")
    assert row["background_hyperparameters"] == back
    assert "background_idle" not in row["reasons"]
    assert "repository_only_in_foreground" in findings(audit)


@pytest.mark.parametrize(("repo", "model"), list(CPU_ONLY))
def test_a_background_that_never_used_the_gpu_is_idle(tmp_path: Path, repo: str, model: str) -> None:
    run = OldRun(name="examples_mnist_002_parallel", background=(repo, model))
    _, (row,), audit = imported(tmp_path, run)
    assert "background_idle" in row["reasons"]
    assert row["safe"] is False
    assert model in findings(audit)["background_never_used_gpu"]


def test_whether_a_background_was_a_load_is_seen_in_the_tree(tmp_path: Path) -> None:
    idle = [0.0] * 10
    alone = OldRun(name="examples_siamese_001", model="siamese", util_percent=idle)
    beside = later(100, name="examples_mnist_002_parallel", background=("examples", "siamese"))
    _, rows, audit = imported(tmp_path, alone, beside)
    assert "background_idle" in rows[1]["reasons"]
    assert "0.00 % of the time (examples_siamese_001)" in findings(audit, 1)["background_never_used_gpu"]
    assert "computed_on_cpu" in findings(audit, 0)


def test_a_real_load_is_not_called_idle(tmp_path: Path) -> None:
    alone = OldRun(name="examples_siamese_001", model="siamese")
    beside = later(100, name="examples_mnist_002_parallel", background=("examples", "siamese"))
    _, rows, audit = imported(tmp_path, alone, beside)
    assert "background_idle" not in rows[1]["reasons"]
    assert not {"background_never_used_gpu", "background_hardly_used_gpu"} & set(findings(audit, 1))


def test_a_count_is_no_accuracy(tmp_path: Path) -> None:
    metrics = {"accuracy": 4692.0, "precision": 0.9834, "recall": 0.808854}
    run = OldRun(name="MRT-OAST_default_001", repo="MRT-OAST", model="default", metrics=metrics, hyperparameters={})
    _, (row,), audit = imported(tmp_path, run)
    assert "metric_out_of_range" in row["reasons"]
    assert row["valid"] is False
    assert row["metrics"] == {"precision": 0.9834, "recall": 0.808854}
    assert row["primary_metric_value"] is None
    assert row["null_reasons"]["primary_metric_value"] == "count_not_ratio"
    assert row["imported_figures"]["perf_accuracy"] == 4692.0
    assert "4692" in findings(audit)["metric_is_a_count"]
    assert row["hyperparameters"] is None
    assert row["effective_source"] == "none"


def test_a_small_count_is_no_percent_where_counts_are_known(tmp_path: Path) -> None:
    run = OldRun(name="MRT-OAST_default_001", repo="MRT-OAST", model="default", metrics={"accuracy": 92.0})
    _, (row,), _ = imported(tmp_path, run)
    assert row["metrics"] == {}
    assert "metric_out_of_range" in row["reasons"]


def test_a_success_without_metric_is_none(tmp_path: Path) -> None:
    _, (row,), audit = imported(tmp_path, OldRun(metrics={}))
    assert row["verdict"] == "failed"
    assert "metric_missing" in row["reasons"]
    assert "no metric at all" in findings(audit)["success_without_metric"]
    assert row["gpu_energy_j"] is not None


def test_a_recorded_failure_stays_one(tmp_path: Path) -> None:
    _, (row,), audit = imported(tmp_path, OldRun(success=False, message="CUDA out of memory", retries=2))
    assert row["verdict"] == "failed"
    assert {"imported_failure", "imported"} <= set(row["reasons"])
    assert row["error_message"] == "CUDA out of memory"
    assert row["attempt"] == 3
    assert {"recorded_failure", "failure_contradicted", "failed_attempts_lost"} <= set(findings(audit))


def test_untrue_metrics_are_left_out(tmp_path: Path) -> None:
    metrics = {"test_accuracy": 91.71, "best_val_accuracy": 91.71, "test_loss": 0.0}
    _, (row,), audit = imported(tmp_path, OldRun(metrics=metrics))
    assert row["metrics"] == {"test_accuracy": pytest.approx(0.9171)}
    assert {"best_is_last_epoch", "loss_printed_as_zero"} <= set(findings(audit))
    assert row["null_reasons"]["metrics.best_val_accuracy"] == "last_epoch_not_best"
    assert row["imported_figures"]["perf_best_val_accuracy"] == 91.71


def test_zero_means_missing(tmp_path: Path) -> None:
    _, (row,), audit = imported(tmp_path, OldRun(package_j=0.0, ram_j=0.0))
    for column in ("cpu_package_energy_j", "dram_energy_j", "cpu_energy_total_j"):
        assert row[column] is None
        assert row["null_reasons"][column] == "zero_means_missing"
    assert "zero_means_missing" in findings(audit)


def test_values_that_did_not_reach_the_trainer(tmp_path: Path) -> None:
    repo = "Person_reID_baseline_pytorch"
    values = {"epochs": 60, "learning_rate": 0.03, "dropout": 0.5, "seed": 1334}
    run = OldRun(name=f"{repo}_pcb_001", repo=repo, model="pcb", hyperparameters=values, metrics={"map": 0.7})
    _, (row,), audit = imported(tmp_path, run)
    assert "parameter_not_applied" in row["reasons"]
    assert "learning_rate" not in row["hyperparameters"]
    assert row["requested_hyperparameters"]["learning_rate"] == 0.03
    assert row["null_reasons"]["hyperparameters.learning_rate"] == "parameter_not_applied"
    assert row["mutated"] == ["learning_rate"]
    assert "0.03" in findings(audit)["parameter_not_applied"]


def test_rounded_values_and_the_mode(tmp_path: Path) -> None:
    values = {"learning_rate": 0.0123456789}
    _, (row,), audit = imported(tmp_path, OldRun(hyperparameters=values))
    assert row["hyperparameters"] == {"learning_rate": 0.012346}
    assert row["requested_hyperparameters"] == values
    assert (row["mode"], row["mutated"]) == ("mutation", ["learning_rate"])
    told = findings(audit)
    assert "0.012346" in told["value_rounded"]
    assert "epochs" in told["values_incomplete"]


def test_the_same_id_twice_is_two_runs(tmp_path: Path) -> None:
    for session, seconds in (("a", 0), ("b", 5_000)):
        later(seconds).write(tmp_path / "old" / session)
    folder, audit = import_tree(tmp_path / "old", tmp_path / "results")
    rows = open_session(folder.root).rows()
    assert [row["experiment_id"] for row in rows] == ["examples_mnist_cnn_001", "examples_mnist_cnn_002"]
    assert len({row["run_id"] for row in rows}) == 2
    assert all("id_repeated" in findings(audit, place) for place in (0, 1))


def test_a_copy_is_imported_once(tmp_path: Path) -> None:
    for session in ("a", "b"):
        OldRun().write(tmp_path / "old" / session)
    _, audit = import_tree(tmp_path / "old", tmp_path / "results")
    assert audit["counts"]["runs"] == 1
    assert "copy" in audit["skipped"][0]["problem"]


def test_figures_that_the_files_do_not_give(tmp_path: Path) -> None:
    run = OldRun()
    folder = run.write(tmp_path / "old")
    record = run.record()
    record["energy_metrics"]["gpu_power_max_watts"] = 333.0
    record["energy_metrics"]["cpu_energy_pkg_joules"] = 9_999.0
    (folder / "experiment.json").write_text(json.dumps(record))
    session, audit = import_tree(folder, tmp_path / "results")
    (row,) = open_session(session.root).rows()
    assert row["gpu_power_max_w"] == 100.0
    assert row["cpu_package_energy_j"] == run.package_j
    assert "333.0" in findings(audit)["figure_differs_from_trace"]
    assert "9999.0" in findings(audit)["cpu_energy_inconsistent"]


def test_holes_and_short_traces(tmp_path: Path) -> None:
    held_up = OldRun(name="examples_mnist_001", distances_s=(1, 1, 1, 30, 1, 1, 1, 1, 1), duration_s=39.0)
    short = later(500, name="examples_mnist_002", duration_s=60.0)
    _, rows, audit = imported(tmp_path, held_up, short)
    assert rows[0]["gpu_energy_j"] is None
    assert rows[0]["null_reasons"]["gpu_energy_j"] == "trace_gap"
    assert rows[0]["gpu_energy_integral_j"] == pytest.approx(held_up.trapezoid_j)
    assert "30 s" in findings(audit, 0)["trace_has_holes"]
    assert rows[1]["null_reasons"]["gpu_energy_j"] == "trace_does_not_cover_window"
    assert "too_short" in rows[1]["reasons"]


def test_conditions_make_safe_only_for_those_who_vouch(tmp_path: Path) -> None:
    source = tmp_path / "old"
    OldRun().write(source)
    strict, _ = import_tree(source, tmp_path / "strict")
    trusting, audit = import_tree(source, tmp_path / "trusting", trusted=True)
    assert open_session(strict.root).rows()[0]["verdict"] == "contaminated"
    assert "conditions_unknown" in open_session(strict.root).rows()[0]["reasons"]
    assert open_session(trusting.root).rows()[0]["safe"] is True
    assert audit["conditions_trusted"] is True


def test_a_summary_that_says_otherwise_and_a_hand_made_safe_one(tmp_path: Path) -> None:
    source = tmp_path / "old"
    first, second = OldRun(), later(100, name="examples_mnist_002")
    for run in (first, second):
        run.write(source)
    write_summary(source / "summary_all.csv", [{**first.row(), "duration_seconds": 11.0}, second.row()])
    write_summary(source / "summary_safe.csv", [first.row()])
    folder, audit = import_tree(source, tmp_path / "results", trusted=True)
    rows = open_session(folder.root).rows()
    assert [row["safe"] for row in rows] == [True, False]
    assert "duration_seconds is 11.0 there, 10.4 here" in findings(audit, 0)["summary_differs"]
    assert "summary_safe.csv" in findings(audit, 1)["left_out_of_safe_summary"]


def test_only_a_summary(tmp_path: Path) -> None:
    run = OldRun()
    parallel = later(100, name="examples_siamese_002_parallel", model="siamese")
    blank = {**parallel.row(), "repository": "", "model": ""}
    path = write_summary(tmp_path / "old" / "summary_old.csv", [run.row(), blank])
    folder, audit = import_tree(path.parent, tmp_path / "results")
    rows = open_session(folder.root).rows()
    assert [(row["repo"], row["model"], row["mode"]) for row in rows] == [
        ("examples", "mnist_cnn", "default"),
        ("examples", "siamese", "parallel"),
    ]
    assert rows[0]["gpu_energy_j"] is None
    assert rows[0]["null_reasons"]["gpu_energy_j"] == "recorded_sum_not_verifiable"
    assert rows[0]["imported_figures"]["gpu_energy_total_joules"] == run.sum_j
    assert rows[0]["gpu_power_max_w"] == 100.0
    assert rows[0]["cpu_package_energy_j"] == run.package_j
    assert rows[0]["hyperparameters"] == MNIST
    assert rows[0]["started_at"] is None
    assert rows[0]["null_reasons"]["started_at"] == "local_time_without_zone"
    assert "repository_from_id" in findings(audit, 1)
    assert "background_unknown" in findings(audit, 1)


def test_foreground_columns_beside_blank_plain_ones(tmp_path: Path) -> None:
    run = OldRun(name="examples_mnist_003_parallel")
    doubled = {name if name in ("experiment_id", "timestamp") else f"fg_{name}": v for name, v in run.row().items()}
    plain = dict.fromkeys(("repository", "model", "training_success", "duration_seconds"), "")
    back = {"bg_repository": "VulBERTa", "bg_model": "mlp", "bg_hyperparam_epochs": 10}
    write_summary(tmp_path / "old" / "summary.csv", [{**plain, **doubled, **back}])
    folder, _ = import_tree(tmp_path / "old", tmp_path / "results")
    (row,) = open_session(folder.root).rows()
    assert (row["repo"], row["model"], row["background_model"]) == ("examples", "mnist_cnn", "mlp")
    assert row["background_hyperparameters"] == {"epochs": 10}
    assert row["metrics"]["test_accuracy"] == 0.96
    assert row["cpu_package_energy_j"] == run.package_j


def test_importing_again_makes_another_session(tmp_path: Path) -> None:
    source = tmp_path / "old"
    OldRun().write(source)
    first, _ = import_tree(source, tmp_path / "results")
    before = {path: path.stat().st_mtime_ns for path in first.root.rglob("*") if path.is_file()}
    second, _ = import_tree(source, tmp_path / "results")
    assert first.root != second.root
    assert before == {path: path.stat().st_mtime_ns for path in first.root.rglob("*") if path.is_file()}


def test_the_success_message_is_the_old_tools(tmp_path: Path) -> None:
    _, (row,), audit = imported(tmp_path, OldRun(message=SUCCESS))
    assert row["error_message"] == ""
    assert SUCCESS in findings(audit)["success_message_as_error"]
