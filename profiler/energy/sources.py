"""Which energy sources this node has: opens them all, chooses between powercap and perf, reads them at boundaries.

It has no thread and no trace (sampler), and computes no energy (counters, account).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from profiler import host
from profiler.energy import counters, edges, passport, perf, rapl
from profiler.energy.counters import Clock, EnergyCounter, Reading, Unavailable
from profiler.energy.edges import Step
from profiler.energy.nvml_values import NvmlReadError, PowerSample
from profiler.energy.passport import Passport

if TYPE_CHECKING:
    from profiler.energy.nvml import Nvml, NvmlDevice

SYSFS_VARIABLE: Final = "PROFILER_SYSFS_ROOT"
# How long a counter may stand still before it counts as dead. A live RAPL counter moves within 1-2 ms.
PROBE_S: Final = 0.5
PROBE_INTERVAL_S: Final = 0.005


@dataclass(frozen=True)
class Boundary:
    """One edge of a window: when its reading began, every counter's reading by counter name, and the three clocks.

    `steps` has the counters that were caught in the moment they moved (edges). `cpu_busy_s`: CPU seconds since boot
    that the node's CPUs were busy. `power`: at an end, the power buffer of each GPU that has one, by UUID."""

    t_ns: int
    readings: Mapping[str, Reading]
    anchor: host.Anchor | None = None
    steps: Mapping[str, Step] = field(default_factory=dict)
    cpu_busy_s: float | None = None
    power: Mapping[str, Sequence[PowerSample]] = field(default_factory=dict)


@dataclass
class Sources:
    """The open sources of a node. `counters` are the CPU's, `gpus` have their own; each source is either here or named
    in `unavailable`. `passports`: of the GPUs whose sensors were calibrated, by UUID. Use as a context manager, or call
    `close`."""

    counters: tuple[EnergyCounter, ...] = ()
    gpus: tuple[NvmlDevice, ...] = ()
    unavailable: tuple[Unavailable, ...] = ()
    gpu_counters: Mapping[str, EnergyCounter] = field(default_factory=dict)
    passports: Mapping[str, Passport] = field(default_factory=dict)
    _nvml: Nvml | None = None

    @property
    def driver(self) -> str | None:
        """Version of NVIDIA's driver, where there is one."""
        return self._nvml.driver_version if self._nvml is not None else None

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def all_counters(self) -> Iterator[EnergyCounter]:
        yield from self.counters
        yield from self.gpu_counters.values()

    def boundary(
        self,
        gpu_uuid: str | Sequence[str] | None = None,
        *,
        edge: Literal["start", "end"] | None = None,
        align: bool = True,
        clock_ns: Clock = time.monotonic_ns,
    ) -> Boundary:
        """Reads every CPU counter and those of the given GPU (or GPUs). A reading never fails: it has a null reason.

        With an `edge` the slow GPU calls (3 ms, up to 18) are kept away from the run, first at the start and last at
        the end, and unless `align` is False the GPU's counter is watched until it moves (50 ms, at most 400)."""
        t_ns = clock_ns()
        uuids = [gpu_uuid] if isinstance(gpu_uuid, str) else list(gpu_uuid or ())
        gpus = [self.gpu_counters[uuid] for uuid in uuids if uuid in self.gpu_counters]
        cpu: dict[str, Reading] = {}
        busy_s = None
        if edge == "end":
            cpu, busy_s = self._read_cpu(clock_ns)
        if edge is not None and align:
            gpu, steps = edges.catch_steps(gpus, clock_ns)
        else:
            gpu, steps = {counter.info.name: _boundary_reading(counter, clock_ns) for counter in gpus}, {}
        anchor = host.anchor() if clock_ns is time.monotonic_ns else None
        if edge != "end":
            cpu, busy_s = self._read_cpu(clock_ns)
        power = {gpu.uuid: _power_samples(gpu) for gpu in self.gpus if edge == "end" and gpu.uuid in uuids}
        return Boundary(t_ns, {**cpu, **gpu}, anchor, steps, busy_s, power)

    def _read_cpu(self, clock_ns: Clock) -> tuple[dict[str, Reading], float | None]:
        """The CPU's counters and its busy time, as close together as can be."""
        busy_s = host.cpu_busy_s() if clock_ns is time.monotonic_ns else None
        return {counter.info.name: _boundary_reading(counter, clock_ns) for counter in self.counters}, busy_s

    def close(self) -> None:
        """Closes every source; safe to call again."""
        for counter in self.all_counters():
            counter.close()
        if self._nvml is not None:
            self._nvml.close()
        self.counters, self.gpus, self.gpu_counters, self._nvml = (), (), {}, None


def _power_samples(gpu: NvmlDevice) -> Sequence[PowerSample]:
    """The driver's power buffer (2.4 s on an H100, 1 ms a call); nothing where there is none."""
    try:
        return gpu.power_samples()
    except NvmlReadError:
        return ()


