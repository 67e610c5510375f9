"""Reads the summary CSV files of the older tool in the forms that occur. It judges nothing.

Forms: plain columns; `fg_*` columns beside blank plain ones and `bg_*` for the background (parallel runs); rows with
more or fewer cells than the header, which cannot be assigned to columns and are told instead of guessed.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from profiler.legacy.cells import is_absent, number, scalar, truth
from profiler.legacy.found import Skipped
from profiler.legacy.records import OldBackground, OldRecord, text_of
from profiler.store.export import EXPERIMENT_ENERGY, SUMMARY_ENERGY

_FOREGROUND, _BACKGROUND = "fg_", ("bg_", "background_")

FIGURE_COLUMNS = dict(zip(SUMMARY_ENERGY, EXPERIMENT_ENERGY, strict=True))
"""Column of a summary -> name in `energy_metrics`."""


@dataclass(frozen=True)
class SummaryRow:
    """One row: where it stands, its cells that hold something, and the record they make."""

    path: Path
    line: int
    cells: Mapping[str, str]
    record: OldRecord
    unended: bool = False
    """The file ends without a line end right after this row: its last cell may have been cut."""


def read_summary(path: Path) -> tuple[list[SummaryRow], list[Skipped]]:
    """The rows of a summary file, and what of it could not be used."""
    try:
        data = path.read_bytes()
        lines = list(_lines(data.decode("utf-8-sig")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return [], [Skipped(str(path), f"cannot be read: {error}")]
    if not lines:
        return [], [Skipped(str(path), "is empty")]
    header = [name.strip() for name in lines[0][1]]
    rows: list[SummaryRow] = []
    skipped: list[Skipped] = []
    for place, cells in lines[1:]:
        unended = place == lines[-1][0] and not data.endswith((b"\n", b"\r"))
        problem = _problem(header, cells, cut=unended)
        if problem:
            skipped.append(Skipped(f"{path}:{place}", problem))
        else:
            rows.append(_row(path, place, dict(zip(header, cells, strict=True)), unended))
    return rows, skipped


def _lines(text: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(text.splitlines(keepends=True))
    return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]


def _problem(header: list[str], cells: list[str], *, cut: bool) -> str:
    if len(cells) == len(header):
        return "" if cells[header.index("experiment_id")].strip() else "has no experiment_id"
    why = "the file was cut short here" if cut and len(cells) < len(header) else "cells cannot be assigned to columns"
    return f"has {len(cells)} cells under {len(header)} columns; {why}: {', '.join(cells)[:200]}"


def _row(path: Path, line: int, cells: Mapping[str, str], unended: bool) -> SummaryRow:
    filled = {name: cell.strip() for name, cell in cells.items() if not is_absent(cell)}
    return SummaryRow(path, line, filled, _record(_plain(filled)), unended)


def _plain(cells: Mapping[str, str]) -> dict[str, str]:
    """`fg_x` stands for x where x is blank."""
    front = {name.removeprefix(_FOREGROUND): cell for name, cell in cells.items() if name.startswith(_FOREGROUND)}
    return {**front, **{name: cell for name, cell in cells.items() if not name.startswith(_FOREGROUND)}}


def _record(cells: Mapping[str, str]) -> OldRecord:
    original_id = cells["experiment_id"]
    figures = {name: number(cells.get(column)) for column, name in FIGURE_COLUMNS.items()}
    metrics = {name: number(cell) for name, cell in _group(cells, "perf_").items()}
    retries = number(cells.get("retries"))
    return OldRecord(
        original_id=original_id,
        timestamp=text_of(cells.get("timestamp")),
        repo=cells.get("repository", ""),
        model=cells.get("model", ""),
        parallel=original_id.endswith("_parallel") or cells.get("mode") == "parallel",
        success=truth(cells.get("training_success", "")),
        retries=int(retries) if retries is not None and retries >= 0 else None,
        duration_s=number(cells.get("duration_seconds")),
        hyperparameters={name: scalar(cell) for name, cell in _group(cells, "hyperparam_").items()},
        figures={name: value for name, value in figures.items() if value is not None},
        metrics={name: value for name, value in metrics.items() if value is not None},
        error_message=text_of(cells.get("error_message")),
        background=_background(cells),
        document=dict(cells),
    )


def _background(cells: Mapping[str, str]) -> OldBackground | None:
    for prefix in _BACKGROUND:
        back = _group(cells, prefix)
        if back.get("repository"):
            values = {name: scalar(cell) for name, cell in _group(back, "hyperparam_").items()}
            return OldBackground(
                back["repository"], back.get("model", ""), values, back.get("log_directory"), back.get("note")
            )
    return None


def _group(cells: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): cell for name, cell in cells.items() if name.startswith(prefix)}
