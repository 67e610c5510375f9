"""The old names: order, nulls, and the same figures."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from profiler.store.export import SUMMARY_ENERGY, experiment_document, summary_columns, summary_csv, summary_row, to_csv
from profiler.store.read import open_session
from profiler.store.rows import complete_run
from profiler.store.write import refresh_summaries, write_experiment_json, write_run, write_samples
from tests.store.build import attempt_row, failed, sample, session_folder

ENERGY = [
    "energy_cpu_pkg_joules",
    "energy_cpu_ram_joules",
    "energy_cpu_total_joules",
    "energy_gpu_avg_watts",
    "energy_gpu_max_watts",
    "energy_gpu_min_watts",
    "energy_gpu_total_joules",
    "energy_gpu_temp_avg_celsius",
    "energy_gpu_temp_max_celsius",
    "energy_gpu_util_avg_percent",
    "energy_gpu_util_max_percent",
]

BACKGROUND = {
    "mode": "parallel",
    "background_repo": "VulBERTa",
    "background_model": "mlp",
    "background_hyperparameters": {"epochs": 10, "learning_rate": 3e-05},
    "background_busy_share": 0.75,
    "background_starts": 3,
    "background_log_directory": "results/x/background_logs",
}


def test_columns_are_the_old_ones_in_the_old_order(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 3)
    write_run(folder, attempt_row(folder, 1, metrics={"zeta": 1.0, "alpha": 2.0}))
    write_run(folder, attempt_row(folder, 2, hyperparameters={"weight_decay": 0.0, "dropout": 0.5}, **BACKGROUND))
    refresh_summaries(folder)
    header = folder.summary_csv.read_text().splitlines()[0].split(",")
    assert header == [
        *["experiment_id", "timestamp", "repository", "model", "training_success", "duration_seconds", "retries"],
        *[
            "hyperparam_dropout",
            "hyperparam_epochs",
            "hyperparam_learning_rate",
            "hyperparam_seed",
            "hyperparam_weight_decay",
        ],
        *["perf_alpha", "perf_test_accuracy", "perf_test_loss", "perf_zeta"],
        *ENERGY,
        *["mode", "verdict", "safe", "reasons"],
        *["background_repository", "background_model", "background_busy_share", "background_starts"],
        *["background_hyperparam_epochs", "background_hyperparam_learning_rate"],
    ]


def test_energy_columns_are_there_even_when_no_run_has_any() -> None:
    assert list(SUMMARY_ENERGY) == ENERGY
    assert [name for name in summary_columns([]) if name.startswith("energy_")] == ENERGY
    assert summary_csv([]).count(b"\n") == 1


def test_cells_of_a_solo_and_a_parallel_run(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 3)
    solo = {"gpu_energy_j": None, "signal": None}
    write_run(folder, attempt_row(folder, 1, 1, is_final=False, **failed()))
    write_run(folder, attempt_row(folder, 1, 3, **solo))
    contaminated = {"verdict": "contaminated", "safe": False, "reasons": ["throttled", "too_short"]}
    write_run(folder, attempt_row(folder, 2, **BACKGROUND, **contaminated))
    refresh_summaries(folder)
    first, second = csv.DictReader(folder.summary_csv.open(newline=""))
    assert first["timestamp"] == "2026-03-01T12:01:45.123456+00:00"
    assert (first["training_success"], first["retries"], first["duration_seconds"]) == ("True", "2", "5.0")
    assert first["energy_gpu_total_joules"] == first["background_repository"] == first["reasons"] == ""
    assert float(first["energy_gpu_avg_watts"]) == 200 / 3
    assert float(first["hyperparam_learning_rate"]) == 0.1 + 0.2
    assert (second["repository"], second["model"], second["mode"]) == ("examples", "mnist_cnn", "parallel")
    assert (second["verdict"], second["safe"], second["reasons"]) == ("contaminated", "False", "throttled;too_short")
    assert (second["background_model"], second["background_busy_share"]) == ("mlp", "0.75")
    assert second["background_hyperparam_learning_rate"] == "3e-05"
    safe = list(csv.DictReader(folder.summary_safe_csv.open(newline="")))
    assert [row["experiment_id"] for row in safe] == ["examples_mnist_cnn_001"]


def test_a_run_that_failed_early_has_empty_cells(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    nothing = {
        "hyperparameters": None,
        "effective_source": "none",
        "metrics": None,
        "ended_at": None,
        "duration_s": None,
    }
    cells = summary_row(complete_run(attempt_row(folder, 1, **{**failed(), **nothing})))
    assert cells["training_success"] is False
    assert cells["timestamp"] is None
    assert not [name for name in cells if name.startswith(("hyperparam_", "perf_"))]


def test_text_that_needs_quoting_survives(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    awkward = 'a,"b"\nc'
    write_run(folder, attempt_row(folder, 1, hyperparameters={"note": awkward}))
    refresh_summaries(folder)
    (row,) = csv.DictReader(folder.summary_csv.open(newline=""))
    assert row["hyperparam_note"] == awkward


def test_export_is_the_summary(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 3)
    write_run(folder, attempt_row(folder, 1))
    write_run(folder, attempt_row(folder, 2, **failed()))
    refresh_summaries(folder)
    session = open_session(folder.root)
    assert to_csv(session, tmp_path / "all.csv") == 2
    assert to_csv(session, tmp_path / "deep" / "safe.csv", safe=True) == 1
    assert (tmp_path / "all.csv").read_bytes() == folder.summary_csv.read_bytes()
    assert (tmp_path / "deep" / "safe.csv").read_bytes() == folder.summary_safe_csv.read_bytes()


def test_a_pipe_and_a_link_are_written_to_and_not_replaced(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    write_run(folder, attempt_row(folder, 1))
    session = open_session(folder.root)
    pipe, link = tmp_path / "pipe", tmp_path / "link.csv"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert to_csv(session, pipe) == 1
    assert os.read(reader, 1 << 16).startswith(b"experiment_id,")
    os.close(reader)
    assert pipe.is_fifo()
    link.symlink_to(tmp_path / "real.csv")
    to_csv(session, link)
    assert link.is_symlink()
    assert (tmp_path / "real.csv").is_file()


def document_of(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    folder = session_folder(tmp_path, 1)
    row = attempt_row(folder, 1, **changes)
    write_experiment_json(folder, row)
    document: dict[str, Any] = json.loads(folder.experiment_json(row["experiment_id"]).read_text())
    assert document == json.loads(json.dumps(experiment_document(complete_run(row))))
    return document


def test_experiment_json_keeps_the_old_names(tmp_path: Path) -> None:
    document = document_of(tmp_path)
    assert list(document)[:12] == [
        *[
            "experiment_id",
            "timestamp",
            "repository",
            "model",
            "mode",
            "hyperparameters",
            "duration_seconds",
            "energy_metrics",
        ],
        *["performance_metrics", "training_success", "retries", "error_message"],
    ]
    assert document["timestamp"] == document["ended_at"] == "2026-03-01T12:01:45.123456+00:00"
    assert document["started_at"] == "2026-03-01T12:01:40.123456+00:00"
    assert document["training_success"] is True
    assert (document["retries"], document["error_message"]) == (0, "")
    assert document["hyperparameters"] == {"epochs": 2, "learning_rate": 0.1 + 0.2, "seed": 1}
    assert list(document["energy_metrics"]) == [
        *["cpu_energy_pkg_joules", "cpu_energy_ram_joules", "cpu_energy_total_joules", "gpu_power_avg_watts"],
        *["gpu_power_max_watts", "gpu_power_min_watts", "gpu_energy_total_joules", "gpu_temp_avg_celsius"],
        *["gpu_temp_max_celsius", "gpu_util_avg_percent", "gpu_util_max_percent"],
    ]
    assert document["energy_metrics"]["cpu_energy_pkg_joules"] is None
    assert document["energy_metrics"]["gpu_energy_total_joules"] == 1000 / 3
    assert document["null_reasons"]["cpu_package_energy_j"] == "no_energy_source"
    assert document["performance_metrics"] == {"test_accuracy": 0.1 + 0.7, "test_loss": 1 / 3}
    assert "background" not in document
    for name in ("run_id", "verdict", "safe", "reasons", "requested_hyperparameters", "effective_source", "mutated"):
        assert name in document


def test_a_parallel_run_is_flat_too(tmp_path: Path) -> None:
    document = document_of(tmp_path, **BACKGROUND)
    assert (document["repository"], document["model"], document["mode"]) == ("examples", "mnist_cnn", "parallel")
    background = document["background"]
    assert list(background) == ["repository", "model", "hyperparameters", "log_directory", "note"]
    assert background["hyperparameters"] == {"epochs": 10, "learning_rate": 3e-05}


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    document = document_of(tmp_path, **{**failed(), "hyperparameters": None, "metrics": None})
    assert document["training_success"] is False
    assert document["error_message"] == "exit: exit code 1"
    assert document["hyperparameters"] == document["performance_metrics"] == {}


def test_the_trace_comes_as_the_old_csv_files_on_demand(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    row = attempt_row(folder, 1, gpu_uuid="GPU-1", cpu_package_energy_j=12.5)
    write_run(folder, row)
    start = row["window_start_ns"]
    fields = {"temp_c": None, "memory_util_percent": 3.0, "t_utc_ns": 1_772_000_000_099_999_999}
    write_samples(
        folder,
        "node-a",
        [
            sample(start, 0, **fields),
            sample(start + 1, 1, missed=True),
            sample(start + 2, 1, device="GPU-2"),
        ],
    )
    files = {path.name: path.read_text() for path in open_session(folder.root).export_energy(row["run_id"])}
    assert files == {
        "cpu_energy.txt": "CPU Energy Consumption Summary\n==============================\n"
        "Package Energy (Joules): 12.5\nRAM Energy (Joules): N/A\nTotal CPU Energy (Joules): N/A\n",
        "gpu_power.csv": "timestamp,power_draw_w\n1772000000.099,72.125\n",
        "gpu_temperature.csv": "timestamp,gpu_temp_c,memory_temp_c\n1772000000.099,N/A,N/A\n",
        "gpu_utilization.csv": "timestamp,gpu_util_percent,memory_util_percent\n1772000000.099,0.0,3.0\n",
    }


def test_a_run_without_gpu_has_only_its_cpu_energy(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    (path,) = open_session(folder.root).export_energy(folder.run_id(1))
    assert "Package Energy (Joules): N/A" in path.read_text()


@pytest.mark.parametrize("value", [1e-5, 1e16, 5e-324, 1.7976931348623157e308, 0.1 + 0.2])
def test_extreme_figures_keep_every_bit(tmp_path: Path, value: float) -> None:
    folder = session_folder(tmp_path, 1)
    row = attempt_row(folder, 1, gpu_energy_j=value, metrics={"m": value})
    write_run(folder, row)
    refresh_summaries(folder)
    (cells,) = csv.DictReader(folder.summary_csv.open(newline=""))
    assert float(cells["energy_gpu_total_joules"]).hex() == float(cells["perf_m"]).hex() == value.hex()
    assert document_of(tmp_path, gpu_energy_j=value)["energy_metrics"]["gpu_energy_total_joules"] == value
