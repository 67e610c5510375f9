"""Reads many small Parquet files as typed rows, each file once as long as it stays the same one. It writes nothing.

A session has a file for each attempt. What takes time is opening and decoding ten thousand of them, so files are read
side by side and decoded in batches, and only their rows are kept: the tables would need ten times the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from profiler.store.rows import from_arrow
from profiler.store.schema import Table

FILES_AT_ONCE = 500
THREADS = 2

Row = dict[str, Any]
Mark = tuple[int, int, int]


class RowCache:
    """The rows of files that were read before. A file that was replaced or grew is another one, and is read anew."""

    def __init__(self, read: Callable[[Path], pa.Table]) -> None:
        self._read = read
        self._known: dict[Path, tuple[Mark, list[Row]]] = {}

    def rows(self, paths: Sequence[Path], table: Table) -> list[Row]:
        """The rows of these files, in order; the caller may change them. Errors as those of `read`, and
        FileNotFoundError when a file is gone."""
        marks = {path: _mark(path) for path in paths}
        new = [path for path in paths if path not in self._known or self._known[path][0] != marks[path]]
        for start in range(0, len(new), FILES_AT_ONCE):
            batch = new[start : start + FILES_AT_ONCE]
            for path, rows in zip(batch, _decoded(table, self._tables(batch)), strict=True):
                self._known[path] = (marks[path], rows)
        return [_copy(row) for path in paths for row in self._known[path][1]]

    def _tables(self, paths: Sequence[Path]) -> list[pa.Table]:
        if len(paths) <= THREADS:
            return [self._read(path) for path in paths]
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(self._read, paths))


def _mark(path: Path) -> Mark:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _decoded(table: Table, parts: Sequence[pa.Table]) -> Iterator[list[Row]]:
    """The rows of each part. They are decoded together where their types agree, which is much faster."""
    try:
        whole = pa.concat_tables(parts, promote_options="default").combine_chunks()
    except pa.ArrowException:
        yield from (from_arrow(table, part) for part in parts)
        return
    rows = iter(from_arrow(table, whole))
    for part in parts:
        yield [next(rows) for _ in range(part.num_rows)]


def _copy(row: Row) -> Row:
    return {name: value.copy() if isinstance(value, dict | list) else value for name, value in row.items()}
