"""What a run's processes are known by from outside: their PID namespace, or their keeper's cgroup. Standard library
only; it ends nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profiler.process.keeperlib import system

Enclosure = int | str
"""The inode of a PID namespace, or the name of a keeper's cgroup: one run's alone."""


def namespace_inode(pid: int | str, kind: str = "pid") -> int | None:
    """The inode of /proc/`pid`/ns/`kind`; None if the process is gone, or another user's."""
    try:
        return Path(f"/proc/{pid}/ns/{kind}").stat().st_ino
    except OSError:
        return None


def keeper_cgroup(pid: int) -> str | None:
    """The name of the innermost keeper's cgroup that holds `pid`; None where none does, or it is gone."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return None
    parts = [part for line in lines if line.startswith("0::") for part in line.split("/")]
    return next((part for part in reversed(parts) if part.startswith(system.CGROUP_PREFIX)), None)


def members(enclosure: Enclosure | None) -> set[int]:
    """Every process that lives in `enclosure` (`ContainedProcess.enclosure`), as seen from here."""
    if enclosure is None:
        return set()
    known_by = keeper_cgroup if isinstance(enclosure, str) else namespace_inode
    numbers = (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())
    return {pid for pid in numbers if known_by(pid) == enclosure}


def keeper_cgroups() -> list[Path]:
    """The folders of all keepers' cgroups on this machine."""
    root = system.cgroup_root()
    return [] if root is None else list(Path(root).rglob(f"{system.CGROUP_PREFIX}*"))


def is_in(process: Mapping[str, Any], enclosure: Enclosure) -> bool:
    """Whether `process`, a row of the table `processes`, is one of those that `enclosure` holds."""
    return enclosure in (process["pid_namespace"], process["cgroup"])
