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
    """Put back what `journal` remembers and remove it; True when there was something to restore."""
    try:
        previous: dict[str, str] = json.loads(journal.read_text())
    except FileNotFoundError:
        return False
    except ValueError:
        journal.unlink()
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


def _set_all(governor: str, sysfs: Path, journal: Path) -> None:
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
    _remember({str(path): path.read_text().strip() for path in files}, journal)
    for path in files:
        path.write_text(governor)


def _remember(previous: dict[str, str], journal: Path) -> None:
    journal.parent.mkdir(parents=True, exist_ok=True)
    temporary = journal.with_name("." + journal.name)
    with temporary.open("w") as stream:
        json.dump(previous, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(journal)
