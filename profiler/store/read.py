"""Reads a session: rows of its runs, its plan, traces. It changes no record and may run while a driver writes.

pandas is imported only by the methods that return a DataFrame: the others are fast to start.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from profiler.errors import SessionError
from profiler.shell import quoted
from profiler.store.files import cannot_read
from profiler.store.layout import SampleSpan, SessionFolder
from profiler.store.ledger import IMPORTED, LedgerText, read_ledger
from profiler.store.remote import COPY_FIRST, is_uri, shown
from profiler.store.row_cache import FILES_AT_ONCE, RowCache
from profiler.store.rows import not_run, to_json
from profiler.store.schema import EPOCHS, NODES, PLAN, PROCESSES, RUNS, SAMPLES, SCHEMA_VERSION, Table, arrow_schema
from profiler.store.trace_csv import write_energy_folder

if TYPE_CHECKING:
    import pandas as pd

_READ_TRIES = 5
Read = TypeVar("Read")


def open_session(path: str | Path) -> Session:
    """The session in folder `path`. SessionError when there is none, or when a file of it is damaged; CannotRunError
    when the system does not give it."""
    root = Path(path)
    if is_uri(str(path)):
        raise SessionError(f"{shown(str(path))} is a URI, and a session is read from a folder: {COPY_FIRST}")
    if not root.exists():
        raise SessionError(f"no session at {root}: there is nothing of that name; look into your results folder")
    if not (root / "dataset").is_dir():
        raise SessionError(f"{root} is not a session: it has no dataset/ folder{_hint(root)}")
    session = Session(root)
    session.rows()
    return session


def _hint(root: Path) -> str:
    sessions = sorted(path.name for path in root.glob("run_*") if (path / "dataset").is_dir()) if root.is_dir() else []
    if not sessions:
        return "; name a folder such as results/run_20260101_000000"
    return f"; it holds sessions, name one of them, for example {root / sessions[-1]}"


class Session:
    """One session folder. Every call reads what is on disk now; a row is a dict with all columns of `runs`."""

    def __init__(self, root: str | Path) -> None:
        self.folder = SessionFolder(Path(root).resolve())
        self._cache = RowCache(read_file)

    def __repr__(self) -> str:
        return f"Session({str(self.folder.root)!r})"

    @property
    def session_id(self) -> str:
        return self.folder.session_id

    @property
    def root(self) -> Path:
        return self.folder.root

    def check_name(self) -> None:
        """SessionError where the folder was renamed: its files know the session by the old name, so what is trained
        now would stand beside them as another's."""
        names = sorted({row["session_id"] for row in self.plan_rows()} - {self.session_id})
        if names:
            raise SessionError(
                f"{self.root} is session {names[0]} under another name, and its runs would be done again; "
                f"rename the folder to {names[0]} (a copy: of that name in another folder)"
            )

    def planned(self) -> list[dict[str, Any]]:
        """The planned runs as the plan wrote them (PlannedRun.to_json()), in plan order."""
        return [json.loads(row["planned"]) for row in self.plan_rows()]

    def attempts(self) -> list[dict[str, Any]]:
        """Every attempt's row, in plan order and then by attempt."""
        return sorted(self._read_rows(RUNS), key=_order)

    def final_rows(self) -> list[dict[str, Any]]:
        """The final attempt of each run that has one, in plan order."""
        return final_rows(self.attempts())

    def rows(self) -> list[dict[str, Any]]:
        """One row a planned run: its final attempt, else its last attempt, else the planned fields with nulls that say
        `not_run`. Attempts of runs that the plan does not know follow at the end."""
        attempts = latest_rows(self.attempts())
        planned = {row["run_id"]: row for row in self.plan_rows()}
        rows = [attempts.get(run_id) or not_run(row) for run_id, row in planned.items()]
        unplanned = [row for run_id, row in attempts.items() if run_id not in planned]
        return rows + sorted(unplanned, key=_order)

    def row(self, run_id: str) -> dict[str, Any]:
        """The row of one run, by its run_id or experiment_id; SessionError when there is none."""
        for row in self.rows():
            if run_id in (row["run_id"], row["experiment_id"]):
                return row
        raise SessionError(f"no run {run_id!r} in {self.root}; `profiler show {quoted(self.root)}` lists them")

    def to_json(self) -> dict[str, Any]:
        """{"session_id", "runs": [...]} with times as text: what `show --json` prints."""
        return {"session_id": self.session_id, "runs": to_json(self.rows())}

    def counts(self) -> dict[str, int]:
        """How many runs are planned, valid, safe, contaminated, failed, and without a final attempt."""
        rows = self.rows()
        verdicts = Counter(row["verdict"] for row in rows if row["is_final"])
        return {
            "planned": len(rows),
            "valid": sum(1 for row in rows if row["is_final"] and row["valid"]),
            "safe": verdicts["valid"],
            "contaminated": verdicts["contaminated"],
            "failed": verdicts["failed"],
            "not_final": sum(1 for row in rows if not row["is_final"]),
        }

    def ledger(self) -> LedgerText:
        return read_ledger(self.folder.ledger)

    def imported_from(self) -> str | None:
        """The folder of old results that the session was made from; None for one that was run here."""
        return next((event["source"] for event in self.ledger().events if event["event"] == IMPORTED), None)

    def runs(self, safe: bool = False, flat: bool = False) -> pd.DataFrame:
        """One row a planned run. `safe`: only runs that are valid and uncontaminated. `flat`: also a column hp_<name>
        for each effective hyperparameter and metric_<name> for each metric. Null is NaN, NaT, <NA> or None."""
        from profiler.store.frames import flatten, frame_of

        rows = [row for row in self.rows() if row["safe"] or not safe]
        frame = frame_of(RUNS, rows)
        return flatten(frame, rows) if flat else frame

    def plan(self) -> pd.DataFrame:
        """One row a planned run, columns of `plan`."""
        from profiler.store.frames import frame_of

        return frame_of(PLAN, self.plan_rows())

    def sightings(self) -> list[dict[str, Any]]:
        """The rows of `processes`."""
        return self._read_rows(PROCESSES)

    def nodes(self) -> list[dict[str, Any]]:
        """The rows of `nodes`, oldest first: what each driver of the session found out of each node."""
        return sorted(self._read_rows(NODES), key=lambda row: (row["measured_at"], row["node_id"]))

    def processes(self) -> pd.DataFrame:
        """Who was on which GPU when, columns of `processes`."""
        from profiler.store.frames import frame_of

        return frame_of(PROCESSES, self.sightings())

    def samples(self, run_id: str, attempt: int | None = None) -> pd.DataFrame:
        """The trace of a run's attempt (default: the one that `row` gives): rows of its node and boot within its
        window, by time. Empty when the attempt has no window. SessionError when there is no such run or attempt."""
        from profiler.store.frames import arrow_frame

        return arrow_frame(self.sample_table(run_id, attempt))

    def sample_table(self, run_id: str, attempt: int | None = None) -> pa.Table:
        """As `samples`, as an Arrow table."""
        return self.trace_of(self.row(run_id) if attempt is None else self._attempt(run_id, attempt))

    def trace_of(self, row: Mapping[str, Any]) -> pa.Table:
        """The trace of the attempt that `row` is of, as an Arrow table."""
        if None in (row["node_id"], row["boot_id"], row["window_start_ns"], row["window_end_ns"]):
            return arrow_schema(SAMPLES).empty_table()
        span = SampleSpan(row["boot_id"], row["window_start_ns"], row["window_end_ns"])
        return self.samples_between(row["node_id"], span)

    def samples_between(self, node_id: str, span: SampleSpan, columns: Sequence[str] | None = None) -> pa.Table:
        """A node's rows of the trace within `span`, by time; only `columns` (t_mono_ns among them) if given."""
        tables = read_tables(self.folder.samples_of(node_id), lambda path: _read_span(path, span, columns))
        empty = arrow_schema(SAMPLES).empty_table()
        table = pa.concat_tables(
            [empty.select(list(columns or empty.column_names)), *tables], promote_options="default"
        )
        return table.sort_by([("t_mono_ns", "ascending")])

    def epochs(self, run_id: str, attempt: int | None = None) -> pd.DataFrame:
        """Energy of each epoch of a run's attempt (default: the one that `row` gives), columns of `epochs`: its parts
        end to end, from the trainer's start to its end. Empty when the attempt has no window. SessionError as
        `samples`."""
        from profiler.store.epochs import epoch_rows
        from profiler.store.frames import frame_of

        row = self.row(run_id) if attempt is None else self._attempt(run_id, attempt)
        return frame_of(EPOCHS, epoch_rows(self, row))

    def export_energy(self, run_id: str) -> list[Path]:
        """Write the run's `energy/` folder: its trace as CSV files of the older tool. Returns the files."""
        row = self.row(run_id)
        return write_energy_folder(self.folder, row, self.sample_table(run_id))

    def report(self, path: str | Path, *, traces: Sequence[str] = ()) -> Path:
        """Write the session as one HTML file; returns it. `traces`: runs whose power trace it shows in any case. Errors
        as `profiler.report.write_report`."""
        from profiler.report import write_report

        return write_report(self, path, traces=traces)

    def _attempt(self, run_id: str, attempt: int) -> dict[str, Any]:
        for row in self.attempts():
            if run_id in (row["run_id"], row["experiment_id"]) and row["attempt"] == attempt:
                return row
        raise SessionError(f"no attempt {attempt} of run {run_id!r} in {self.root}")

    def _read_rows(self, table: Table) -> list[dict[str, Any]]:
        folder = self.folder.dataset(table.name)
        return steadily(folder, lambda: self._cache.rows(parquet_files(folder), table))

    def plan_rows(self) -> list[dict[str, Any]]:
        """The rows of `plan`, in plan order."""
        return sorted(self._read_rows(PLAN), key=_order)


