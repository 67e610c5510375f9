"""One driver per session: a lock file that the kernel releases when its holder dies. It reads nothing of a session."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from profiler import host
from profiler.errors import SessionError
from profiler.store.layout import SessionFolder

LOCK_NAME = ".lock"


def is_driven(folder: SessionFolder) -> bool:
    """Whether a driver holds the session's lock now, or a node that serves one the lock of its own folder."""
    try:
        with driver_lock(folder):
            return False
    except SessionError:
        return True


def driver_of(folder: SessionFolder) -> dict[str, Any] | None:
    """The process that holds the session's lock now: {"pid", "host"}, both None where it does not tell; None when there
    is no such process. The file stays as it is."""
    path = _lock_file(folder)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(path)
    finally:
        os.close(descriptor)
    return None


def drivers_here() -> list[dict[str, Any]]:
    """The drivers of this machine that this user may look at: [{"pid", "session": its folder}]."""
    found = []
    for pid in _lock_holders():
        for link in _descriptors(pid):
            with suppress(OSError):  # closed meanwhile
                target = link.readlink()
                if target.name == LOCK_NAME and _holder(link)["pid"] == pid:
                    found.append({"pid": pid, "session": str(target.parent)})
    return sorted(found, key=lambda driver: str(driver["session"]))


@contextmanager
def driver_lock(folder: SessionFolder) -> Iterator[None]:
    """Be the session's only driver inside the block: a lock file held by flock, of which the kernel lets go when its
    holder dies, however that happens. Raises SessionError naming the process that is."""
    path = _lock_file(folder)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SessionError(f"{folder.root}: already driven by {driver_text(_holder(path))}") from None
        os.ftruncate(descriptor, 0)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "boot_id": host.boot_id()}
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _descriptors(pid: int) -> list[Path]:
    """The links to what a process has open; none of another user's process, or of one that has ended."""
    try:
        return list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return []


def driver_text(driver: Mapping[str, Any]) -> str:
    """For people: ``process 4711 on node3``."""
    return "another process" if driver["pid"] is None else f"process {driver['pid']} on {driver['host']}"


def _lock_file(folder: SessionFolder) -> Path:
    return folder.root / LOCK_NAME


def _holder(path: Path) -> dict[str, Any]:
    """Whoever wrote itself down in this lock file last."""
    try:
        holder = json.loads(path.read_text())
        return {"pid": int(holder["pid"]), "host": str(holder["host"])}
    except (ValueError, KeyError, TypeError, OSError):
        return {"pid": None, "host": None}


def _lock_holders() -> set[int]:
    """The processes of this machine that hold any lock by flock; none where the kernel does not list them."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return set()
    return {int(words[4]) for words in map(str.split, lines) if words[1] == "FLOCK"}
