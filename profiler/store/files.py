"""Writes one file whole or not at all: hidden name, fsync, rename. It knows nothing of what is in the file."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from profiler.errors import CannotRunError

TEMPORARY_SUFFIX = ".tmp"
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def temporary_name(path: Path) -> Path:
    """Where `path` is written before it has its name. It starts with '.' and does not end like the file itself, so that
    neither pyarrow nor a `*.parquet` glob of another tool takes it for data."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends without error; otherwise `path` stays as it was.

    CannotRunError says so when the disk is full or the folder cannot be written."""
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        # After the rename there is nothing of that name; before it, a half-written file must not stay.
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """`data` as the whole content of `path`, durable on return. Errors as `whole_file`."""
    with whole_file(path) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> CannotRunError:
    """The error for people: what could not be written, why, what to do."""
    if error.errno in _DISK_FULL:
        return CannotRunError(
            f"disk full: {path} could not be written ({error.strerror}); everything written before is whole. "
            "Free space there, then go on with `profiler resume`"
        )
    return CannotRunError(f"cannot write {path}: {error.strerror or error}; check the folder's owner and permissions")


def cannot_read(path: Path, error: OSError) -> CannotRunError:
    """The error for people, as `cannot_write`; of a file or a folder."""
    why = os.strerror(error.errno) if error.errno else str(error)
    return CannotRunError(f"cannot read {path}: {why}; check owner and permissions")


def remove_temporary(root: Path) -> list[Path]:
    """Remove what writers that were killed left under `root`; the removed paths. Only for the session's one writer."""
    leftovers = sorted(path for path in root.rglob(f".*{TEMPORARY_SUFFIX}") if path.is_file())
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def remove(path: Path) -> None:
    """A file, or a folder with what is in it; nothing where it has just gone."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
