"""RAPL through the powercap tree: finds the zones, decides what each one measures, keeps a descriptor open on each.

Topology is decided once, here: package zones are summed once; a twin of a package (the MMIO interface, a die that shows
its socket's counter) gets the scope "mirror", so that no sum over "cpu_package" can count it twice; dram, core, uncore
and psys have scopes of their own. It does no arithmetic on energy (counters) and no perf events (perf).
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final

from profiler.energy import counters
from profiler.energy.counters import Clock, CounterInfo, EnergyCounter, Reading, Unavailable

SOURCE: Final = "powercap"
MICROJOULE: Final = Fraction(1, 1_000_000)
UPDATE_PERIOD_S: Final = 0.001
# Bounds that no device of the scope reaches (not ratings): they only separate possible from impossible advances.
MAX_POWER_W: Final = {"cpu_package": 2000.0, "dram": 1000.0, "psys": 5000.0}
DEFAULT_MAX_POWER_W: Final = 2000.0

_ZONE = re.compile(r"^(?P<control>intel-rapl(?:-[a-z]+)?):(?P<numbers>\d+(?::\d+)*)$")
_PACKAGE = re.compile(r"^package-(?P<package>\d+)(?:-die-(?P<die>\d+))?$")
_HARDWARE_STEPS: Final = 2**32
_READ_BYTES: Final = 64
_MIRROR_SLACK_UJ: Final = 2_000_000


@dataclass(frozen=True)
class Zone:
    """One directory of the powercap tree. `numbers` is its place in the tree: (1, 0) is child 0 of zone 1."""

    path: Path
    control: str
    numbers: tuple[int, ...]
    label: str
    range_uj: int | None

    @property
    def is_mmio(self) -> bool:
        return self.control.endswith("-mmio")


class PowercapCounter:
    """`energy_uj` of one zone, read with pread on a descriptor that stays open: 3 us, against 36 us for open + read."""

    def __init__(self, info: CounterInfo, descriptor: int, path: Path) -> None:
        self._info = info
        self._descriptor = descriptor
        self.path = path

    @property
    def info(self) -> CounterInfo:
        return self._info

    def with_info(self, info: CounterInfo) -> PowercapCounter:
        """The same open counter under another description; the old object must not be used any more."""
        return PowercapCounter(info, self._descriptor, self.path)

    def read(self, clock_ns: Clock = time.monotonic_ns) -> Reading:
        try:
            text = os.pread(self._descriptor, _READ_BYTES, 0)
        except OSError as error:
            return Reading(clock_ns(), None, fault_of(error))
        t_ns = clock_ns()
        if not text.strip():
            return Reading(t_ns, None, counters.EMPTY_READ)
        try:
            return Reading(t_ns, int(text))
        except ValueError:
            return Reading(t_ns, None, counters.NOT_A_NUMBER)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def fault_of(error: OSError) -> str:
    """The null reason that names a failed read or open."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return counters.PERMISSION_DENIED
    if error.errno in (errno.ENODEV, errno.ENOENT, errno.ENXIO):
        return counters.VANISHED
    return counters.READ_FAILED


