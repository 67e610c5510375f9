"""Summaries of long campaigns: the same bytes as from the rows on disk, and no work that grows with each row."""

from __future__ import annotations

import csv
from pathlib import Path

from profiler.store.layout import SessionFolder
from profiler.store.rows import complete_run
from profiler.store.summaries import SHARE_OF_TIME, UP_TO_DATE_ROWS, Summaries
from profiler.store.write import refresh_summaries, write_run
from tests.store.build import attempt_row, failed, session_folder


class Clock:
    """Every look takes `step_s`."""

    def __init__(self) -> None:
        self.now_s, self.step_s = 0.0, 0.0

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def names(folder: SessionFolder) -> list[str]:
    return [row["experiment_id"] for row in csv.DictReader(folder.summary_csv.open(newline=""))]


def test_they_are_what_the_rows_on_disk_give(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 4)
    rows = [
        attempt_row(folder, 3),
        attempt_row(folder, 1, 1, **failed()),
        attempt_row(folder, 1, 2, hyperparameters={"rate": 0.1, "names": ["a", None]}),
        attempt_row(folder, 2, 1, is_final=False, **failed()),
        attempt_row(folder, 4, 1, **failed()),
    ]
    summaries = Summaries(folder)
    for row in [rows[2], *rows]:  # an older attempt that comes late changes nothing
        summaries.add(write_run(folder, row))
    summaries.refresh()
    own = folder.summary_csv.read_bytes(), folder.summary_safe_csv.read_bytes()
    refresh_summaries(folder)
    assert own == (folder.summary_csv.read_bytes(), folder.summary_safe_csv.read_bytes())
    assert [name[-3:] for name in names(folder)] == ["001", "003", "004"]


def test_many_rows_are_written_only_now_and_then_and_whole_at_the_end(tmp_path: Path) -> None:
    folder, clock = session_folder(tmp_path, 1), Clock()
    summaries = Summaries(folder, clock)
    row = complete_run(attempt_row(folder, 1))

    def add(index: int) -> None:
        summaries.add({**row, "index": index, "experiment_id": f"model_{index:03d}"})
        summaries.refresh_if_due()

    for index in range(1, UP_TO_DATE_ROWS + 1):
        add(index)
        assert len(names(folder)) == index
    clock.step_s = 1.0
    add(UP_TO_DATE_ROWS + 1)  # takes two looks at the clock: one second of work
    clock.step_s = 0.0
    add(UP_TO_DATE_ROWS + 2)
    assert len(names(folder)) == UP_TO_DATE_ROWS + 1
    clock.now_s += 1.0 / SHARE_OF_TIME
    add(UP_TO_DATE_ROWS + 3)
    assert len(names(folder)) == UP_TO_DATE_ROWS + 3
    clock.step_s = 1.0
    add(UP_TO_DATE_ROWS + 4)
    clock.step_s = 0.0
    add(UP_TO_DATE_ROWS + 5)
    summaries.refresh()
    assert len(names(folder)) == UP_TO_DATE_ROWS + 5
