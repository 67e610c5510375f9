"""What the sampler reads on each tick: the node, one energy counter, one GPU; and what a reading says, for its row.

The two are apart because a thread that wakes ten times a second finds its caches cold: what is done then costs several
times as much as the same later, for many readings at a time. A probe keeps what it needs in between (descriptors, the
unwrapped counter). It knows no grid and no thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from profiler.energy.counters import Clock, EnergyCounter, Reading, Unwrapper
from profiler.energy.sample import NODE, Seen, join_reasons

if TYPE_CHECKING:
    from profiler.energy.nvml import GpuReading, NvmlDevice


Shown = TypeVar("Shown")

UTILISATION_PERIOD_S: Final = 0.5
MEMORY_PERIOD_S: Final = 1.0
COUNTER_PERIOD_S: Final = 1.0
NOTHING_SEEN: Final = Seen()
# Of a core, for the energy counter of one GPU. Its readings in the trace show resets and a counter that stands still;
# the energy of a run is between two readings at its ends.
COUNTER_SHARE: Final = 0.0008
MAX_COUNTER_STRETCH: Final = 5.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Where a row comes from: its columns source, device and scope."""

    source: str
    device: str
    scope: str


class Look(NamedTuple):
    """What was seen of a device, and when. `earlier`: what a probe off the grid shows of the time before."""

    t_ns: int
    seen: Seen
    earlier: tuple[Look, ...] = ()


class Probe(Protocol[Shown]):
    """`on_grid`: each tick that passes unread is a row."""

    @property
    def identity(self) -> Identity: ...

    @property
    def on_grid(self) -> bool: ...

    def read(self, clock_ns: Clock) -> Shown | None:
        """What the device shows now, and no work beyond it; None where the tick is none of its own."""

    def look(self, shown: Shown) -> Look | None:
        """What a reading says; None where it says nothing new. Called once for each reading, in order."""

    def close(self) -> None: ...


class NodeShown(NamedTuple):
    """The heads of /proc/stat and /proc/meminfo at `t_ns`; None where they were not read, b"" where they cannot be."""

    t_ns: int
    stat: bytes | None
    meminfo: bytes | None


class NodeProbe:
    """CPU utilisation since the reading before (twice a second) and memory in use (once a second), from /proc: for
    either of them the kernel takes longer than for a whole look at a GPU. There is a row on every tick and every
    machine, so the grid is in the trace even where no energy can be measured."""

    identity: Final = Identity(NODE, NODE, NODE)
    on_grid: Final = True

    def __init__(self, rate_hz: float, proc: Path = Path("/proc")) -> None:
        self._stat = _open(proc / "stat")
        self._meminfo = _open(proc / "meminfo")
        self._utilisation_every = max(1, round(rate_hz * UTILISATION_PERIOD_S))
        self._memory_every = max(1, round(rate_hz * MEMORY_PERIOD_S))
        self._before: tuple[int, int] | None = None
        self._reads = 0

    def read(self, clock_ns: Clock) -> NodeShown:
        number, self._reads = self._reads, self._reads + 1
        stat = None if number % self._utilisation_every else _head(self._stat)
        meminfo = None if number % self._memory_every else _head(self._meminfo)
        return NodeShown(clock_ns(), stat, meminfo)

    def look(self, shown: NodeShown) -> Look:
        if shown.stat is None and shown.meminfo is None:
            return Look(shown.t_ns, NOTHING_SEEN)
        util_percent = memory_mib = None
        missing: dict[str, str] = {}
        if shown.stat is not None:
            first = self._before is None
            util_percent = self._utilisation(shown.stat)
            if util_percent is None:
                missing["util_percent"] = "no_earlier_look" if first and self._before is not None else "not_in_proc"
        if shown.meminfo is not None:
            memory_mib = _memory_mib(shown.meminfo)
            if memory_mib is None:
                missing["memory_mib"] = "not_in_proc"
        reason = join_reasons(missing)
        return Look(shown.t_ns, Seen(util_percent=util_percent, memory_mib=memory_mib, null_reason=reason))

    def close(self) -> None:
        for descriptor in (self._stat, self._meminfo):
            if descriptor is not None:
                os.close(descriptor)
        self._stat = self._meminfo = None

    def _utilisation(self, stat: bytes) -> float | None:
        """Percent of all CPUs that were busy, None on the first look and where the kernel does not tell."""
        fields = stat.partition(b"\n")[0].split()[1:9]
        if len(fields) < 5 or not all(field.isdigit() for field in fields):
            return None
        ticks = [int(field) for field in fields]
        total, idle = sum(ticks), ticks[3] + ticks[4]
        before, self._before = self._before, (total, idle)
        if before is None or total <= before[0]:
            return None
        return max(0.0, 100.0 * (1 - (idle - before[1]) / (total - before[0])))


