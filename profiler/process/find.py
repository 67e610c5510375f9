"""Finds the keepers of this node, their processes and their owners; ends those whose owner is gone.

Keepers are recognised by their command line, then by what only they are: the PID namespace that they made, their
user, their start time. Processes are never found or ended by name, and process trees are walked only where a keeper
had no better tier. It decides nothing about sessions.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from profiler.errors import UsageError
from profiler.host import start_time
from profiler.process.command import TIERS
from profiler.process.enclosure import keeper_cgroups, members, namespace_inode, processes_of
from profiler.process.keeperlib import system

SCRIPT = "profiler/process/keeper.py"


@dataclass(frozen=True)
class KeeperInfo:
    """One keeper in sight. `pid`: its waiting half; `guard_pid`: its other half (PID 1 of the run), as seen here.
    `labels`: session, key, run, attempt, role as given to `start`. `owner_pid`: the process that started it and holds
    its lease. `namespace_inode`: of the run's PID namespace, None in the other tiers."""

    pid: int
    guard_pid: int | None
    start_time: int
    uid: int
    labels: Mapping[str, str]
    containment: str
    namespace_inode: int | None
    owner_pid: int
    owner_start_time: int

    @property
    def owner_alive(self) -> bool:
        return _alive(self.owner_pid, self.owner_start_time)

    @property
    def leftover(self) -> bool:
        """Its owner is gone, so nobody will ever stop it or read its report."""
        return not self.owner_alive


def find_keepers() -> list[KeeperInfo]:
    """Every keeper in this PID namespace whose details this user may read. A container's keepers are not the host's
    business: their owners' PIDs mean something else here."""
    tree = system.parents()
    commands = {pid: argv for pid in tree if (argv := _keeper_argv(pid)) is not None}
    found = []
    for pid, argv in commands.items():
        if tree[pid] in commands:
            continue  # a guard
        info = _describe(pid, argv, [child for child, parent in tree.items() if parent == pid])
        if info is not None:
            found.append(info)
    return sorted(found, key=lambda info: info.start_time)


def pids_of(keeper: KeeperInfo) -> set[int]:
    """Every process of the run, the guard included, as seen from here."""
    if keeper.containment == "pid_namespace":
        return members(keeper.namespace_inode)
    family = {keeper.pid}
    tree = system.parents()
    while grown := {pid for pid, parent in tree.items() if parent in family} - family:
        family |= grown
    return (family | members(_cgroup_name(keeper))) - {keeper.pid}


def reap(keeper: KeeperInfo, timeout_s: float = 10.0) -> set[int]:
    """Ends a leftover keeper and its run. Returns the PIDs that are still there after `timeout_s` (none, unless the
    kernel itself holds them). Raises UsageError if its owner is alive: then it is no leftover."""
    if keeper.owner_alive:
        raise UsageError(
            f"keeper {keeper.pid} belongs to process {keeper.owner_pid}, which is alive: stop that instead"
        )
    with ExitStack() as stack:
        _hold_namespace(stack, keeper)
        halves = [fd for pid in (keeper.guard_pid, keeper.pid) if (fd := _pidfd(stack, pid)) is not None]
        if start_time(keeper.pid) != keeper.start_time:
            return set()  # gone; the number may be a stranger's by now
        for fd in halves:
            _send(fd, signal.SIGCONT)
        if len(halves) == 2:
            _send(halves[0], signal.SIGKILL)  # the guard: its waiting half cleans up after it and ends
            if _ended(halves, min(1.0, timeout_s)):
                return pids_of(keeper)
        _send(halves[-1], signal.SIGKILL)
        _ended(halves, timeout_s)
        return pids_of(keeper)


def leftover_cgroups() -> list[Path]:
    """Cgroups of keepers that are gone: what the cgroup tier leaves when both halves are killed at once."""
    alive = {_cgroup_name(keeper) for keeper in find_keepers()}
    here = f"{system.CGROUP_PREFIX}{namespace_inode('self')}-"
    return [folder for folder in keeper_cgroups() if folder.name.startswith(here) and folder.name not in alive]


def reap_cgroup(folder: Path, timeout_s: float = 10.0) -> set[int]:
    """Kills all in a leftover cgroup and removes it. Returns the PIDs that are still there after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while folder.exists() and time.monotonic() < deadline:
        try:
            (folder / "cgroup.kill").write_text("1")
            system.remove_cgroup(str(folder))
        except FileNotFoundError:
            break
        except OSError:  # still populated
            time.sleep(0.005)
    return processes_of(folder)


def _describe(pid: int, argv: list[str], children: list[int]) -> KeeperInfo | None:
    labels = dict(part.partition("=")[::2] for part in argv[4:])
    owner_pid, _, owner_start = labels.pop("owner", "").partition(":")
    containment = labels.pop("tier", "")
    started, uid = start_time(pid), _uid(pid)
    own_namespace, inner = namespace_inode(pid), namespace_inode(pid, "pid_for_children")
    if not (owner_pid.isdigit() and owner_start.isdigit() and containment in TIERS):
        return None
    if started is None or uid is None:
        return None  # it has ended meanwhile
    if own_namespace != namespace_inode("self"):
        return None
    if (containment == "pid_namespace") == (inner == own_namespace):
        return None  # its name only: a keeper has made a namespace, or says that it has none
    guards = [child for child in children if _keeper_argv(child) == argv]
    return KeeperInfo(
        pid=pid,
        guard_pid=guards[0] if guards else None,
        start_time=started,
        uid=uid,
        labels=labels,
        containment=containment,
        namespace_inode=inner if containment == "pid_namespace" else None,
        owner_pid=int(owner_pid),
        owner_start_time=int(owner_start),
    )


def _keeper_argv(pid: int) -> list[str] | None:
    try:
        argv = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).rstrip("\0").split("\0")
    except OSError:
        return None
    return argv if argv[1:3] == ["-I", "-S"] and argv[3:4] and argv[3].endswith(SCRIPT) else None


def _uid(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


def _alive(pid: int, started: int) -> bool:
    return start_time(pid) == started and pid in system.parents()  # a zombie holds nothing any more


def _cgroup_name(keeper: KeeperInfo) -> str:
    return f"{system.CGROUP_PREFIX}{namespace_inode('self')}-{keeper.pid}-{keeper.start_time}"


def _hold_namespace(stack: ExitStack, keeper: KeeperInfo) -> None:
    """Held open, the inode of the run's namespace cannot pass to a stranger's before it has been looked at."""
    try:
        held = os.open(f"/proc/{keeper.pid}/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # gone
        return
    stack.callback(os.close, held)


def _pidfd(stack: ExitStack, pid: int | None) -> int | None:
    try:
        fd = os.pidfd_open(pid) if pid is not None else None
    except ProcessLookupError:
        return None
    if fd is not None:
        stack.callback(os.close, fd)
    return fd


def _send(fd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass


def _ended(fds: list[int], timeout_s: float) -> bool:
    """Whether the processes behind all pidfds end within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    for fd in fds:
        waker = select.poll()
        waker.register(fd, select.POLLIN)
        if not waker.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return False
    return True
