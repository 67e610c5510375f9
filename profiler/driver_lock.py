"""One driver per session: a lock file that the kernel releases when its holder dies. It reads nothing of a session."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from profiler import host
from profiler.errors import SessionError
from profiler.store.layout import SessionFolder


def is_driven(folder: SessionFolder) -> bool:
    """Whether a driver holds the session's lock now."""
    try:
        with driver_lock(folder):
            return False
    except SessionError:
        return True


@contextmanager
def driver_lock(folder: SessionFolder) -> Iterator[None]:
    """Be the session's only driver inside the block: a lock file held by flock, of which the kernel lets go when its
    holder dies, however that happens. Raises SessionError naming the process that is."""
    path = folder.root / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SessionError(f"{folder.root}: already driven by {_holder(path)}") from None
        os.ftruncate(descriptor, 0)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "boot_id": host.boot_id()}
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, OSError):
        return "another process"
