"""Compaction changes the number of files and nothing else."""

from __future__ import annotations

import errno
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from profiler.errors import CannotRunError
from profiler.store import compact as compaction
from profiler.store.compact import compact, exchange_folders, is_merged
from profiler.store.layout import SessionFolder
from profiler.store.read import Session, parquet_files, read_rows, steadily
from profiler.store.schema import SAMPLES
from profiler.store.write import finish, replace_runs, write_processes, write_run, write_samples
from tests.store.build import T0_NS, attempt_row, largest_file, sample, session_folder


def traced(tmp_path: Path, batches: int = 7) -> SessionFolder:
    folder = session_folder(tmp_path, 2)
    for node in ("node-a", "node-b"):
        for batch in range(batches):
            first = batch * 40
            write_samples(folder, node, [sample(T0_NS + i, i, power_w=i / 3) for i in range(first, first + 40)])
    for name in ("one", "two"):
        write_processes(folder, name, [{"gpu_uuid": "GPU-1", "pid": 3}])
    for index in (1, 2):
        write_run(folder, attempt_row(folder, index))
    return folder


def test_rows_are_the_same_and_runs_are_untouched(tmp_path: Path) -> None:
    folder = traced(tmp_path)
    before = read_rows(folder.dataset("samples"), SAMPLES)
    runs = {path: path.read_bytes() for path in folder.dataset("runs").iterdir()}
    assert compact(folder) == 6 + 6 + 1
    assert len(parquet_files(folder.samples_of("node-a"))) == 1
    assert read_rows(folder.dataset("samples"), SAMPLES) == before
    assert {path: path.read_bytes() for path in folder.dataset("runs").iterdir()} == runs
    assert compact(folder) == 0
    assert not list(folder.root.glob(".*"))


def test_runs_are_merged_on_request(tmp_path: Path) -> None:
    folder = traced(tmp_path)
    before = Session(folder.root).attempts()
    assert compact(folder, ["runs"]) == 1
    assert Session(folder.root).attempts() == before


def test_more_can_be_written_and_merged_later(tmp_path: Path) -> None:
    folder = traced(tmp_path)
    compact(folder)
    write_samples(folder, "node-a", [sample(T0_NS + 10_000, 1)])
    assert compact(folder) == 1
    assert ds.dataset(folder.dataset("samples")).count_rows() == 2 * 280 + 1


def test_rows_come_in_groups_of_a_useful_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "ROWS_AT_ONCE", 100)
    folder = traced(tmp_path)
    before = read_rows(folder.dataset("samples"), SAMPLES)
    compact(folder)
    assert read_rows(folder.dataset("samples"), SAMPLES) == before
    (path,) = parquet_files(folder.samples_of("node-a"))
    assert [group.num_rows for group in next(ds.dataset(path).get_fragments()).row_groups] == [120, 120, 40]


def test_where_folders_cannot_change_places_everything_stays(tmp_path: Path) -> None:
    folder = traced(tmp_path)
    files = {path: path.read_bytes() for path in folder.root.rglob("*.parquet")}
    assert compact(folder, exchange=lambda one, other: False) == 0
    assert {path: path.read_bytes() for path in folder.root.rglob("*.parquet")} == files
    assert not list(folder.root.glob(".*"))


def test_two_folders_change_places(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
    assert exchange_folders(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists()
    with pytest.raises(OSError) as caught:
        exchange_folders(tmp_path / "a", tmp_path / "none")
    assert caught.value.errno == errno.ENOENT


def test_a_full_disk_leaves_the_parts(tmp_path: Path) -> None:
    folder = traced(tmp_path)
    files = {path: path.read_bytes() for path in folder.root.rglob("*.parquet")}
    with largest_file(1000), pytest.raises(CannotRunError, match="disk full"):
        compact(folder)
    assert {path: path.read_bytes() for path in folder.root.rglob("*.parquet")} == files
    assert not list(folder.root.glob(".*"))


def test_a_campaign_of_very_many_runs_ends_with_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = traced(tmp_path)
    finish(folder)
    assert len(parquet_files(folder.dataset("runs"))) == 2
    before = Session(folder.root).attempts()
    monkeypatch.setattr("profiler.store.write.MERGE_RUNS_FROM", 2)
    finish(folder)
    (merged,) = parquet_files(folder.dataset("runs"))
    assert is_merged(merged)
    assert pq.read_schema(merged).metadata[b"profiler.table"] == b"runs"
    assert Session(folder.root).attempts() == before


def test_a_row_among_merged_ones_is_replaced_in_its_place(tmp_path: Path) -> None:
    folder = traced(tmp_path)
    compact(folder, ["runs"])
    write_run(folder, attempt_row(folder, 3))
    old = Session(folder.root).attempts()
    replace_runs(folder, [attempt_row(folder, index, seed=99) for index in (1, 3)])
    rows = Session(folder.root).attempts()
    assert [row["seed"] for row in rows] == [99, None, 99]
    assert rows[1] == old[1]
    assert len(parquet_files(folder.dataset("runs"))) == 2


def test_rows_of_an_older_version_are_merged_with_nulls(tmp_path: Path) -> None:
    folder = traced(tmp_path)
    path = folder.run_file(folder.run_id(1), 1)
    pq.write_table(pq.read_table(path).drop_columns(["gpu_power_mean_w"]), path)
    before = Session(folder.root).attempts()
    compact(folder, ["runs"])
    assert Session(folder.root).attempts() == before
    assert before[0]["null_reasons"]["gpu_power_mean_w"] == "older_schema"


def test_a_listing_of_a_folder_that_is_emptied_is_read_again(tmp_path: Path) -> None:
    """Compaction can exchange the folder after it was opened and empty it before it was listed."""
    folder = traced(tmp_path)
    looks = []

    def listed() -> list[Path]:
        looks.append(1)
        if len(looks) > 1:
            return parquet_files(folder.dataset("runs"))
        compact(folder, ["runs"])
        return []

    assert len(steadily(folder.dataset("runs"), listed)) == 1
    assert len(looks) == 2


def test_finish_gives_every_dataset_a_file(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    finish(folder)
    for name in ("plan", "runs", "samples", "processes"):
        assert ds.dataset(folder.dataset(name)).schema.names, name
    write_run(folder, attempt_row(folder, 1))
    finish(folder)
    assert len(Session(folder.root).attempts()) == 1
