"""Many sessions as one dataset: a results folder opens as its sessions do. It reads only what is there now."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from profiler.errors import SessionError, UsageError
from profiler.shell import quoted
from profiler.store.ledger import check_distinct
from profiler.store.read import Session, open_session
from profiler.store.rows import to_json
from profiler.store.schema import PLAN, PROCESSES, RUNS

if TYPE_CHECKING:
    import pandas as pd


class Sessions:
    """The sessions of one results folder, by name. Methods are those of `Session`; rows come session after session."""

    def __init__(self, root: Path, sessions: tuple[Session, ...]) -> None:
        self.root = root
        self.sessions = sessions

    def __repr__(self) -> str:
        return f"Sessions({str(self.root)!r}, {len(self.sessions)})"

    def __len__(self) -> int:
        return len(self.sessions)

    def rows(self) -> list[dict[str, Any]]:
        """One row a planned run, as `Session.rows`."""
        return [row for session in self.sessions for row in session.rows()]

    def attempts(self) -> list[dict[str, Any]]:
        return [row for session in self.sessions for row in session.attempts()]

    def final_rows(self) -> list[dict[str, Any]]:
        return [row for session in self.sessions for row in session.final_rows()]

    def counts(self) -> dict[str, int]:
        counted: Counter[str] = Counter()
        for session in self.sessions:
            counted.update(session.counts())
        return dict(counted)

    def to_json(self) -> dict[str, Any]:
        """{"session_id": null, "sessions": [names], "runs": [...]}: what `show --json` prints of a results folder."""
        names = [session.session_id for session in self.sessions]
        return {"session_id": None, "sessions": names, "runs": to_json(self.rows())}

    def row(self, run_id: str) -> dict[str, Any]:
        """The row of one run by its run_id, or experiment_id where one session only has it; else SessionError."""
        return self._of(run_id).row(run_id)

    def runs(self, safe: bool = False, flat: bool = False) -> pd.DataFrame:
        """One row a planned run of every session, columns as `Session.runs`."""
        from profiler.store.frames import flatten, frame_of

        rows = [row for row in self.rows() if row["safe"] or not safe]
        frame = frame_of(RUNS, rows)
        return flatten(frame, rows) if flat else frame

    def plan(self) -> pd.DataFrame:
        from profiler.store.frames import frame_of

        return frame_of(PLAN, [row for session in self.sessions for row in session.plan_rows()])

    def processes(self) -> pd.DataFrame:
        from profiler.store.frames import frame_of

        return frame_of(PROCESSES, [row for session in self.sessions for row in session.sightings()])

    def samples(self, run_id: str, attempt: int | None = None) -> pd.DataFrame:
        """The trace of one run's attempt, as `Session.samples`."""
        return self._of(run_id).samples(run_id, attempt)

    def sample_table(self, run_id: str, attempt: int | None = None) -> pa.Table:
        return self._of(run_id).sample_table(run_id, attempt)

    def trace_of(self, row: Mapping[str, Any]) -> pa.Table:
        """The trace of the attempt that `row` is of, as an Arrow table."""
        return self._of(row["run_id"]).trace_of(row)

    def _of(self, run_id: str) -> Session:
        """The session that has the run. A run_id begins with its session's name."""
        named = [session for session in self.sessions if run_id.startswith(f"{session.session_id}-")]
        having = named or [
            session for session in self.sessions if any(row["experiment_id"] == run_id for row in session.plan_rows())
        ]
        if len(having) == 1:
            return having[0]
        if having:
            raise SessionError(f"{run_id!r} is in {len(having)} sessions of {self.root}; give its run_id")
        raise SessionError(f"no run {run_id!r} in {self.root}; `profiler show {quoted(self.root)}` lists them")


def open_results(path: str | os.PathLike[str]) -> Session | Sessions:
    """The session in folder `path`, or all sessions of the results folder `path` as one. SessionError where there is
    neither, where a file of one is damaged, or where one is a copy of another; UsageError where `path` is none."""
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"this is no path: {path!r:.80}\ngive a session's folder, or a results folder")
    root = Path(path)
    if not root.is_dir() or (root / "dataset").is_dir():
        return open_session(root)
    folders = sorted(folder for folder in root.iterdir() if (folder / "dataset").is_dir())
    if not folders:
        return open_session(root)  # which says what is missing
    sessions = tuple(open_session(folder) for folder in folders)
    check_distinct(session.folder for session in sessions)
    return Sessions(root.resolve(), sessions)
