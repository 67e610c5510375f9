"""Files of an older schema open with nulls that say so, newer ones are refused; each column explains itself."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from profiler.errors import SessionError
from profiler.store.read import open_session
from profiler.store.schema import SAMPLES, SCHEMA_VERSION
from profiler.store.write import finish, write_run, write_samples
from tests.store.build import attempt_row, sample, session_folder


def test_columns_that_came_later_are_null_with_a_reason(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    write_run(folder, attempt_row(folder, 1, observations=[{"reason": "throttled", "evidence": ""}], thresholds={}))
    (path,) = folder.dataset("runs").glob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["observations", "thresholds"]), path)
    row = open_session(folder.root).rows()[0]
    assert (row["observations"], row["thresholds"]) == (None, None)
    assert row["null_reasons"]["observations"] == row["null_reasons"]["thresholds"] == "older_schema"
    assert row["gpu_energy_j"] == 1000 / 3


def test_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    write_run(folder, attempt_row(folder, 1))
    (path,) = folder.dataset("runs").glob("*.parquet")
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, b"profiler.schema_version": str(SCHEMA_VERSION + 1).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(SessionError, match=f"schema version {SCHEMA_VERSION + 1}"):
        open_session(folder.root)


def test_each_column_of_a_trace_says_unit_and_meaning(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    for start in (0, 10):
        write_samples(folder, "n1", [sample(1_000_000_000 * n, n) for n in range(start, start + 10)])
    finish(folder)  # merges the two
    (path,) = folder.samples_of("n1").glob("*.parquet")
    schema = pq.read_schema(path)
    for column in SAMPLES:
        said = schema.field(column.name).metadata
        assert said[b"meaning"] == column.meaning.encode()
        assert said.get(b"unit", b"") == column.unit.encode()
