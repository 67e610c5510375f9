"""What the sampler looks at on each tick: the node, one energy counter, one GPU. Each look gives one row.

A probe keeps what it needs between ticks (descriptors, the unwrapped counter). It knows no grid and no thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from profiler.energy.counters import Clock, EnergyCounter, Reading, Unwrapper
from profiler.energy.sample import NODE, join_reasons

if TYPE_CHECKING:
    from profiler.energy.nvml import NvmlDevice


@dataclass(frozen=True, slots=True)
class Identity:
    """Where a row comes from: its columns source, device and scope."""

    source: str
    device: str
    scope: str


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a device: when, and the columns it fills. `earlier`: what it shows of the time before."""

    t_ns: int
    columns: dict[str, Any]
    earlier: tuple[Look, ...] = ()


class Probe(Protocol):
    """`on_grid`: each tick that passes unread is a row. `look` gives None where a tick is none of its own."""

    @property
    def identity(self) -> Identity: ...

    @property
    def on_grid(self) -> bool: ...

    def look(self, tick: int, clock_ns: Clock) -> Look | None: ...

    def close(self) -> None: ...


class NodeProbe:
    """CPU utilisation since the look before, and memory in use, from /proc. It exists on every machine, so the grid is
    in the trace even where no energy can be measured."""

    identity: Final = Identity(NODE, NODE, NODE)
    on_grid: Final = True

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._stat = _open(proc / "stat")
        self._meminfo = _open(proc / "meminfo")
        self._before: tuple[int, int] | None = None
        self._looks = 0

    def look(self, tick: int, clock_ns: Clock) -> Look:
        columns: dict[str, Any] = {"util_percent": self._utilisation(), "memory_mib": self._memory_mib()}
        why = {"util_percent": "no_earlier_look" if self._looks == 0 else "not_in_proc", "memory_mib": "not_in_proc"}
        self._looks += 1
        missing = {name: why[name] for name, value in columns.items() if value is None}
        return Look(clock_ns(), columns | {"null_reason": join_reasons(missing)})

    def close(self) -> None:
        for descriptor in (self._stat, self._meminfo):
            if descriptor is not None:
                os.close(descriptor)
        self._stat = self._meminfo = None

    def _utilisation(self) -> float | None:
        """Percent of all CPUs that were busy, None on the first look and where the kernel does not tell."""
        fields = _read(self._stat).partition(b"\n")[0].split()[1:9]
        if len(fields) < 5 or not all(field.isdigit() for field in fields):
            return None
        ticks = [int(field) for field in fields]
        total, idle = sum(ticks), ticks[3] + ticks[4]
        before, self._before = self._before, (total, idle)
        if before is None or total <= before[0]:
            return None
        return max(0.0, 100.0 * (1 - (idle - before[1]) / (total - before[0])))

    def _memory_mib(self) -> float | None:
        found = dict(line.split(b":", 1) for line in _read(self._meminfo).splitlines() if b":" in line)
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


def _read(descriptor: int | None) -> bytes:
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

    def look(self, tick: int, clock_ns: Clock) -> Look:
        reading = self._counter.read(clock_ns)
        return Look(reading.t_ns, self._ledger.columns(reading))

    def close(self) -> None:
        """Nothing to do: the counter belongs to the sources."""


class Ledger:
    """The columns of an energy counter in a row: raw units, joules since the first reading, power in between."""

    def __init__(self, counter: EnergyCounter) -> None:
        self._info = counter.info
        self._unwrapper = Unwrapper(counter.info)
        self._before: tuple[int, float] | None = None

    def columns(self, reading: Reading) -> dict[str, Any]:
        units, reason = self._unwrapper.push(reading)
        columns: dict[str, Any] = {"counter_units": reading.units, "null_reason": reason}
        if units is None:
            return columns
        energy_j = self._info.joules(units)
        before, self._before = self._before, (reading.t_ns, energy_j)
        columns["energy_j"] = energy_j
        if before is not None and reading.t_ns > before[0]:
            columns["power_w"] = (energy_j - before[1]) / ((reading.t_ns - before[0]) / 1e9)
            columns["power_kind"] = "interval"
        return columns


class GpuProbe:
    """One GPU: power and the cheap indicators on every tick, the energy counter (3 ms a call) on every
    `counter_every`-th. The row's time is that of the power; the counter is read right after it. `turn` spreads the
    counters of several GPUs over the ticks; the first look reads it in any case."""

    on_grid: Final = True

    def __init__(self, gpu: NvmlDevice, counter: EnergyCounter | None, counter_every: int, turn: int = 0) -> None:
        self.identity = Identity("nvml", gpu.uuid, "gpu")
        self._read: Callable[[Clock], Any] = gpu.read
        self._counter = counter
        self._ledger = Ledger(counter) if counter is not None else None
        self._counter_every = counter_every
        self._turn = turn % counter_every
        self._countdown = 0

    def look(self, tick: int, clock_ns: Clock) -> Look:
        reading = self._read(clock_ns)
        columns: dict[str, Any] = {
            "power_w": reading.power_w,
            "power_kind": reading.power_kind,
            "temp_c": reading.temp_c,
            "util_percent": reading.util_percent,
            "memory_util_percent": reading.memory_util_percent,
            "memory_mib": reading.memory_mib,
            "clock_mhz": reading.clock_mhz,
            "throttle_reasons": reading.throttle_reasons,
        }
        missing = dict(reading.null_reasons)
        counted = self._count(clock_ns)
        if counted.get("null_reason"):
            missing["energy_j"] = counted["null_reason"]
        columns |= {name: counted[name] for name in ("energy_j", "counter_units") if name in counted}
        return Look(reading.t_ns, columns | {"null_reason": join_reasons(missing)})

    def _count(self, clock_ns: Clock) -> dict[str, Any]:
        """The counter's columns when it is its turn. Counted in looks, not ticks: a missed tick must not skip it."""
        if self._counter is None or self._ledger is None:
            return {}
        self._countdown -= 1
        if self._countdown > 0:
            return {}
        self._countdown = self._counter_every - self._turn
        self._turn = 0
        return self._ledger.columns(self._counter.read(clock_ns))

    def close(self) -> None:
        """Nothing to do: the GPU belongs to the sources."""
