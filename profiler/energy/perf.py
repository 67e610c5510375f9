"""RAPL through the kernel's `power` PMU: opens its energy events with perf_event_open, one for each package.

For machines where the powercap tree is absent or closed but perf is open. The kernel widens these counters to 64 bits
and handles their wraps; they start near 0 when opened. It chooses nothing between powercap and perf (sources does).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from profiler.energy import counters
from profiler.energy.counters import Clock, CounterInfo, EnergyCounter, Reading, Unavailable
from profiler.energy.rapl import DEFAULT_MAX_POWER_W, MAX_POWER_W, UPDATE_PERIOD_S, fault_of

SOURCE: Final = "perf"
_SCOPES: Final = {
    "energy-pkg": ("cpu_package", "package"),
    "energy-ram": ("dram", "dram"),
    "energy-cores": ("core", "core"),
    "energy-gpu": ("uncore", "uncore"),
    "energy-psys": ("psys", "psys"),
}
_SYSCALL: Final = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319}
_FLAG_CLOEXEC: Final = 8
_VALUE_BYTES: Final = 8

# Opens a counting event (PMU type, config, cpu) and returns its descriptor. Raises OSError.
Opener = Callable[[int, int, int], int]


class _Attributes(ctypes.Structure):
    """`struct perf_event_attr`, first published size (64 bytes): all that a plain counting event needs."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("config1", ctypes.c_uint64),
    ]


def perf_event_open(pmu_type: int, config: int, cpu: int) -> int:
    """A descriptor that counts the event on `cpu` for every process. Raises OSError."""
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"perf_event_open has no known number on {platform.machine()}")
    attributes = _Attributes(type=pmu_type, size=ctypes.sizeof(_Attributes), config=config)
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_int(-1), ctypes.c_int(cpu), ctypes.c_int(-1), ctypes.c_ulong(_FLAG_CLOEXEC))
    descriptor = int(libc.syscall(ctypes.c_long(number), ctypes.byref(attributes), *arguments))
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor


@dataclass(frozen=True)
class Event:
    """One event of the PMU: its name, `config` word and joules per count."""

    name: str
    config: int
    joules_per_unit: Fraction


class PerfCounter:
    """One open energy event on one CPU."""

    def __init__(self, info: CounterInfo, descriptor: int) -> None:
        self._info = info
        self._descriptor = descriptor

    @property
    def info(self) -> CounterInfo:
        return self._info

    def read(self, clock_ns: Clock = time.monotonic_ns) -> Reading:
        try:
            raw = os.read(self._descriptor, _VALUE_BYTES)
        except OSError as error:
            return Reading(clock_ns(), None, fault_of(error))
        t_ns = clock_ns()
        if len(raw) < _VALUE_BYTES:
            # The kernel answers with end of file once the event's CPU has gone offline.
            return Reading(t_ns, None, counters.VANISHED)
        return Reading(t_ns, int.from_bytes(raw, "little"))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_perf(
    sysfs: Path, *, opener: Opener = perf_event_open, cpuinfo: Path = Path("/proc/cpuinfo")
) -> tuple[list[EnergyCounter], list[Unavailable]]:
    """Every energy event of the `power` PMU under `sysfs`, opened on each CPU of its cpumask, and what cannot be.

    An event that is open but constant 0 is not told apart here (a reading needs time): sources.discover does."""
    pmu = sysfs / "bus" / "event_source" / "devices" / "power"
    if not (pmu / "type").is_file():
        fix = "sudo modprobe rapl  # physical machines only: a virtual machine has no RAPL counters"
        return [], [Unavailable("perf", "no_power_pmu", fix, "cpu_package", SOURCE)]
    pmu_type = int(_text(pmu / "type"))
    cpus = _package_cpus(sysfs, parse_cpu_list(_text(pmu / "cpumask") or "0"), _vendor(cpuinfo))
    opened: list[EnergyCounter] = []
    unavailable: list[Unavailable] = []
    for event in find_events(pmu):
        for device_suffix, cpu in cpus:
            counter = _open_event(event, pmu_type, cpu, device_suffix, opener)
            (unavailable if isinstance(counter, Unavailable) else opened).append(counter)  # type: ignore[arg-type]
    return opened, unavailable


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def find_events(pmu: Path) -> list[Event]:
    """The PMU's events that count joules, in the order of their names."""
    events = []
    for path in sorted((pmu / "events").glob("energy-*")):
        if "." in path.name or path.name not in _SCOPES:
            continue
        config = _config(_text(path), pmu / "format")
        scale = _text(path.with_name(f"{path.name}.scale"))
        unit = _text(path.with_name(f"{path.name}.unit"))
        if config is not None and scale and unit in ("", "Joules"):
            events.append(Event(path.name, config, Fraction(scale)))
    return events


