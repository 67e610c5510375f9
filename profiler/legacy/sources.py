"""Joins what belongs to one old run: its folder, its record, its rows in summary files. It judges nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from profiler.legacy.found import ENERGY, RECORD, RUN_NAME, Skipped, Tree
from profiler.legacy.records import BadRecordError, OldRecord, read_record, seconds_apart
from profiler.legacy.summaries import SummaryRow, read_summary
from profiler.legacy.traces import OldTrace, read_trace

NO_TRACE = OldTrace()
SAME_RUN_S = 5.0
"""experiment.json and summary.csv were written one after the other: the same run's times differ a little."""


@dataclass(frozen=True)
class OldRun:
    """One run of the tree. `proven`: some record of it could be read; without one there is only the folder's name.
    `left_out_of`: the hand-made safe summary that lacks this run although the summary beside it has it."""

    record: OldRecord
    proven: bool
    folder: Path | None = None
    rows: tuple[SummaryRow, ...] = ()
    trace: OldTrace = NO_TRACE
    problems: tuple[str, ...] = ()
    left_out_of: Path | None = None

    @property
    def place(self) -> str:
        """Where the run stands, for messages."""
        if self.folder is not None:
            return str(self.folder)
        return f"{self.rows[0].path}:{self.rows[0].line}"


def collect(tree: Tree) -> tuple[list[OldRun], list[Skipped]]:
    """Every run of the tree in order of time, and what could not be used. One bad run never stops the others."""
    rows: list[SummaryRow] = []
    skipped: list[Skipped] = []
    for path in tree.summaries:
        read, problems = read_summary(path)
        rows += read
        skipped += problems
    runs, repeated = _without_copies(_from_folder(folder) for folder in tree.run_folders)
    runs, loose = _with_rows(runs, rows)
    runs += [_from_rows(group) for group in _grouped(loose)]
    runs = _marked(runs, tree.summaries)
    return sorted(runs, key=_by_time), [*tree.skipped, *skipped, *repeated]


def _by_time(run: OldRun) -> tuple[str, str, str]:
    return run.record.timestamp or "", run.record.original_id, run.place


def _from_folder(folder: Path) -> OldRun:
    trace = read_trace(folder / ENERGY)
    try:
        return OldRun(read_record(folder / RECORD), True, folder, trace=trace)
    except BadRecordError as error:
        why = str(error) if (folder / RECORD).exists() else "is missing"
        return OldRun(_nameless(folder.name), False, folder, trace=trace, problems=(f"{RECORD} {why}",))


def _nameless(name: str) -> OldRecord:
    """What a folder's name alone tells."""
    return OldRecord(
        original_id=name,
        timestamp=None,
        repo="",
        model="",
        parallel=name.endswith("_parallel"),
        success=None,
        retries=None,
        duration_s=None,
        hyperparameters={},
        figures={},
        metrics={},
        error_message=None,
        background=None,
        document={},
    )


def _without_copies(runs: Iterable[OldRun]) -> tuple[list[OldRun], list[Skipped]]:
    """A folder that was copied holds the same id with the same time: one of them is enough."""
    kept: dict[tuple[str, str], OldRun] = {}
    others: list[OldRun] = []
    repeated: list[Skipped] = []
    for run in runs:
        if not run.proven or not run.record.timestamp:
            others.append(run)
        elif run.record.key in kept:
            first = kept[run.record.key]
            repeated.append(Skipped(run.place, f"is a copy: same id and time as {first.place}", lost=False))
        else:
            kept[run.record.key] = run
    return [*kept.values(), *others], repeated


def _with_rows(runs: Sequence[OldRun], rows: Sequence[SummaryRow]) -> tuple[list[OldRun], list[SummaryRow]]:
    """The runs with the rows that are theirs, and the rows that no folder has."""
    by_id: dict[str, list[int]] = {}
    for position, run in enumerate(runs):
        by_id.setdefault(run.record.original_id, []).append(position)
    out, loose = list(runs), []
    for row in rows:
        owner = next((n for n in by_id.get(row.record.original_id, ()) if _is_row_of(row, out[n])), None)
        if owner is None:
            loose.append(row)
        elif out[owner].proven:
            out[owner] = replace(out[owner], rows=(*out[owner].rows, row))
        else:
            out[owner] = replace(out[owner], rows=(*out[owner].rows, row), record=row.record, proven=True)
    return out, loose


def _is_row_of(row: SummaryRow, run: OldRun) -> bool:
    apart = seconds_apart(row.record.timestamp, run.record.timestamp)
    if apart is not None:
        return apart <= SAME_RUN_S
    return run.folder is not None and run.folder.parent == row.path.parent


def _grouped(rows: Sequence[SummaryRow]) -> list[list[SummaryRow]]:
    """Rows of several files that are about the same run."""
    groups: list[list[SummaryRow]] = []
    by_id: dict[str, list[list[SummaryRow]]] = {}
    for row in rows:
        known = by_id.setdefault(row.record.original_id, [])
        group = next((group for group in known if _same(group[0], row)), None)
        if group is None:
            group = []
            known.append(group)
            groups.append(group)
        group.append(row)
    return groups


def _same(first: SummaryRow, second: SummaryRow) -> bool:
    apart = seconds_apart(first.record.timestamp, second.record.timestamp)
    return apart <= SAME_RUN_S if apart is not None else first.cells == second.cells


def _from_rows(group: Sequence[SummaryRow]) -> OldRun:
    """A run without a folder. Of several rows the one with most cells speaks."""
    ordered = sorted(group, key=lambda row: len(row.cells), reverse=True)
    return OldRun(ordered[0].record, True, rows=tuple(ordered))


def _marked(runs: Sequence[OldRun], summaries: Sequence[Path]) -> list[OldRun]:
    """Runs that users left out of their safe summary by hand."""
    safe_files = [path for path in summaries if "safe" in path.stem.lower()]
    out = []
    for run in runs:
        own = {row.path for row in run.rows}
        lacking = [path for path in safe_files if path not in own and any(p.parent == path.parent for p in own)]
        out.append(replace(run, left_out_of=lacking[0]) if lacking else run)
    return out


def name_parts(original_id: str) -> str:
    """The `<repo>_<model>` part of an old id; the id itself where it has another form."""
    match = RUN_NAME.fullmatch(original_id)
    return match.group("name") if match else original_id
