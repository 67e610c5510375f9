"""Sets the CPU frequency governor for a campaign and puts the previous one back, also after a SIGKILL (next start).

The previous values are written to a journal before anything is changed. Source: the kernel's cpufreq sysfs files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from profiler.errors import CannotRunError
from profiler.host import start_time

Warn = Callable[[dict[str, Any]], None]


def sysfs_root() -> Path:
    return Path(os.environ.get("PROFILER_SYSFS_ROOT", "/sys"))


def journal_path() -> Path:
    """Where the previous governors are kept while a campaign has changed them."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "mutation-energy-profiler" / "governor.json"


def policies(sysfs: Path) -> list[Path]:
    """The `scaling_governor` file of every cpufreq policy."""
    return sorted((sysfs / "devices/system/cpu/cpufreq").glob("policy*/scaling_governor"))


@contextmanager
def held_governor(
    governor: str | None, *, optional: bool, warn: Warn, sysfs: Path | None = None, journal: Path | None = None
) -> Iterator[None]:
    """Hold `governor` on every CPU while the block runs; None changes nothing.

    First restores what a killed campaign left behind. Raises CannotRunError when the governor cannot be set, unless
    `optional`: then `warn` is told and the campaign goes on.
    """
    root, saved = sysfs or sysfs_root(), journal or journal_path()
    restore_leftover(saved)
    if governor is None:
        yield
        return
    try:
        _set_all(governor, root, saved)
    except CannotRunError as error:
        restore_leftover(saved)
        if not optional:
            raise
        warn({"event": "warning", "message": str(error)})
    try:
        yield
    finally:
        restore_leftover(saved)


def restore_leftover(journal: Path) -> bool:
    """Put back what `journal` remembers and remove it; True when that was done. What a living campaign holds stays.

    Raises CannotRunError when a value cannot be written."""
    try:
        remembered = json.loads(journal.read_text())
        previous: dict[str, str] = remembered["previous"]
        owner = remembered["owner"]
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError):
        journal.unlink()
        return False
    if _is_somebody_else(owner):
        return False
    for path, governor in previous.items():
        try:
            Path(path).write_text(governor)
        except OSError as error:
            raise CannotRunError(
                f"cannot put the CPU governor back to {governor!r} in {path}: {error.strerror}; "
                f"run as the user who changed it, or remove {journal}"
            ) from error
    journal.unlink()
    return True


def _is_somebody_else(owner: list[int]) -> bool:
    """Whether `owner` (PID and start time) is alive and not this process."""
    return owner != _identity(os.getpid()) and owner == _identity(owner[0])


def check_governor(governor: str, *, sysfs: Path | None = None, journal: Path | None = None) -> list[Path]:
    """The files to write so that every CPU has `governor`; sets nothing. CannotRunError when it cannot be set."""
    sysfs, journal = sysfs or sysfs_root(), journal or journal_path()
    restore_leftover(journal)
    if journal.exists():
        raise CannotRunError(f"governor {governor!r}: another campaign on this machine holds the governor ({journal})")
    files = policies(sysfs)
    if not files:
        raise CannotRunError(f"governor {governor!r}: this machine has no cpufreq policies (a virtual machine?)")
    for path in files:
        known = (path.parent / "scaling_available_governors").read_text().split()
        if governor not in known:
            raise CannotRunError(f"governor {governor!r} is not among {', '.join(known)} of {path.parent.name}")
        if not os.access(path, os.W_OK):
            raise CannotRunError(
                f"governor {governor!r}: no permission to write {path}; run as root, "
                "set it beforehand, or use --governor-optional"
            )
    return files


def _set_all(governor: str, sysfs: Path, journal: Path) -> None:
    files = check_governor(governor, sysfs=sysfs, journal=journal)
    _remember({str(path): path.read_text().strip() for path in files}, journal)
    for path in files:
        path.write_text(governor)


def _identity(pid: int) -> list[int] | None:
    """PID and start time: together they name one process; None if there is none."""
    started = start_time(pid)
    return None if started is None else [pid, started]


def _remember(previous: dict[str, str], journal: Path) -> None:
    journal.parent.mkdir(parents=True, exist_ok=True)
    temporary = journal.with_name("." + journal.name)
    with temporary.open("w") as stream:
        json.dump({"owner": _identity(os.getpid()), "previous": previous}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(journal)
