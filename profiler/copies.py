"""Copies of a session's files at a URI, made while the campaign runs. The session itself stays a local folder.

A run's files are put there when it has ended, what belongs to the whole session once a minute and at the end. A file
that could not be put stops nothing: it is told, and tried again. It reads no record.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from profiler import spool
from profiler.errors import CannotRunError, NotCopiedError, SessionError
from profiler.shell import quoted
from profiler.store.files import write_whole
from profiler.store.layout import SessionFolder, create_session, utc_now
from profiler.store.ledger import SESSION_FINISHED
from profiler.store.remote import Store, first_line, open_store

Observer = Callable[[dict[str, Any]], None]

SHARED_INTERVAL_S = 60.0
TRIES, PAUSE_S = 2, 2.0
LAST_CHANCE_S = 30.0  # for an interrupted campaign to copy what it has
AWAY = 2  # so many files refused one after the other: the store may not be to be had now
_RECORD = ".copied"


def working_folder() -> Path:
    """Where sessions lie whose results go to a URI: this machine's own place for them (see `profiler.spool.place`)."""
    return spool.place() / "results"


def new_session(store: Store, clock: Callable[[], datetime] = utc_now) -> SessionFolder:
    """A new session in the working folder, of a name that is free at `store` too: drivers of other machines that begin
    in the same second would mix their files there. CannotRunError when one of the two places cannot be written."""
    given_way: list[SessionFolder] = []
    try:
        while True:
            folder, claim = create_session(working_folder(), clock), f".claim-{secrets.token_hex(8)}"
            if store.below(folder.session_id).claim(claim):
                _begin(folder.root / _RECORD, store.uri, claim)
                return folder
            given_way.append(folder)  # stays until another name is found, which is the next second's then
            time.sleep(secrets.randbelow(100) / 1000)  # two that give way to each other meet once
    except OSError as error:
        given_way.append(folder)
        raise CannotRunError(f"{folder.session_id} cannot be put at {store.uri}: {first_line(error)}") from error
    finally:
        for taken in given_way:
            shutil.rmtree(taken.root)


@contextmanager
def copying(folder: SessionFolder, store: Store | None, observer: Observer) -> Iterator[Observer]:
    """Inside the block the session is copied to `store`, of which nothing is done for None; yields the observer to tell
    of attempts. When it ends, whatever is not there yet is copied. Raises NotCopiedError when something could not be;
    where the block itself raises, that is told to `observer`."""
    if store is None:
        yield observer
        return
    copies = Copies(folder, store, observer)
    try:
        yield copies.observe
        copies.close(None)
    except BaseException:
        try:
            copies.close(LAST_CHANCE_S)
            copies.give_up_unless_begun()
        finally:
            if missing := copies.missing():
                observer({"event": "warning", "message": copies.shortfall(missing)})
        raise
    if missing := copies.missing():
        raise NotCopiedError(copies.shortfall(missing), folder.root, missing)
    observer({"event": "copies", "message": f"copied: the whole session is at {copies.store.uri}"})


def reopened(folder: SessionFolder) -> Store | None:
    """Where an earlier driver copied this session to, as `open_store`; None for one that is not copied."""
    record = folder.root / _RECORD
    if not record.is_file():
        return None
    try:
        uri = json.loads(record.read_text(errors="replace").splitlines()[0])["uri"]
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise SessionError(f"{record} is damaged; remove it to go on without copies") from error
    return open_store(str(uri))


