"""summary.csv and summary_safe.csv while a campaign runs, however long: rows wait in a file, not in memory.

The datasets are the truth: `profiler.store.write.refresh_summaries` makes these two again from them at any time.
"""

from __future__ import annotations

import csv
import io
import pickle
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from profiler.store.export import summary_columns, summary_row
from profiler.store.files import whole_file
from profiler.store.layout import SessionFolder

UP_TO_DATE_ROWS = 50  # so many rows are written anew with each one that comes
SHARE_OF_TIME = 0.02  # of more rows, so much of the time at most
IN_MEMORY_BYTES = 1 << 20


class Summaries:
    """Takes final rows of `runs` in and keeps both files up to date. Only the session's writer may use it.

    `clock`: seconds, never going back.
    """

    def __init__(self, folder: SessionFolder, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._cells = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115  lives as long as this
        self._at: dict[int, int] = {}  # place in the plan -> where its cells begin
        self._safe: set[int] = set()
        self._next_s = 0.0
        self._stale = False

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row in. Only the latest final attempt of a run counts."""
        index, cells = row["index"], summary_row(row)
        if not row["is_final"] or (index in self._at and self._row(index)["retries"] > cells["retries"]):
            return
        self._at[index] = self._cells.seek(0, io.SEEK_END)
        pickle.dump(cells, self._cells)
        self._safe.discard(index)
        if row["safe"]:
            self._safe.add(index)
        self._stale = True

    def refresh_if_due(self) -> None:
        """Write both files, unless they are long and were written a moment ago. Errors as `refresh`."""
        if len(self._at) <= UP_TO_DATE_ROWS or self._clock() >= self._next_s:
            self.refresh()

    def refresh(self) -> None:
        """Write both files, if there is anything new. CannotRunError when the disk refuses."""
        if not self._stale:
            return
        begun_s = self._clock()
        self._write(self._folder.summary_csv, sorted(self._at))
        self._write(self._folder.summary_safe_csv, sorted(self._safe))
        self._stale = False
        ended_s = self._clock()
        self._next_s = ended_s + (ended_s - begun_s) / SHARE_OF_TIME

    def _write(self, path: Path, indices: Sequence[int]) -> None:
        names = {name: None for index in indices for name in self._row(index)}
        with whole_file(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
            writer = csv.DictWriter(text, summary_columns([names]), restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(self._row, indices))
            text.detach()

    def _row(self, index: int) -> dict[str, Any]:
        self._cells.seek(self._at[index])
        cells: dict[str, Any] = pickle.load(self._cells)
        return cells
