"""Turns Arrow tables into Parquet bytes, with the encodings that suit each dataset. It knows no paths."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from profiler.store.schema import RUNS, SAMPLES, Table, arrow_schema

_COUNTING = ("t_mono_ns", "t_utc_ns", "tick", "lateness_ns", "counter_units")


def parquet_bytes(table: Table, data: pa.Table) -> bytes:
    """One Parquet file in memory: so every error of the disk comes from our own write, with its errno."""
    buffer = io.BytesIO()
    with parquet_writer(table, buffer) as writer:
        writer.write_table(data.replace_schema_metadata(None))
    return buffer.getvalue()


@contextmanager
def parquet_writer(table: Table, sink: BinaryIO) -> Iterator[pq.ParquetWriter]:
    """A writer of tables without metadata; version and data dictionary are added at its end.

    Arrow's own copy of the schema holds unit and meaning at each field. It is left out of `runs`, whose files have one
    row: it would be most of them, and the dictionary of the file says the same."""
    schema = arrow_schema(table)
    plain = schema.remove_metadata()
    with pq.ParquetWriter(sink, plain, store_schema=table is not RUNS, **_options(table)) as writer:
        yield writer
        writer.add_key_value_metadata(schema.metadata)


def _options(table: Table) -> dict[str, Any]:
    if table is RUNS:
        return {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    if table is not SAMPLES:
        return {"compression": "zstd"}
    texts = [column.name for column in SAMPLES if pa.types.is_string(column.type)]
    return {
        "compression": "zstd",
        "compression_level": 6,
        "use_dictionary": texts,
        "column_encoding": dict.fromkeys(_COUNTING, "DELTA_BINARY_PACKED"),
    }
