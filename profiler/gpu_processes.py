"""Who is on which GPU when: sightings of processes by NVML, merged into intervals. It judges nobody.

NVML reports the PIDs of the namespace it is called in; the reader must run outside a run's namespace.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from profiler.energy.counters import Clock
from profiler.energy.nvml import GpuProcess, NvmlDevice, NvmlReadError
from profiler.process.enclosure import keeper_cgroup, outer_namespace


@dataclass(frozen=True)
class GpuPresence:
    """One process on one GPU from its first to its last sighting (CLOCK_MONOTONIC, ns). It was there for so long at
    least: the first counts from when the driver had answered, a later one from when it was asked; where the same answer
    showed another one for the first time, both count from then, as they were there together.

    `pid_namespace` is the inode of its outermost PID namespace below the reader's (the reader's own where it is in
    none), or None when it could not be read; `cgroup` the names of the keepers' cgroups that hold it, or None;
    `memory_mib` the largest value seen, or None when the driver does not tell.
    """

    gpu_uuid: str
    pid: int
    pid_namespace: int | None
    cgroup: str | None
    command: str
    user_id: int | None
    memory_mib: float | None
    first_seen_ns: int
    last_seen_ns: int


class GpuProcessLog:
    """Collects sightings. A process unseen for longer than `gap_ns` and seen again makes a new interval."""

    def __init__(self, gap_ns: int = 1_000_000_000, clock_ns: Clock = time.monotonic_ns) -> None:
        self._gap_ns = gap_ns
        self._clock_ns = clock_ns
        self._open: dict[tuple[str, int], GpuPresence] = {}
        self._closed: list[GpuPresence] = []

    def look(self, devices: Sequence[NvmlDevice]) -> None:
        """Read the processes of every device once. A device that does not answer is asked again the next time."""
        for device in devices:
            asked_ns = self._clock_ns()
            self._close_those_gone(asked_ns)
            try:
                processes = device.processes()
            except NvmlReadError:
                continue
            answered_ns = self._clock_ns()
            new = any((device.uuid, process.pid) not in self._open for process in processes)
            for process in processes:
                self._see(device.uuid, process, answered_ns, answered_ns if new else asked_ns)

    def _close_those_gone(self, now_ns: int) -> None:
        gone = [key for key, one in self._open.items() if now_ns - one.last_seen_ns > self._gap_ns]
        self._closed += [self._open.pop(key) for key in gone]

    def _see(self, gpu_uuid: str, process: GpuProcess, first_ns: int, again_ns: int) -> None:
        """`first_ns`, `again_ns`: when it was there, if this is its first sighting, or a later one."""
        key = (gpu_uuid, process.pid)
        known = self._open.get(key)
        if known is None:
            self._open[key] = describe_process(gpu_uuid, process.pid, process.memory_mib, first_ns)
            return
        sizes = [size for size in (known.memory_mib, process.memory_mib) if size is not None]
        last_ns = max(known.last_seen_ns, again_ns)
        self._open[key] = replace(known, last_seen_ns=last_ns, memory_mib=max(sizes) if sizes else None)

    def between(self, t0_ns: int, t1_ns: int) -> list[GpuPresence]:
        """Every presence that overlaps [t0_ns, t1_ns], oldest first."""
        everything = [*self._closed, *self._open.values()]
        found = [p for p in everything if p.last_seen_ns >= t0_ns and p.first_seen_ns <= t1_ns]
        return sorted(found, key=lambda presence: presence.first_seen_ns)

    def shared(self) -> set[str]:
        """The UUIDs of the GPUs that several processes are on, as far as the last second tells."""
        return {uuid for uuid, count in Counter(uuid for uuid, _ in self._open).items() if count > 1}

    def forget_before(self, t_ns: int) -> None:
        self._closed = [presence for presence in self._closed if presence.last_seen_ns >= t_ns]


def describe_process(gpu_uuid: str, pid: int, memory_mib: float | None, now_ns: int) -> GpuPresence:
    """Facts about `pid` from /proc; what cannot be read stays None or empty."""
    folder = Path("/proc") / str(pid)
    try:
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        user_id: int | None = folder.stat().st_uid
    except OSError:
        command, user_id = "", None
    enclosures = outer_namespace(pid), keeper_cgroup(pid)
    return GpuPresence(gpu_uuid, pid, *enclosures, command[:300], user_id, memory_mib, now_ns, now_ns)
