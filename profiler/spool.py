"""A node's own place for a campaign's files where it does not see the session folder, and finished results that the
driver has not acknowledged. It sends nothing and judges nothing.

The place is $PROFILER_SPOOL, else /var/tmp/profiler-<uid>, which outlives a boot. In it each session has a folder laid
out as a results folder is, so an attempt works in it as it would there: `<place>/sessions/<identity>/<session_id>/` and
`.work/` beside that. Two drivers may have sessions of the same name, never of the same identity.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from profiler.errors import CannotRunError
from profiler.store.files import remove, write_whole
from profiler.store.layout import SessionFolder

VARIABLE = "PROFILER_SPOOL"
PIECE_BYTES = 1 << 20
KEPT_S = 30 * 86400.0
RESULT = ("row", "processes", "retry_may_help")
_TIME = "__utc__"

Result = dict[str, Any]


def place(environment: Mapping[str, str] = os.environ) -> Path:
    """The node's place, made if need be, for this user alone. CannotRunError when it is somebody else's."""
    path = Path(environment.get(VARIABLE) or f"/var/tmp/profiler-{os.geteuid()}")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise CannotRunError(f"cannot make {path} ({error.strerror}): set {VARIABLE} for the node's Ray") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise CannotRunError(f"{path} is not a folder of this user: set {VARIABLE} for the node's Ray")
    return path


def session_places(path: Path) -> list[Path]:
    """The folders of all sessions in the place."""
    return sorted((path / "sessions").glob("*"))


def open_session(path: Path, identity: str, session_id: str) -> tuple[SessionFolder, int]:
    """The session's folder in the place, and a descriptor that locks it while it is open, so that nobody tidies up
    meanwhile. Sessions whose driver never came back are removed after 30 days."""
    for old in session_places(path):
        if old.name != identity and time.time() - _changed(old) > KEPT_S:
            remove(old)
    folder = SessionFolder(path / "sessions" / identity / session_id)
    folder.root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return folder, descriptor


def _changed(place: Path) -> float:
    """When something came into `place`, or into a folder of it, or left it."""
    try:
        return max(entry.stat().st_mtime for entry in [place, *place.iterdir()])
    except OSError:  # another driver's node is at it
        return time.time()


def keep(folder: SessionFolder, result: Mapping[str, Any]) -> None:
    """Put a finished attempt's result on this disk until `forget`."""
    row = result["row"]
    text = json.dumps({name: result[name] for name in RESULT}, default=_to_json)
    write_whole(folder.result(row["run_id"], row["attempt"]), text.encode())


def kept(folder: SessionFolder) -> Iterator[Result]:
    """The results of this session that nobody has acknowledged."""
    work = folder.root.parent / ".work"
    for path in sorted(work.glob(f"{folder.session_id}-*.result")):
        yield json.loads(path.read_bytes(), object_hook=_from_json)


def forget(folder: SessionFolder, run_id: str, attempt: int, experiment_id: str | None = None) -> None:
    """The driver has the result on its disk. `experiment_id`: remove the run's folder here too, which it has got."""
    for path in (folder.released(run_id, attempt), folder.result(run_id, attempt)):
        path.unlink(missing_ok=True)
    if experiment_id is not None:
        shutil.rmtree(folder.run_folder(experiment_id), ignore_errors=True)


def pieces(folder: SessionFolder, experiment_id: str) -> Iterator[dict[str, Any]]:
    """The files of a run's newest attempt in parts of at most 1 MiB: {"path" below the run's folder, "offset", "data"}.
    An empty file is one empty part."""
    root = folder.run_folder(experiment_id)
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if name.parts[0] == "attempts" or name.name.startswith(".") or path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as file:
            offset = 0
            while (data := file.read(PIECE_BYTES)) or offset == 0:
                yield {"path": str(name), "offset": offset, "data": data}
                offset += len(data)
                if not data:
                    break


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return {_TIME: value.isoformat()}
    raise TypeError(f"a row holds {type(value).__name__}")


def _from_json(value: dict[str, Any]) -> Any:
    return datetime.fromisoformat(value[_TIME]) if value.keys() == {_TIME} else value
