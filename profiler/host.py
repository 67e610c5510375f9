"""Facts of the machine that do not depend on Ray: boot, clocks, CPUs, names. Pure readers; paths come in as arguments.

It measures no energy and keeps no state.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


def boot_id(proc: Path = PROC) -> str:
    """The kernel's random id of this boot; "" where the kernel does not tell."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def hostname() -> str:
    return os.uname().nodename


def kernel() -> str:
    return os.uname().release


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which `pid` started; None if there is none. With the PID it names one process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except OSError:
        return None


def cpu_count() -> int:
    """CPUs that this process may use (its scheduling affinity), not those that the machine has."""
    return len(os.sched_getaffinity(0))


def cpu_model(proc: Path = PROC) -> str:
    """The processor's name, "" where /proc/cpuinfo has none (as on most ARM machines)."""
    try:
        lines = (proc / "cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


@dataclass(frozen=True, slots=True)
class Anchor:
    """The three clocks at one moment, in ns. CLOCK_MONOTONIC carries every duration; CLOCK_BOOTTIME also counts the
    time spent suspended; UTC can be stepped by whoever sets the clock."""

    monotonic_ns: int
    utc_ns: int
    boottime_ns: int

    @property
    def utc_offset_ns(self) -> int:
        """Add it to CLOCK_MONOTONIC to get UTC."""
        return self.utc_ns - self.monotonic_ns


def anchor() -> Anchor:
    """The clocks now, read within some microseconds of each other: the narrowest of three readings, as the CPU may be
    taken away within one."""
    _width_ns, narrowest = min((_clocks() for _ in range(3)), key=lambda reading: reading[0])
    return narrowest


def _clocks() -> tuple[int, Anchor]:
    """How long reading them took, and what they showed."""
    before_ns = time.monotonic_ns()
    utc_ns, boottime_ns = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    after_ns = time.monotonic_ns()
    return after_ns - before_ns, Anchor((before_ns + after_ns) // 2, utc_ns, boottime_ns)


@dataclass(frozen=True, slots=True)
class ClockShift:
    """What happened to the clocks between two anchors: seconds suspended, and seconds that UTC was stepped by."""

    suspended_s: float
    stepped_s: float


def shift(before: Anchor, after: Anchor) -> ClockShift:
    elapsed_ns = after.monotonic_ns - before.monotonic_ns
    slept_ns = (after.boottime_ns - before.boottime_ns) - elapsed_ns
    stepped_ns = (after.utc_ns - before.utc_ns) - elapsed_ns - slept_ns
    return ClockShift(slept_ns / 1e9, stepped_ns / 1e9)


def cpu_busy_s(proc: Path = PROC) -> float | None:
    """CPU seconds since boot that all CPUs of the node together were busy, in steps of 10 ms; None where nobody
    tells. Guests are in the user's time already; stolen time was nobody's here."""
    try:
        fields = (proc / "stat").read_text().partition("\n")[0].split()[1:8]
    except OSError:
        return None
    if len(fields) < 7 or not all(field.isdigit() for field in fields):
        return None
    user, nice, system, _idle, _iowait, irq, softirq = map(int, fields)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def oom_kills(proc: Path = PROC) -> int | None:
    """How many processes the kernel's out-of-memory killer has ended since boot; None where it does not tell."""
    try:
        lines = (proc / "vmstat").read_text().splitlines()
    except OSError:
        return None
    counts = [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]
    return counts[0] if counts else None