def _boundary_reading(counter: EnergyCounter, clock_ns: Clock) -> Reading:
    """Text files can be torn or empty for a moment, so they are read until two reads agree. Others fail or answer: one
    more try is enough."""
    if counter.info.source == rapl.SOURCE:
        return counters.settled_read(counter, clock_ns)
    reading = counter.read(clock_ns)
    return reading if reading.units is not None else counter.read(clock_ns)


def sysfs_root() -> Path:
    """The sysfs tree to read: $PROFILER_SYSFS_ROOT, or /sys."""
    return Path(os.environ.get(SYSFS_VARIABLE) or "/sys")


def discover(sysfs: Path | None = None, *, probe_s: float = PROBE_S, gpus: bool = True) -> Sources:
    """Opens everything that can be read on this node. Never raises for hardware: what is missing is `unavailable`.

    A CPU counter that does not move within `probe_s` is closed and listed as `counter_not_advancing` (0: not probed).
    """
    root = sysfs or sysfs_root()
    chosen, unavailable = choose(rapl.open_powercap(root), perf.open_perf(root))
    alive, dead = _probe(chosen, probe_s) if probe_s > 0 else (chosen, [])
    sources = Sources(counters=tuple(alive), unavailable=(*unavailable, *dead))
    if gpus:
        _add_gpus(sources)
    return sources


Opened = tuple[list[EnergyCounter], list[Unavailable]]


def choose(powercap: Opened, perf_events: Opened) -> Opened:
    """For each scope powercap where all its zones are readable, else perf where all its events are.

    Where neither is complete the scope is unavailable with powercap's reasons first: the sum over a part of the
    packages would be wrong without anyone seeing it."""
    chosen: list[EnergyCounter] = []
    unavailable: list[Unavailable] = []
    for scope in _scopes(powercap, perf_events):
        candidates = [_of_scope(opened, scope) for opened in (powercap, perf_events)]
        winner = next((c for c in candidates if c[0] and not c[1]), None)
        for candidate in candidates:
            if candidate is winner:
                chosen.extend(candidate[0])
            else:
                _close(candidate[0])
        if winner is None:
            unavailable.extend(entry for candidate in candidates for entry in candidate[1])
    return chosen, unavailable


def _scopes(*opened: Opened) -> list[str | None]:
    found: dict[str | None, None] = {}
    for present, missing in opened:
        found.update(dict.fromkeys(counter.info.scope for counter in present))
        found.update(dict.fromkeys(entry.scope for entry in missing))
    return list(found)


def _of_scope(opened: Opened, scope: str | None) -> Opened:
    present, missing = opened
    return [c for c in present if c.info.scope == scope], [u for u in missing if u.scope == scope]


def _close(doomed: Iterable[EnergyCounter]) -> None:
    for counter in doomed:
        counter.close()


def _probe(opened: Sequence[EnergyCounter], probe_s: float) -> Opened:
    """Splits counters into those that move within `probe_s` and those that do not. Takes some ms when all are alive."""
    first = {counter.info.name: counter.read() for counter in opened}
    waiting = list(opened)
    deadline = time.monotonic() + probe_s
    while waiting:
        waiting = [counter for counter in waiting if not _moved(first[counter.info.name], counter.read())]
        if time.monotonic() >= deadline:
            break
        time.sleep(PROBE_INTERVAL_S)
    _close(waiting)
    dead = [_dead(counter, first[counter.info.name], probe_s) for counter in waiting]
    return [counter for counter in opened if counter not in waiting], dead


def _moved(before: Reading, after: Reading) -> bool:
    return before.units is not None and after.units is not None and before.units != after.units


def _dead(counter: EnergyCounter, first: Reading, probe_s: float) -> Unavailable:
    info = counter.info
    if first.units is None:
        return Unavailable(info.name, first.null_reason or counters.READ_FAILED, "", info.scope, info.source)
    fix = f"none: the counter stood at {first.units} for {probe_s:g} s; virtual machines show such counters"
    return Unavailable(info.name, counters.NOT_ADVANCING, fix, info.scope, info.source)


def _add_gpus(sources: Sources) -> None:
    from profiler.energy.nvml import open_nvml

    nvml = open_nvml()
    if isinstance(nvml, Unavailable):
        sources.unavailable += (nvml,)
        return
    sources._nvml = nvml
    sources.unavailable += nvml.unavailable
    sources.gpus = tuple(nvml.devices)
    sources.gpu_counters = {gpu.uuid: gpu.energy_counter() for gpu in nvml.devices}
    folder = passport.cache_folder()
    known = {gpu.uuid: passport.load(gpu.uuid, nvml.driver_version, folder) for gpu in nvml.devices}
    sources.passports = {uuid: found for uuid, found in known.items() if found is not None}
