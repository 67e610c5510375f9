"""Puts many small Parquet files into one, with the same rows. It is called explicitly or at a campaign's end only.

A folder's content is exchanged for the new one in a single step of the file system, so there is no moment at which a
reader could see rows twice or not at all; where the file system cannot do that, everything stays as it is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from profiler.store.files import sync_folder, whole_file
from profiler.store.layout import SessionFolder
from profiler.store.parquet import parquet_writer
from profiler.store.read import parquet_files, read_file
from profiler.store.schema import TABLES, Table, arrow_schema

ROWS_AT_ONCE = 1 << 16
FILES_AT_ONCE = 1000
HIDDEN_PREFIX = ".compact-"
_MERGED_SIGN = "+"

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_POSSIBLE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def exchange_folders(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False when the file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        for parent in {one.parent, other.parent}:
            sync_folder(parent)
        return True
    number = ctypes.get_errno()
    if number in _NOT_POSSIBLE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def compact(
    folder: SessionFolder,
    datasets: Sequence[str] = ("samples", "processes"),
    *,
    exchange: Callable[[Path, Path], bool] = exchange_folders,
) -> int:
    """Merge the files of each dataset (of samples: of each node) into one; how many files there are less.

    Rows of `runs` stay one file an attempt unless asked for: those files are what a resumed session leaves untouched.
    Columns are those declared now; what an older version did not write is null.
    """
    tables = {table.name: table for table in TABLES}
    parts = [(tables[name], part) for name in datasets for part in _parts(folder, name)]
    return sum(_compact_folder(folder, table, part, exchange) for table, part in parts)


def is_merged(path: Path) -> bool:
    """Whether the file was made by `compact`."""
    return _MERGED_SIGN in path.stem


def declared(table: Table, data: pa.Table) -> pa.Table:
    """`data` with exactly the columns that are declared now: one that it lacks is null."""
    schema = arrow_schema(table).remove_metadata()
    if data.schema.equals(schema):
        return data
    return pa.concat_tables([schema.empty_table(), data], promote_options="default").select(schema.names)


def _parts(folder: SessionFolder, name: str) -> list[Path]:
    root = folder.dataset(name)
    return sorted(path for path in root.glob("node=*") if path.is_dir()) if name == "samples" else [root]


def _compact_folder(folder: SessionFolder, table: Table, part: Path, exchange: Callable[[Path, Path], bool]) -> int:
    paths = parquet_files(part)
    if len(paths) < 2:
        return 0
    new = folder.root / f"{HIDDEN_PREFIX}{table.name}-{part.name}"
    shutil.rmtree(new, ignore_errors=True)
    try:
        with (
            whole_file(new / f"{paths[0].stem}{_MERGED_SIGN}{len(paths) - 1}.parquet") as file,
            parquet_writer(table, file) as writer,
        ):
            for data in _batches(table, paths):
                writer.write_table(data)
        exchanged = exchange(new, part)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return len(paths) - 1 if exchanged else 0


def _batches(table: Table, paths: Sequence[Path]) -> Iterator[pa.Table]:
    """The files' rows in order, in pieces that are worth a row group. One-row files are put together early: as tables
    of their own, with a buffer for each column, they would need a hundred times the memory."""
    waiting: list[pa.Table] = []
    rows = 0
    for path in paths:
        data = declared(table, read_file(path))
        waiting.append(data)
        rows += data.num_rows
        if rows >= ROWS_AT_ONCE or len(waiting) >= FILES_AT_ONCE:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting, rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()