def _memory_mib(meminfo: bytes) -> float | None:
    found = dict(line.split(b":", 1) for line in meminfo.splitlines() if b":" in line)
    try:
        total, free = (int(found[key].split()[0]) for key in (b"MemTotal", b"MemAvailable"))
    except (KeyError, ValueError, IndexError):
        return None
    return (total - free) / 1024


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _head(descriptor: int | None) -> bytes:
    """The first bytes: the sum over all CPUs and the memory totals stand at the top of their files."""
    if descriptor is None:
        return b""
    try:
        return os.pread(descriptor, 256, 0)
    except OSError:
        return b""


class CounterProbe:
    """One CPU energy counter: raw units, unwrapped joules, and the mean power since the reading before."""

    on_grid: Final = True

    def __init__(self, counter: EnergyCounter) -> None:
        info = counter.info
        self.identity = Identity(info.source, info.device, info.scope)
        self._counter = counter
        self._ledger = Ledger(counter)

    def read(self, clock_ns: Clock) -> Reading:
        return self._counter.read(clock_ns)

    def look(self, shown: Reading) -> Look:
        return Look(shown.t_ns, self._ledger.seen(shown))

    def close(self) -> None:
        """Nothing to do: the counter belongs to the sources."""


class Ledger:
    """What an energy counter fills of a row: raw units, joules since the first reading, power in between."""

    def __init__(self, counter: EnergyCounter) -> None:
        self._info = counter.info
        self._unwrapper = Unwrapper(counter.info)
        self._before: tuple[int, float] | None = None

    def seen(self, reading: Reading) -> Seen:
        units, reason = self._unwrapper.push(reading)
        if units is None:
            return Seen(None, reading.units, null_reason=reason)
        energy_j = self._info.joules(units)
        before, self._before = self._before, (reading.t_ns, energy_j)
        if before is None or reading.t_ns <= before[0]:
            return Seen(energy_j, reading.units, null_reason=reason)
        power_w = (energy_j - before[1]) / ((reading.t_ns - before[0]) / 1e9)
        return Seen(energy_j, reading.units, power_w, "interval", null_reason=reason)


class GpuShown(NamedTuple):
    """One look at a GPU, and its energy counter where it was its turn."""

    reading: GpuReading
    counted: Reading | None


class GpuProbe:
    """One GPU: power and the cheap indicators on every tick, the energy counter on every `counter_every`-th, and less
    often, up to a fifth of that, where its calls take more than `COUNTER_SHARE` of a core (on an H100 3 to 4 ms each).
    The row's time is that of the power; the counter is read right after it. `turn` spreads the counters of several GPUs
    over the ticks; the first look reads it in any case. `cpu_ns`: the CPU time of the thread that reads."""

    on_grid: Final = True

    def __init__(
        self,
        gpu: NvmlDevice,
        counter: EnergyCounter | None,
        counter_every: int,
        turn: int = 0,
        cpu_ns: Clock = time.thread_time_ns,
    ) -> None:
        self.identity = Identity("nvml", gpu.uuid, "gpu")
        self._cpu_ns = cpu_ns
        self._read: Callable[[Clock], GpuReading] = gpu.read
        self._counter = counter
        self._ledger = Ledger(counter) if counter is not None else None
        self._counter_every = counter_every
        self._turn = turn % counter_every
        self._countdown = 0
        self._counted = 0
        self._counting_ns = 0

    def read(self, clock_ns: Clock) -> GpuShown:
        reading = self._read(clock_ns)
        # Counted in looks, not ticks: a missed tick must not skip it.
        self._countdown -= 1
        if self._countdown > 0 or self._counter is None:
            return GpuShown(reading, None)
        before_ns = self._cpu_ns()
        counted = self._counter.read(clock_ns)
        self._counted += 1
        self._counting_ns += self._cpu_ns() - before_ns
        self._countdown = self._looks_until_next() - self._turn
        self._turn = 0
        return GpuShown(reading, counted)

    def _looks_until_next(self) -> int:
        """`counter_every`, times what a reading costs on average by what it may cost."""
        affordable_ns = COUNTER_SHARE * COUNTER_PERIOD_S * 1e9
        dearer = self._counting_ns / self._counted / affordable_ns
        return round(self._counter_every * min(max(1.0, dearer), MAX_COUNTER_STRETCH))

    def look(self, shown: GpuShown) -> Look:
        reading, missing = shown.reading, shown.reading.null_reasons
        energy_j = counter_units = None
        if shown.counted is not None and self._ledger is not None:
            # Not the power between its readings: the row has the sensor's.
            counted = self._ledger.seen(shown.counted)
            energy_j, counter_units = counted.energy_j, counted.counter_units
            if counted.null_reason:
                missing = {**missing, "energy_j": counted.null_reason}
        reason = join_reasons(missing) if missing else None
        return Look(reading.t_ns, Seen(energy_j, counter_units, *reading[1:9], reason))

    def close(self) -> None:
        """Nothing to do: the GPU belongs to the sources."""
