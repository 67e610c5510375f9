"""Who used the CPUs of this node between two moments: the campaign's own processes, or others. It reads /proc only.

Both sides come from the kernel's own accounts: all CPU time of the CPUs that this process may use (/proc/stat), less
that of every process below the campaign's roots (the raylet, the driver), ended children included. What is left was
used by others; so was what the host of a virtual machine took from these CPUs while somebody waited for them (stolen
time). Their share is of the run's own CPUs: the CPUs that were not given to it are free for others.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from profiler.host import PROC
from profiler.verdict import Finding

Span = tuple[int, int]
"""Start and end, CLOCK_MONOTONIC ns."""

TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
# The accounts advance in steps of 10 ms for each CPU and process; less than this is no evidence of anybody.
LEAST_CPU_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """One process: its parent, start (ticks since boot, tells a reused PID), name, and CPU seconds since its start:
    its own, and those of its ended children."""

    parent: int
    started: int
    name: str
    own_s: float
    children_s: float


@dataclass(frozen=True)
class CpuUse:
    """One look: CPU seconds since boot of `cpus` CPUs together, used here and stolen, and every process in sight."""

    cpus: int
    busy_s: float
    stolen_s: float
    processes: Mapping[int, ProcessUse]


@dataclass(frozen=True)
class OthersUse:
    """CPU seconds of others between two looks, those that were stolen among them, and who used most ("" where nobody
    can be seen)."""

    cpu_s: float
    stolen_s: float
    cpus: int
    culprit: str


def look(proc: Path = PROC) -> CpuUse | None:
    """The accounts now; None where the kernel does not show them."""
    allowed = os.sched_getaffinity(0)
    try:
        lines = (proc / "stat").read_text().splitlines()
    except OSError:
        return None
    ticks = [_ticks(line.split()) for line in lines if _cpu_number(line) in allowed]
    if not ticks:
        return None
    busy_s, stolen_s = (sum(column) / TICKS_A_SECOND for column in zip(*ticks, strict=True))
    return CpuUse(len(ticks), busy_s, stolen_s, _processes(proc))


def _cpu_number(line: str) -> int | None:
    digits = line.split(" ", 1)[0].removeprefix("cpu")
    return int(digits) if line.startswith("cpu") and digits.isdigit() else None


def _ticks(fields: list[str]) -> tuple[int, int]:
    """Busy: user + nice + system + irq + softirq (guests are in user already); and stolen."""
    user, nice, system, _idle, _iowait, irq, softirq, stolen = (int(field) for field in fields[1:9])
    return user + nice + system + irq + softirq, stolen


def _processes(proc: Path) -> dict[int, ProcessUse]:
    found = {}
    for entry in os.scandir(proc):
        if entry.name.isdigit() and (use := _process(Path(entry.path) / "stat")) is not None:
            found[int(entry.name)] = use
    return found


def _process(path: Path) -> ProcessUse | None:
    try:
        text = path.read_text(errors="replace")
    except OSError:  # it has ended
        return None
    name = text[text.find("(") + 1 : text.rfind(")")]
    fields = text[text.rfind(")") + 2 :].split()
    ticks = [int(field) for field in fields[11:15]]
    return ProcessUse(
        parent=int(fields[1]),
        started=int(fields[19]),
        name=name,
        own_s=(ticks[0] + ticks[1]) / TICKS_A_SECOND,
        children_s=(ticks[2] + ticks[3]) / TICKS_A_SECOND,
    )


def used_by_others(before: CpuUse, after: CpuUse, roots: Collection[int]) -> OthersUse:
    """What processes that are not below any of `roots` (PIDs, themselves included) used from one look to the other,
    and what was stolen."""
    ours = _below(after.processes, roots)
    # A process of ours that has ended is in its parent's account of ended children, so the sums stay comparable.
    own_s = _total_s(after.processes, ours) - _total_s(before.processes, _below(before.processes, roots))
    stolen_s = max(0.0, after.stolen_s - before.stolen_s)
    others_s = max(0.0, after.busy_s - before.busy_s - own_s) + stolen_s
    used = {
        f"PID {pid} ({process.name})": _own_advance(before, after, pid)
        for pid, process in after.processes.items()
        if pid not in ours
    }
    used["the host of this virtual machine"] = stolen_s
    most = max(used, key=lambda name: used[name])
    culprit = f"{most}, {used[most]:.2f} s" if used[most] > 0 else ""
    return OthersUse(others_s, stolen_s, after.cpus, culprit)


def _below(processes: Mapping[int, ProcessUse], roots: Collection[int]) -> set[int]:
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, use in processes.items():
        children[use.parent].append(pid)
    found: set[int] = set()
    waiting = [pid for pid in roots if pid in processes]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children[pid]
    return found


def _total_s(processes: Mapping[int, ProcessUse], pids: Iterable[int]) -> float:
    return sum(processes[pid].own_s + processes[pid].children_s for pid in pids)


def _own_advance(before: CpuUse, after: CpuUse, pid: int) -> float:
    now, then = after.processes[pid], before.processes.get(pid)
    return now.own_s - (then.own_s if then is not None and then.started == now.started else 0.0)


def contention(
    before: CpuUse | None, after: CpuUse | None, roots: Collection[int], own_cpus: float, span: Span
) -> Finding | None:
    """How much of the `own_cpus` that were granted to the run others used; None where the kernel does not tell."""
    if before is None or after is None or span[1] <= span[0]:
        return None
    others = used_by_others(before, after, roots)
    duration_s = (span[1] - span[0]) / 1e9
    own_cpus = min(own_cpus, others.cpus)
    taken = max(0.0, others.cpu_s / duration_s - (others.cpus - own_cpus))
    share = taken / own_cpus if others.cpu_s >= LEAST_CPU_S else 0.0
    text = f"others used {others.cpu_s:.2f} s of CPU time in {duration_s:.2f} s"
    text += f", {100 * share:.0f} % of the run's {own_cpus:g} CPUs"
    text += f"; {others.stolen_s:.2f} s of it stolen" if others.stolen_s else ""
    text += f"; most of it {others.culprit}" if others.culprit else ""
    return Finding("cpu_contention", text, value=share, start_ns=span[0], end_ns=span[1], culprit=others.culprit)