def _config(text: str, formats: Path) -> int | None:
    """The config word of an event such as "event=0x02", with each field put where `format` says ("config:0-7")."""
    config = 0
    for part in text.split(","):
        field, _, value = part.partition("=")
        place = _text(formats / field.strip()) or "config:0-7"
        register, _, bits = place.partition(":")
        if register != "config" or not value:
            return None
        config |= int(value, 0) << int(bits.partition("-")[0])
    return config


def parse_cpu_list(text: str) -> list[int]:
    """CPU numbers of a kernel list such as "0,28" or "0-3"."""
    cpus: list[int] = []
    for part in filter(None, text.replace("\n", ",").split(",")):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def _vendor(cpuinfo: Path) -> str:
    for line in _text(cpuinfo).splitlines():
        if line.startswith("vendor_id"):
            return line.partition(":")[2].strip()
    return ""


def _package_cpus(sysfs: Path, cpus: list[int], vendor: str) -> list[tuple[str, int]]:
    """The CPUs to count on, each with the place it stands for: "0", or "0-die-1" where a package has several dies.

    AMD's energy counter belongs to the socket: every die of it shows the same one, so one CPU a socket is enough."""
    chosen: dict[tuple[int, int], int] = {}
    for cpu in cpus:
        topology = sysfs / "devices" / "system" / "cpu" / f"cpu{cpu}" / "topology"
        package = _number(topology / "physical_package_id")
        die = 0 if vendor == "AuthenticAMD" else _number(topology / "die_id")
        chosen.setdefault((package, die), cpu)
    dies = {package: sum(1 for p, _ in chosen if p == package) for package, _ in chosen}
    return [(f"{p}-die-{d}" if dies[p] > 1 else str(p), cpu) for (p, d), cpu in sorted(chosen.items())]


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdigit() else 0


def _open_event(event: Event, pmu_type: int, cpu: int, suffix: str, opener: Opener) -> EnergyCounter | Unavailable:
    scope, label = _SCOPES[event.name]
    name = label if scope == "psys" else f"{label}-{suffix}"
    info = CounterInfo(
        name=name,
        source=SOURCE,
        device=name,
        scope=scope,
        joules_per_unit=event.joules_per_unit,
        wrap_units=None,
        max_power_w=MAX_POWER_W.get(scope, DEFAULT_MAX_POWER_W),
        update_period_s=UPDATE_PERIOD_S,
        unit=f"{float(event.joules_per_unit):.3g} J",
    )
    try:
        return PerfCounter(info, opener(pmu_type, event.config, cpu))
    except OSError as error:
        return _unavailable(info, error)


def _unavailable(info: CounterInfo, error: OSError) -> Unavailable:
    if error.errno in (errno.EACCES, errno.EPERM):
        fix = "sudo sysctl kernel.perf_event_paranoid=0  # or: sudo setcap cap_perfmon+ep on the Python interpreter"
        return Unavailable(info.name, counters.PERMISSION_DENIED, fix, info.scope, SOURCE)
    reason = "not_supported" if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT) else fault_of(error)
    return Unavailable(info.name, reason, "", info.scope, SOURCE)