class Copies:
    """What of a session is at `store` already, kept in a file beside the session's own. `store`: the results folder."""

    def __init__(self, folder: SessionFolder, store: Store, tell: Observer) -> None:
        self.store = store.below(folder.session_id)
        self._folder = folder
        self._tell = tell
        self._record = folder.root / _RECORD
        if not self._record.exists():
            _begin(self._record, store.uri, None)
        self._claim, self._done = _recorded(self._record)
        self._problems: SimpleQueue[str] = SimpleQueue()
        self._ended: SimpleQueue[tuple[str, str, int] | None] = SimpleQueue()
        self._rows: dict[str, tuple[str, str, int]] = {}
        self._reason = ""
        self._away_until_s = 0.0
        self._thread = threading.Thread(target=self._work, daemon=True, name="copies")
        self._thread.start()
        where = f"results are copied to {self.store.uri} as runs end; the working folder is {folder.root}"
        tell({"event": "copies", "message": where})

    def observe(self, event: dict[str, Any]) -> None:
        """Hand the event on; copy the run whose attempt has ended. What went wrong meanwhile is told from here."""
        self._tell(event)
        if event["event"] == "attempt":
            row = event["row"]
            self._rows[row["run_id"]] = (row["experiment_id"], row["run_id"], row["attempt"])
            self._ended.put(self._rows[row["run_id"]])
        elif event["event"] == "cooled" and event["run_id"] in self._rows:
            self._ended.put(self._rows[event["run_id"]])
        while not self._problems.empty():
            self._tell({"event": "warning", "message": self._problems.get()})

    def close(self, patience_s: float | None) -> None:
        """Copy what is left; give it `patience_s` seconds (None: as long as it takes)."""
        if left := len(self.missing()):
            within = "" if patience_s is None else f", for {patience_s:g} s at most"
            self._tell({"event": "copies", "message": f"copying {left} files to {self.store.uri}{within}"})
        self._ended.put(None)
        self._thread.join(patience_s)

    def give_up_unless_begun(self) -> None:
        """Of a campaign that was refused nothing stays there."""
        if self._claim is not None and not self._done and not self._folder.root.exists():
            with suppress(OSError):
                self.store.give_up(self._claim)

    def missing(self) -> list[str]:
        """The files of the session that are not at the store as they are here, and those that are there only."""
        here = self._everything()
        return [*(name for name in here if self._done.get(name) != self._state(name)), *self._gone()]

    def shortfall(self, missing: list[str]) -> str:
        names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        why = f" ({self._reason})" if self._reason else ""
        return (
            f"{len(missing)} files are not at {self.store.uri}{why}: {names}\n"
            f"the session is whole in {self._folder.root}; "
            f"copy the rest with: profiler resume {quoted(self._folder.root)}"
        )

    def _work(self) -> None:
        shared_s = time.monotonic()
        while (ended := self._ended.get()) is not None:
            self._put_all(self._of_run(*ended))
            if time.monotonic() - shared_s >= SHARED_INTERVAL_S:
                self._put_shared()
                shared_s = time.monotonic()
        for _ in range(TRIES):
            self._away_until_s = 0.0
            self._put_rest()
            if not self.missing():
                break
            time.sleep(PAUSE_S)

    def _put_shared(self) -> None:
        self._put_all(self._shared())
        if not self._is_finished():
            self._put_all([self._ledger])

    def _put_rest(self) -> None:
        """The ledger last: a copy whose ledger says `session_finished` is whole, and has nothing twice."""
        self._put_all(name for name in self._everything() if name != self._ledger)
        if not {*self.missing()} - {self._ledger, *self._gone()}:
            self._remove_gone()
        if self.missing() == [self._ledger]:
            self._put_all([self._ledger])

    def _put_all(self, names: Iterable[str]) -> None:
        """Those that are new or have changed. A store that refuses several in a row, and takes nothing else either, is
        left alone for a minute."""
        refused = 0
        for name in names:
            state = self._state(name)
            if state is None or self._done.get(name) == state or time.monotonic() < self._away_until_s:
                continue
            try:
                self.store.put(self._folder.root / name, name)
            except (OSError, ValueError) as error:  # ValueError: a name that the store cannot have
                if self._state(name) is None:
                    continue  # it was put aside just now
                refused += 1
                self._refused(name, error)
                if refused >= AWAY and not self._takes_anything():
                    self._away_until_s = time.monotonic() + SHARED_INTERVAL_S
            else:
                refused = 0
                self._reason = ""
                self._note(name, state)

    def _refused(self, name: str, error: Exception) -> None:
        reason = first_line(error)
        if not self._reason:  # told once, until something could be copied again
            self._problems.put(f"{name} could not be copied to {self.store.uri}: {reason}; it is tried again")
        self._reason = reason

    def _takes_anything(self) -> bool:
        try:
            self.store.probe()
        except OSError:
            return False
        return True

    def _remove_gone(self) -> None:
        for name in self._gone():
            try:
                self.store.remove(name)
            except OSError as error:
                self._refused(name, error)
                return
            self._note(name, None)

    def _gone(self) -> list[str]:
        """Files that were merged into others or moved since they were copied. None where the session itself is gone,
        its ledger with it: then the copy is all there is."""
        gone = [name for name in list(self._done) if self._state(name) is None]
        return gone if self._folder.ledger.exists() else []

    def _note(self, name: str, state: list[int] | None) -> None:
        if state is None:
            del self._done[name]
        else:
            self._done[name] = state
        with suppress(OSError), self._record.open("a") as record:  # what is not noted is put again by a resume
            record.write(json.dumps({"name": name, "state": state}) + "\n")

    def _state(self, name: str) -> list[int] | None:
        """Size and time of the file; None if it is not there."""
        try:
            found = (self._folder.root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return [found.st_size, found.st_mtime_ns]

    def _of_run(self, experiment_id: str, run_id: str, attempt: int) -> list[str]:
        folder = self._folder
        rows = [folder.run_file(run_id, attempt), folder.dataset("processes") / f"{run_id}-{attempt}.parquet"]
        return [*self._below(folder.run_folder(experiment_id)), *map(self._name, rows)]

    def _shared(self) -> list[str]:
        folder = self._folder
        parts = [folder.dataset(name) for name in ("plan", "nodes", "samples")]
        files = [folder.campaign_yaml, folder.summary_csv, folder.summary_safe_csv]
        return [*(name for part in parts for name in self._below(part)), *map(self._name, files)]

    def _everything(self) -> list[str]:
        return self._below(self._folder.root)

    @property
    def _ledger(self) -> str:
        return self._name(self._folder.ledger)

    def _is_finished(self) -> bool:
        """Whether the ledger says so already, while this thread is still behind."""
        return SESSION_FINISHED.encode() in self._folder.ledger.read_bytes()

    def _below(self, folder: Path) -> list[str]:
        """Folders come and go meanwhile, which os.walk does not mind."""
        paths = sorted(Path(where, name) for where, _, names in os.walk(folder) for name in names)
        found = (self._name(path) for path in paths if path.is_file() and not path.is_symlink())
        return [name for name in found if not any(part.startswith(".") for part in Path(name).parts)]

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder.root).as_posix()


def _begin(record: Path, uri: str, claim: str | None) -> None:
    write_whole(record, (json.dumps({"uri": uri, "claim": claim}) + "\n").encode())


def _recorded(record: Path) -> tuple[str | None, dict[str, list[int]]]:
    """The claim on the copy's folder, and what the record says was copied."""
    first, *lines = record.read_text(errors="replace").splitlines()
    done: dict[str, list[int]] = {}
    for line in lines:
        try:
            entry: Mapping[str, Any] = json.loads(line)
            name, state = entry["name"], entry["state"]
        except (ValueError, KeyError, TypeError):
            continue  # half a line of a driver that was killed: that file is put again
        if state is None:
            done.pop(name, None)
        else:
            done[name] = state
    return json.loads(first).get("claim"), done
