"""Polars opens every dataset, one session's and those of a results folder, with what the documents promise."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from profiler.store.layout import SessionFolder
from profiler.store.read import parquet_files
from profiler.store.schema import RUNS
from profiler.store.write import finish, write_processes, write_run, write_samples
from tests.store.build import T0_NS, attempt_row, sample, session_folder


@pytest.fixture
def folder(tmp_path: Path) -> SessionFolder:
    folder = session_folder(tmp_path, 3)
    for index in (1, 2):
        write_run(folder, attempt_row(folder, index))
    for node in ("node-a", "node-b"):
        write_samples(folder, node, [sample(T0_NS + i, i) for i in range(5)])
    write_processes(folder, "one", [{"gpu_uuid": "GPU-1", "pid": 3}])
    return folder


@pytest.mark.parametrize("finished", [False, True])
def test_each_dataset_is_one_table(folder: SessionFolder, finished: bool) -> None:
    if finished:
        finish(folder)
    runs = pl.read_parquet(folder.dataset("runs") / "*.parquet")
    assert runs.columns == list(RUNS.names)
    assert runs["gpu_energy_j"].to_list() == [1000 / 3, 1000 / 3]
    assert runs["window_start_ns"][0] == attempt_row(folder, 1)["window_start_ns"]
    assert runs["hyperparameters"][0]["learning_rate"] == repr(0.1 + 0.2)
    assert runs["metrics"][0]["test_loss"] == 1 / 3
    assert str(runs["started_at"].dtype) == "Datetime(time_unit='us', time_zone='UTC')"
    assert pl.read_parquet(folder.dataset("plan") / "*.parquet").height == 3
    assert pl.read_parquet(folder.dataset("processes") / "*.parquet")["pid"].to_list() == [3]


def test_nodes_are_partitions_and_campaigns_are_folders(folder: SessionFolder, tmp_path: Path) -> None:
    other = session_folder(tmp_path, 1)
    write_run(other, attempt_row(other, 1))
    samples = pl.scan_parquet(folder.dataset("samples"), hive_partitioning=True)
    assert samples.filter(pl.col("node") == "node-b").select(pl.len()).collect().item() == 5
    runs = pl.scan_parquet(tmp_path / "*" / "dataset" / "runs" / "*.parquet").filter("is_final").collect()
    assert sorted(runs["session_id"].to_list()) == [folder.session_id, folder.session_id, other.session_id]


def test_a_file_of_an_older_version_has_nulls(folder: SessionFolder) -> None:
    path = parquet_files(folder.dataset("runs"))[0]
    pq.write_table(pq.read_table(path).drop_columns(["gpu_power_mean_w"]), path)
    runs = pl.scan_parquet(folder.dataset("runs") / "*.parquet", missing_columns="insert", schema=_schema(folder))
    assert runs.collect()["gpu_power_mean_w"].to_list() == [None, 200 / 3]


def _schema(folder: SessionFolder) -> pl.Schema:
    """Of the newest file: that one has every column."""
    return pl.read_parquet_schema(parquet_files(folder.dataset("runs"))[-1])
