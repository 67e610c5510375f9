"""CPU time of single threads, and of single calls, from the kernel's own account. It measures nothing by the clock."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CPU_TIME_OF_PROCESS = 2  # the clock of a process has the number ~PID << 3 | 2 (clock_getcpuclockid)


@dataclass(frozen=True)
class ThreadUse:
    """What a thread has used since its start: CPU time in ns, and how often it was put on a CPU."""

    cpu_ns: int
    times_on_cpu: int


def thread_use(prefix: str) -> dict[str, ThreadUse]:
    """Every living Python thread of this process whose name begins with `prefix`."""
    found = {}
    for thread in threading.enumerate():
        if thread.name.startswith(prefix) and thread.native_id is not None:
            cpu_ns, _, times = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()
            found[thread.name] = ThreadUse(int(cpu_ns), int(times))
    return found


@dataclass
class Cost:
    """What one thing cost, each time it was done: CPU time of the thread and time by the clock, in us."""

    cpu_us: list[float] = field(default_factory=list)
    wall_us: list[float] = field(default_factory=list)

    def of(self, call: Callable[[], T]) -> T:
        """Does `call` once and takes its cost, also when it raises."""
        wall_ns, cpu_ns = time.monotonic_ns(), time.thread_time_ns()
        try:
            return call()
        finally:
            self.cpu_us.append((time.thread_time_ns() - cpu_ns) / 1e3)
            self.wall_us.append((time.monotonic_ns() - wall_ns) / 1e3)

    def told(self) -> dict[str, dict[str, float]]:
        return {"cpu_us": _spread(self.cpu_us), "wall_us": _spread(self.wall_us)}


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    return {
        "mean": round(statistics.mean(values), 1),
        "median": round(statistics.median(values), 1),
        "max": round(max(values), 1),
    }


@dataclass(frozen=True)
class TreeUse:
    """What a process and everything below it has used so far: CPU seconds, and how often a thread that is still there
    gave up its CPU to wait (each of these is followed by a wake-up). `processes`: how many there are."""

    cpu_s: float
    wake_ups: int
    processes: int


def tree_use(root: int) -> TreeUse:
    """Of the process `root` and its living descendants. A process that ended meanwhile is left out."""
    pids = tree(root)
    waits = sum(_waits(task) for pid in pids for task in _tasks(pid))
    return TreeUse(sum(_cpu_s(pid) for pid in pids), waits, len(pids))


def tree(root: int) -> list[int]:
    """`root` and its living descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    pids, waiting = [], [root]
    while waiting:
        pids.append(waiting.pop())
        waiting += children.get(pids[-1], [])
    return pids


def _parent(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return None


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _cpu_s(pid: int) -> float:
    """With the threads that have ended; 0 for a process that has."""
    try:
        return time.clock_gettime(~pid << 3 | CPU_TIME_OF_PROCESS)
    except OSError:
        return 0.0


def _waits(task: Path) -> int:
    """Voluntary context switches."""
    try:
        status = (task / "status").read_text(errors="replace")
    except OSError:
        return 0
    (waits,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))
    return waits
