"""The session's diary: append-only JSON lines, each on disk before the call returns. It decides nothing.

Events: session_created, attempt_started, attempt_finished, attempt_refused (the gate stayed closed),
attempt_not_executed (ended before its trainer began), interrupted, session_finished, imported (the whole session comes
from another tool's files); each with what applies of run_id, attempt, node_id, boot_id, pid, and always with t_utc. A
line that a crash cut short is passed over by readers and closed by the next writer, so it never spoils its neighbour.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from profiler.errors import CannotRunError, SessionError
from profiler.store.files import cannot_write, sync_folder
from profiler.store.layout import SessionFolder, utc_now
from profiler.store.rows import to_json

SESSION_CREATED = "session_created"
ATTEMPT_STARTED = "attempt_started"
ATTEMPT_FINISHED = "attempt_finished"
ATTEMPT_REFUSED = "attempt_refused"
ATTEMPT_NOT_EXECUTED = "attempt_not_executed"
INTERRUPTED = "interrupted"
SESSION_FINISHED = "session_finished"
IMPORTED = "imported"
IDENTITY_DIGITS = 16


@dataclass(frozen=True)
class LedgerText:
    """What a ledger says: its `events` in order, and how many lines were `torn`."""

    events: tuple[dict[str, Any], ...]
    torn: int


class Ledger:
    """Appends to one ledger file. CannotRunError when the line cannot be written (disk full, permission)."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = utc_now) -> None:
        self.path = path
        self._clock = clock

    def append(self, event: Mapping[str, Any]) -> None:
        """Add one event, durable on return. `event["event"]` is its name; t_utc is added when it is not given."""
        if not event.get("event"):
            raise ValueError(f"a ledger event without a name: {dict(event)!r}")
        line = json.dumps(to_json({"t_utc": self._clock(), **event}), ensure_ascii=False, allow_nan=False)
        try:
            self._append_line(line.encode() + b"\n")
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def _append_line(self, line: bytes) -> None:
        new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            data = b"\n" + line if torn else line
            try:
                _write_all(descriptor, data)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            sync_folder(self.path.parent)

    def read(self) -> LedgerText:
        return read_ledger(self.path)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def read_ledger(path: Path) -> LedgerText:
    """All whole events; a missing file has none. Lines that are not a JSON object with an event name count as torn."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return LedgerText((), 0)
    events: list[dict[str, Any]] = []
    torn = 0
    for line in lines:
        event = _parse(line)
        if event is not None:
            events.append(event)
        elif line.strip():
            torn += 1
    return LedgerText(tuple(events), torn)


def session_identity(path: Path) -> str:
    """Of a session, wherever it lies and whoever drives it: a digest of its first event, which has time, host, process
    and plan. CannotRunError when there is none."""
    event = _first_event(path)
    if event is None:
        raise CannotRunError(f"{path} has no event: this is no session that can be driven")
    return _identity(event)


def check_distinct(folders: Iterable[SessionFolder]) -> None:
    """SessionError where two of `folders` hold one session, since each of its runs would count twice. Folders without
    a ledger are passed over."""
    known: dict[str, SessionFolder] = {}
    for folder in folders:
        event = _first_event(folder.ledger)
        first = folder if event is None else known.setdefault(_identity(event), folder)
        if first is not folder:
            raise SessionError(
                f"{first.root} and {folder.root} are one session, of which one is a copy: each of its runs would count "
                "twice; move one of them elsewhere"
            )


def _identity(event: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest()[:IDENTITY_DIGITS]


def _first_event(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            return next((event for line in file if (event := _parse(line)) is not None), None)
    except FileNotFoundError:
        return None


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
