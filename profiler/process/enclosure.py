"""What a run's processes are known by from outside: their PID namespace, or their keeper's cgroup. Standard library
only; it ends nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from profiler.process.keeperlib import system

NS_GET_PARENT: Final = 0xB702  # ioctl_ns(2)

Enclosure = int | str
"""The inode of a PID namespace, or the name of a keeper's cgroup: one run's alone."""


def namespace_inode(pid: int | str, kind: str = "pid") -> int | None:
    """The inode of /proc/`pid`/ns/`kind`; None if the process is gone, or another user's."""
    try:
        return Path(f"/proc/{pid}/ns/{kind}").stat().st_ino
    except OSError:
        return None


def outer_namespace(pid: int) -> int | None:
    """The inode of the outermost PID namespace that `pid` is in and this process is not, or that of both: a run's own,
    whatever namespaces its processes make within it. None as for `namespace_inode`."""
    own = namespace_inode("self")
    try:
        inner = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY)
    except OSError:
        return None
    with ExitStack() as stack:
        stack.callback(os.close, inner)
        found = own
        while (inode := os.fstat(inner).st_ino) != own:
            found = inode
            try:
                inner = fcntl.ioctl(inner, NS_GET_PARENT)
            except OSError:  # it is not below this process's
                break
            stack.callback(os.close, inner)
        return found


def keeper_cgroup(pid: int) -> str | None:
    """The names of the keepers' cgroups that hold `pid`, the outermost first, joined by slashes: several where a run
    has runs of its own. None where none does, or it is gone."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return None
    parts = [part for line in lines if line.startswith("0::") for part in line.split("/")]
    return "/".join(part for part in parts if part.startswith(system.CGROUP_PREFIX)) or None


def members(enclosure: Enclosure | None) -> set[int]:
    """Every process that lives in `enclosure` (`ContainedProcess.enclosure`), as seen from here."""
    if enclosure is None:
        return set()
    if isinstance(enclosure, int):
        numbers = (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())
        return {pid for pid in numbers if outer_namespace(pid) == enclosure}
    within = (Path(place) for folder in cgroup_folders(enclosure) for place, _, _ in os.walk(folder))
    return {pid for folder in within for pid in processes_of(folder)}


def keeper_cgroups() -> list[Path]:
    """The folders of all keepers' cgroups on this machine."""
    root = system.cgroup_root()
    places = os.walk(root) if root is not None else ()  # unlike a glob it does not mind folders that go meanwhile
    return [Path(place, name) for place, names, _ in places for name in names if name.startswith(system.CGROUP_PREFIX)]


def cgroup_folders(name: str) -> list[Path]:
    """The folder of the keeper's cgroup of that name; none where it is gone."""
    return [folder for folder in keeper_cgroups() if folder.name == name]


def processes_of(cgroup: Path) -> set[int]:
    """The processes right in the cgroup with that folder; none where it is gone."""
    try:
        return {int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()}
    except OSError:
        return set()


def is_in(process: Mapping[str, Any], enclosure: Enclosure) -> bool:
    """Whether `process`, a row of the table `processes`, is one of those that `enclosure` holds."""
    return enclosure in (process["pid_namespace"], *_names(process["cgroup"]))


def _names(cgroup: str | None) -> list[str]:
    return [] if cgroup is None else cgroup.split("/")
