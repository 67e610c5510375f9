"""What this machine can measure and contain, what it cannot, why, and the line that would change it.

It looks only: it starts no Ray, imports no Ray and no torch, changes nothing, and prints nothing.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from profiler.energy.counters import CounterInfo, Unavailable
from profiler.energy.nvml import NvmlDevice
from profiler.energy.sources import Sources, discover
from profiler.process.tiers import Tier, probe

OLDEST_PYTHON = (3, 11)
DISK_LOW_GIB = 1.0


@dataclass(frozen=True)
class SourceState:
    """One energy source: whether it gives figures here, and if not, the reason and the exact line that fixes it."""

    name: str
    available: bool
    reason: str | None
    fix: str | None
    scope: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class GpuState:
    """One GPU now: power in W, temperature in deg C, memory in MiB; None where it does not say."""

    index: int
    uuid: str
    name: str
    power_w: float | None
    temp_c: float | None
    memory_mib: float | None


@dataclass(frozen=True)
class Component:
    """A part the tool needs or uses: Python, Ray, the disk of the results."""

    name: str
    ok: bool
    detail: str
    fix: str | None = None


@dataclass(frozen=True)
class SamplerState:
    """With which priority the 10 Hz sampler can run here."""

    sched_fifo: bool
    negative_nice: bool
    fix: str | None


@dataclass(frozen=True)
class Diagnosis:
    """Everything that `doctor` says. `containment` is the best tier's name, None where there is none."""

    containment: str | None
    tiers: tuple[Tier, ...]
    sources: tuple[SourceState, ...]
    gpus: tuple[GpuState, ...]
    python: Component
    ray: Component
    disk: Component
    torch: Component
    sampler: SamplerState

    @property
    def ok(self) -> bool:
        """Campaigns can run here. A machine without energy sources can run them too; its figures are null."""
        return self.containment is not None and self.python.ok and self.ray.ok and self.disk.ok

    def to_json(self) -> dict[str, Any]:
        """The JSON of ``doctor --json``: `ok` and every field; a reason or fix that does not exist is null."""
        tiers = [{**vars(tier), "reason": tier.reason or None, "fix": tier.fix or None} for tier in self.tiers]
        return {"ok": self.ok, **vars(self), "tiers": tiers}


def diagnose(results: Path) -> Diagnosis:
    """Looks at this machine; takes about a second. `results` is the folder whose disk is checked; need not exist."""
    tiers = tuple(probe())
    best = next((tier for tier in tiers if tier.available and tier.holds), None)
    with discover() as sources:
        states = source_states(sources)
        gpus = tuple(gpu_state(device) for device in sources.gpus)
    return Diagnosis(
        containment=best.name if best is not None else None,
        tiers=tiers,
        sources=states,
        gpus=gpus,
        python=python_state(),
        ray=ray_state(),
        disk=disk_state(results),
        torch=torch_state(),
        sampler=sampler_state(),
    )


def source_states(sources: Sources) -> tuple[SourceState, ...]:
    """Every energy source: those that give figures (they have been seen moving), then those that cannot be used."""
    usable = [_usable(counter.info) for counter in sources.counters]
    return (*usable, *_gpu_sources(sources), *map(_unusable, sources.unavailable))


def _usable(info: CounterInfo) -> SourceState:
    return SourceState(info.name, True, None, None, info.scope, info.source)


def _unusable(missing: Unavailable) -> SourceState:
    return SourceState(missing.name, False, missing.reason, missing.fix or None, missing.scope, missing.source)


def _gpu_sources(sources: Sources) -> list[SourceState]:
    states = []
    for device in sources.gpus:
        problem = device.energy_problem()
        states.append(_unusable(problem) if problem else _usable(sources.gpu_counters[device.uuid].info))
    return states


def gpu_state(device: NvmlDevice) -> GpuState:
    now = device.read()
    return GpuState(device.index, device.uuid, device.name, now.power_w, now.temp_c, now.memory_mib)


def python_state() -> Component:
    version = platform.python_version()
    ok = sys.version_info[:2] >= OLDEST_PYTHON
    fix = None if ok else f"install Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer"
    return Component("python", ok, f"{version} ({sys.executable})", fix)


def ray_state() -> Component:
    """Whether Ray is installed; found without importing it."""
    try:
        return Component("ray", True, metadata.version("ray"))
    except metadata.PackageNotFoundError:
        return Component("ray", False, "not installed", f"{sys.executable} -m pip install ray")


def disk_state(results: Path) -> Component:
    """Free space where the results will lie, and whether they may be written there."""
    place = results.absolute()
    while not place.exists():
        place = place.parent
    free_gib = shutil.disk_usage(place).free / 2**30
    detail = f"{free_gib:.1f} GiB free in {place}"
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Component("disk", False, f"{place} cannot be written", "choose another folder with --results DIR")
    if free_gib < DISK_LOW_GIB:
        return Component(
            "disk", False, detail, f"free at least {DISK_LOW_GIB:.0f} GiB, or choose another --results DIR"
        )
    return Component("disk", True, detail)


def torch_state() -> Component:
    """Whether torch lies here as bytecode too, or the first trainer can leave it; found without importing it, by its
    first module. Campaigns can run in any case.

    Some images leave the bytecode out and forbid to write it. Each trainer then compiles two thousand modules at its
    start, and the seconds and joules of that are its run's.
    """
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        return Component("torch", True, "not installed; only trainers that use it need it")
    place = Path(spec.origin).parent
    if spec.cached is None or _is_bytecode_of(Path(spec.cached), Path(spec.origin)):
        return Component("torch", True, f"installed in {place}")
    if not sys.dont_write_bytecode and os.access(place, os.W_OK):
        return Component("torch", True, f"installed in {place}; the first trainer compiles it")
    return Component(
        "torch",
        False,
        "without bytecode: each trainer compiles it anew at its start, in its run's time and energy",
        shlex.join([sys.executable, "-m", "compileall", "-q", "-j", "0", str(place.parent)]),
    )


def _is_bytecode_of(cached: Path, source: Path) -> bool:
    """Whether Python would take `cached` for `source`: of this version, and of the source as it is (PEP 552)."""
    try:
        with cached.open("rb") as file:
            header = file.read(16)
        stat = source.stat()
    except OSError:
        return False
    magic, flags, changed_s, size = header[:4], header[4:8], header[8:12], header[12:16]
    if magic != importlib.util.MAGIC_NUMBER:
        return False
    numbers = int.from_bytes(changed_s, "little"), int.from_bytes(size, "little")
    return any(flags) or numbers == (int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size & 0xFFFFFFFF)


def sampler_state() -> SamplerState:
    """Tries both priorities in a thread of its own, which ends at once and takes them with it."""
    fifo = _permitted(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
    nice = _permitted(lambda: os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10))
    fix = None
    if not fifo:
        user = os.environ.get("USER", "$USER")
        fix = f"echo '{user} - rtprio 10' | sudo tee /etc/security/limits.d/90-profiler.conf  # then log in again"
    return SamplerState(fifo, nice, fix)


def _permitted(change: Callable[[], None]) -> bool:
    allowed: list[bool] = []

    def attempt() -> None:
        try:
            change()
        except OSError:
            return
        allowed.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(allowed)