def modulus_uj(range_uj: int) -> int:
    """Where `energy_uj` starts again at 0: the largest value plus one hardware unit, in uJ.

    The kernel shows floor(raw * unit_nj / 1000) of a 32-bit `raw`, so a range of that form gives the unit away (61.035
    uJ on most Intel parts, 15.258 uJ on AMD, 15.3 uJ on server DRAM). Any other range is taken to count in uJ."""
    unit_nj = -(-range_uj * 1000 // (_HARDWARE_STEPS - 1))
    if unit_nj >= 1000 and (_HARDWARE_STEPS - 1) * unit_nj // 1000 == range_uj:
        return _HARDWARE_STEPS * unit_nj // 1000
    return range_uj + 1


def open_powercap(sysfs: Path) -> tuple[list[EnergyCounter], list[Unavailable]]:
    """Every energy zone under `sysfs`/class/powercap, opened, and every one that cannot be, with the exact fix.

    `sysfs` is "/sys" or the root of a tree of the same shape. Close each counter after use."""
    zones = find_zones(sysfs)
    if not zones:
        return [], [_no_zones(sysfs)]
    opened: list[PowercapCounter] = []
    unavailable: list[Unavailable] = []
    described = describe(zones)
    if not any(info.scope == "cpu_package" for _, info in described):
        unavailable.append(_no_packages(zones))
    for zone, info in described:
        counter = _open_zone(zone, info)
        if isinstance(counter, Unavailable):
            unavailable.append(counter)
        else:
            opened.append(counter)
    return list(_mark_mirrored_dies(opened)), unavailable


def _no_zones(sysfs: Path) -> Unavailable:
    fix = "sudo modprobe intel_rapl_msr  # physical machines only: a virtual machine has no RAPL counters"
    return Unavailable("powercap", "no_rapl_zones", f"{fix} (looked in {sysfs}/class/powercap)", "cpu_package", SOURCE)


def _no_packages(zones: Sequence[Zone]) -> Unavailable:
    labels = ", ".join(zone.label for zone in zones)
    return Unavailable("powercap", "no_package_zone", f"none: this machine shows only {labels}", "cpu_package", SOURCE)


def find_zones(sysfs: Path) -> list[Zone]:
    """The zones of the tree in order, each once, whether the class folder holds links or real folders."""
    base = sysfs / "class" / "powercap"
    if not base.is_dir():
        base = sysfs / "devices" / "virtual" / "powercap"
    found: dict[Path, Zone] = {}
    for path in _zone_folders(base, depth=3):
        zone = _read_zone(path)
        if zone is not None:
            found.setdefault(path.resolve(), zone)
    return sorted(found.values(), key=lambda zone: (zone.is_mmio, zone.control, zone.numbers))


def _zone_folders(base: Path, depth: int) -> Iterable[Path]:
    try:
        children = sorted(base.iterdir())
    except OSError:
        return
    for child in children:
        if not child.name.startswith("intel-rapl") or not child.is_dir():
            continue
        if _ZONE.match(child.name):
            yield child
        # The links "device" and "subsystem" do not start with intel-rapl, so this cannot run in circles.
        if depth > 1:
            yield from _zone_folders(child, depth - 1)


def _read_zone(path: Path) -> Zone | None:
    match = _ZONE.match(path.name)
    label = _text(path / "name")
    if match is None or not label:
        return None
    numbers = tuple(int(part) for part in match["numbers"].split(":"))
    largest = _text(path / "max_energy_range_uj")
    return Zone(path, match["control"], numbers, label, int(largest) if largest.isdigit() else None)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def describe(zones: Sequence[Zone]) -> list[tuple[Zone, CounterInfo]]:
    """What each zone measures. A zone of the MMIO interface whose twin exists is a mirror of it."""
    labels = {(zone.control, zone.numbers): zone.label for zone in zones}
    taken: set[str] = set()
    described: list[tuple[Zone, CounterInfo]] = []
    for zone in zones:
        parent = labels.get((zone.control, zone.numbers[:-1]), "")
        scope, device = _scope_and_device(zone, parent)
        name = device
        if device in taken:
            scope = "mirror" if zone.is_mmio else scope
            name = f"{device}-mmio" if zone.is_mmio else f"{device}@{zone.path.name}"
        taken.add(device)
        described.append((zone, _info(zone, name, scope)))
    return described


def _scope_and_device(zone: Zone, parent: str) -> tuple[str, str]:
    """The scope and a device name. `parent` is the label of the zone above, "" at the top."""
    if _PACKAGE.match(zone.label):
        return "cpu_package", zone.label
    if zone.label in ("psys", "platform"):
        return "psys", zone.label
    scope = zone.label if zone.label in ("dram", "core", "uncore") else "other"
    place = _PACKAGE.match(parent)
    suffix = parent.removeprefix("package-") if place else ":".join(map(str, zone.numbers))
    return scope, f"{zone.label}-{suffix}"


def _info(zone: Zone, name: str, scope: str) -> CounterInfo:
    return CounterInfo(
        name=name,
        source=SOURCE,
        device=name,
        scope=scope,
        joules_per_unit=MICROJOULE,
        wrap_units=modulus_uj(zone.range_uj) if zone.range_uj else None,
        max_power_w=MAX_POWER_W.get(scope, DEFAULT_MAX_POWER_W),
        update_period_s=UPDATE_PERIOD_S,
    )


def _open_zone(zone: Zone, info: CounterInfo) -> PowercapCounter | Unavailable:
    path = zone.path / "energy_uj"
    try:
        counter = PowercapCounter(info, os.open(path, os.O_RDONLY | os.O_CLOEXEC), path)
    except OSError as error:
        return _unavailable(info, path, fault_of(error))
    reading = counters.settled_read(counter)
    if reading.units is None and reading.null_reason != counters.IMPLAUSIBLE:
        counter.close()
        return _unavailable(info, path, reading.null_reason or counters.READ_FAILED)
    return counter


def _unavailable(info: CounterInfo, path: Path, reason: str) -> Unavailable:
    fix = ""
    if reason == counters.PERMISSION_DENIED:
        fix = (
            f"sudo chgrp \"$(id -g)\" '{path}' && sudo chmod g+r '{path}'  "
            "# until the next boot\n"
            "for good: cluster/launch/99-profiler-rapl.rules (udev) or cluster/launch/profiler-rapl.conf (tmpfiles.d)"
        )
    return Unavailable(info.name, reason, fix, info.scope, SOURCE)


def _mark_mirrored_dies(opened: Sequence[PowercapCounter]) -> Iterable[PowercapCounter]:
    """Dies of one package that show the same counter: the first is the package, the others are mirrors of it.

    Two counters that have run apart since the boot do not agree to `_MIRROR_SLACK_UJ`; so values that agree, and are
    not 0, are one counter seen twice."""
    first: dict[str, PowercapCounter] = {}
    for counter in opened:
        place = _PACKAGE.match(counter.info.device.partition("@")[0])
        if place is None or counter.info.scope != "cpu_package":
            yield counter
            continue
        original = first.setdefault(place["package"], counter)
        if original is not counter and _same_counter(original, counter):
            yield counter.with_info(replace(counter.info, scope="mirror"))
        else:
            yield counter


def _same_counter(a: PowercapCounter, b: PowercapCounter) -> bool:
    """Reads a, b, a: b lies between the two reads of a, give or take one update."""
    before, middle, after = (counters.settled_read(counter) for counter in (a, b, a))
    if before.units is None or middle.units is None or after.units is None or middle.units == 0:
        return False
    return before.units - _MIRROR_SLACK_UJ <= middle.units <= after.units + _MIRROR_SLACK_UJ