def _order(row: Mapping[str, Any]) -> tuple[int, int, str, int]:
    """Plan order. Rows without an index sort by the number that ends their run_id."""
    index = row.get("index")
    number = str(row["run_id"]).rpartition("-")[2]
    place = index if index is not None else int(number) if number.isdigit() else 0
    return place, len(row["run_id"]), row["run_id"], row.get("attempt") or 0


def latest_rows(attempts: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """run_id -> the row that speaks for the run: its latest final attempt, else its latest attempt."""
    chosen: dict[str, dict[str, Any]] = {}
    for row in attempts:
        other = chosen.get(row["run_id"])
        if other is None or _weight(row) > _weight(other):
            chosen[row["run_id"]] = dict(row)
    return chosen


def _weight(row: Mapping[str, Any]) -> tuple[bool, int]:
    return bool(row["is_final"]), row["attempt"]


def final_rows(attempts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The final attempt of each run that has one, in plan order."""
    return sorted((row for row in latest_rows(attempts).values() if row["is_final"]), key=_order)


def read_file(path: Path) -> pa.Table:
    """One Parquet file. FileNotFoundError when it is gone, else errors as `damage_named`."""
    with damage_named(path):
        file = pq.ParquetFile(path)
        _check_version(path, file.metadata.metadata or {})
        return file.read(use_threads=False)


def _check_version(path: Path, metadata: Mapping[bytes, bytes]) -> None:
    """An older file is read with nulls for what it lacks; a newer one may mean something else by the same name."""
    version = metadata.get(b"profiler.schema_version", b"0")
    if version.isdigit() and int(version) > SCHEMA_VERSION:
        raise SessionError(
            f"{path} is of schema version {int(version)}, this program knows {SCHEMA_VERSION}: "
            "it was written by a newer version; read it with that one"
        )


def read_rows(folder: Path, table: Table, read: Callable[[Path], pa.Table] = read_file) -> list[dict[str, Any]]:
    """All rows of a dataset folder, typed. A missing folder has none; errors name the file as `damage_named`."""
    return steadily(folder, lambda: RowCache(read).rows(parquet_files(folder), table))


def rows_in_pieces(folder: Path, table: Table) -> Iterator[dict[str, Any]]:
    """As `read_rows`, with the rows of a few hundred files in memory at a time. Only for the session's one writer:
    compaction must not come between."""
    paths = parquet_files(folder)
    for start in range(0, len(paths), FILES_AT_ONCE):
        yield from RowCache(read_file).rows(paths[start : start + FILES_AT_ONCE], table)


def read_tables(folder: Path, read: Callable[[Path], pa.Table | None]) -> list[pa.Table]:
    """What `read` gives for each Parquet file below `folder`, without None."""
    tables = steadily(folder, lambda: [read(path) for path in parquet_files(folder)])
    return [table for table in tables if table is not None]


def steadily(folder: Path, read: Callable[[], Read]) -> Read:
    """What `read` gives, which reads the files below `folder`. It is called again when compaction put another folder in
    its place meanwhile: then a listed file is gone, or the listing was of a folder that was being emptied."""
    error: FileNotFoundError | None = None
    for _ in range(_READ_TRIES):
        before = _inode(folder)
        try:
            found = read()
        except FileNotFoundError as caught:
            error = caught
        else:
            if _inode(folder) == before:
                return found
    raise SessionError(f"{folder} keeps changing while it is read ({error or 'exchanged'}); try again") from error


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files below `folder`. Names that start with '.' are not there yet. CannotRunError when a folder
    cannot be listed: without its files the session would look as if it had less."""
    found: list[Path] = []
    for base, folders, names in os.walk(folder, onerror=_refuse_unlisted) if folder.is_dir() else ():
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(base, name) for name in names if name.endswith(".parquet") and not name.startswith(".")]
    return sorted(found)


def _refuse_unlisted(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):
        raise error
    raise cannot_read(Path(error.filename), error) from error


def _read_span(path: Path, span: SampleSpan, columns: Sequence[str] | None) -> pa.Table | None:
    """The rows of a trace file within `span`; None when its name says that it has none."""
    if not span.may_be_in(path.name):
        return None
    inside = [
        ("boot_id", "==", span.boot_id),
        ("t_mono_ns", ">=", span.start_ns),
        ("t_mono_ns", "<=", span.end_ns),
    ]
    with damage_named(path):
        return pq.read_table(path, columns=columns and list(columns), filters=inside, partitioning=None)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """While the Parquet file `path` is read: SessionError when it is damaged, CannotRunError when the system does not
    give it. FileNotFoundError passes."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # what is wrong inside a file has none
            raise cannot_read(path, error) from error
        raise SessionError(
            f"damaged file {path}: {error}; move it out of {path.parent} and look at it: "
            "without it the rest of the session opens, and `profiler resume` does again what is missing then"
        ) from error
