"""One NVIDIA GPU: its energy counter, power, cheap indicators and processes, through an open nvidia-ml-py.

Which calls give them is nvml_ways'. It adds up nothing (counters, account), keeps no rhythm (sampler) and sets nothing
on the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Final, TypeVar

from profiler import host
from profiler.energy import nvml_calls, nvml_ways
from profiler.energy.counters import Clock, CounterInfo, EnergyCounter, Reading, Unavailable
from profiler.energy.nvml_values import (
    FIXES,
    FOREVER,
    GPU_LOST,
    NOTHING_NEW,
    GpuProcess,
    GpuReading,
    NvmlReadError,
    PowerSample,
    PowerStamps,
    ProcessUtilization,
    reason_of,
)
from profiler.energy.nvml_ways import MIB

T = TypeVar("T")

COUNTER_PERIOD_S: Final = 0.1  # measured on an H100; older boards are not slower
DEFAULT_MAX_POWER_W: Final = 2000.0


class NvmlEnergyCounter:
    """The board's energy since the driver was loaded, in mJ. A call takes about 3 ms on an H100, 18 ms at most."""

    def __init__(self, device: NvmlDevice, read_mj: Callable[[], int], max_power_w: float) -> None:
        self._device = device
        self._read_mj = read_mj
        self._info = CounterInfo(
            name=f"gpu-{device.index}",
            source="nvml",
            device=device.uuid,
            scope="gpu",
            joules_per_unit=Fraction(1, 1000),
            wrap_units=None,
            max_power_w=max_power_w,
            update_period_s=COUNTER_PERIOD_S,
            unit="mJ",
        )

    @property
    def info(self) -> CounterInfo:
        return self._info

    def read(self, clock_ns: Clock = time.monotonic_ns) -> Reading:
        """The counter, stamped with the middle of the call."""
        before_ns = clock_ns()
        try:
            units = self._read_mj()
        except self._device.error as error:
            return Reading(clock_ns(), None, reason_of(error.value))
        return Reading((before_ns + clock_ns()) // 2, units)

    def close(self) -> None:
        """Nothing to do: the library is closed by `Nvml.close`."""


class NvmlDevice:
    """One GPU. `mig_enabled`: the board is cut into MIG instances, and every reading is of the whole board."""

    def __init__(self, nvml: Any, handle: Any, index: int) -> None:
        self._nvml = nvml
        self._handle = handle
        self.error: type[Any] = nvml.NVMLError
        self.index = index
        self.uuid: str = text(nvml.nvmlDeviceGetUUID(handle))
        self.name: str = text(nvml.nvmlDeviceGetName(handle))
        self.mig_enabled = self._try(lambda: bool(nvml.nvmlDeviceGetMigMode(handle)[0]), False)
        self.power_limit_w: float | None = self._try(self._read_power_limit_w, None)
        self.memory_total_mib: float | None = self._try(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total / MIB, None)
        self._power = nvml_ways.power(nvml, handle)
        self._temperature = nvml_ways.temperature_c(nvml, handle)
        self._utilization = nvml_ways.utilization(nvml, handle)
        self._memory = nvml_ways.memory_mib(nvml, handle)
        self._clock = nvml_ways.clock_mhz(nvml, handle)
        self._throttle = nvml_ways.throttle_reasons(nvml, handle)
        self._energy = nvml_ways.energy_mj(nvml, handle)
        self._power_buffer = nvml_calls.power_buffer(nvml, handle)
        # As long as nothing fails, a reading looks for no reason and no other way: half the work beside the driver's.
        self._all_answer = True
        self._process_samples = nvml_calls.process_utilization(nvml, handle)

    def read(self, clock_ns: Clock = time.monotonic_ns) -> GpuReading:
        """Power and the cheap indicators, about 150 us on an H100. Never raises; see `GpuReading` for what fails."""
        if self._all_answer:
            try:
                return self._read_at_once(clock_ns)
            except self.error:
                pass
        reading = self._read_one_by_one(clock_ns)
        self._all_answer = not reading.null_reasons
        return reading

    def _read_at_once(self, clock_ns: Clock) -> GpuReading:
        """Each value in the way that answered last, and no second one. Raises NVMLError."""
        power_w, kind = self._power.way()
        t_ns = clock_ns()
        used = self._utilization()
        temp_c, memory_mib = self._temperature.way(), self._memory.way()
        clock_mhz, throttled = self._clock(), self._throttle.way()
        return GpuReading(
            t_ns, power_w, kind, temp_c, float(used.gpu), float(used.memory), memory_mib, clock_mhz, throttled, {}
        )

    def _read_one_by_one(self, clock_ns: Clock) -> GpuReading:
        """What answers, and of the rest the reason."""
        nulls: dict[str, str] = {}
        power = self._get("power_w", self._power, nulls)
        t_ns = clock_ns()
        if nulls.get("power_w") == GPU_LOST:  # the other calls could only wait for the same answer
            names = ("temp_c", "util_percent", "memory_util_percent", "memory_mib", "clock_mhz", "throttle_reasons")
            nulls |= dict.fromkeys(("power_w", "power_kind", *names), GPU_LOST)
            return GpuReading(t_ns, None, None, None, None, None, None, None, None, nulls)
        if power is None:
            nulls["power_kind"] = nulls["power_w"]
        utilization = self._get("util_percent", self._utilization, nulls)
        if utilization is None:
            nulls["memory_util_percent"] = nulls["util_percent"]
        return GpuReading(
            t_ns=t_ns,
            power_w=power[0] if power else None,
            power_kind=power[1] if power else None,
            temp_c=self._get("temp_c", self._temperature, nulls),
            util_percent=float(utilization.gpu) if utilization else None,
            memory_util_percent=float(utilization.memory) if utilization else None,
            memory_mib=self._get("memory_mib", self._memory, nulls),
            clock_mhz=self._get("clock_mhz", self._clock, nulls),
            throttle_reasons=self._get("throttle_reasons", self._throttle, nulls),
            null_reasons=nulls,
        )

    def energy_counter(self) -> EnergyCounter:
        """The board's energy counter; where there is none, each of its readings is null with the reason."""
        limit_w = self.power_limit_w
        max_power_w = 2 * limit_w if limit_w else DEFAULT_MAX_POWER_W  # transients pass the limit for milliseconds
        return NvmlEnergyCounter(self, self._energy, max_power_w)

    def energy_problem(self) -> Unavailable | None:
        """Why this GPU has no usable energy counter, or None. Reads it once (3 ms)."""
        reason = self.energy_counter().read().null_reason
        if reason is None:
            return None
        fix = FIXES.get(reason, "energy counters came with Volta; power is sampled instead")
        return Unavailable(f"gpu-{self.index} energy counter ({self.uuid})", reason, fix, scope="gpu", source="nvml")

    def processes(self) -> tuple[GpuProcess, ...]:
        """Processes on this GPU (compute, graphics, MPS clients), one entry a PID, by PID.

        Raises NvmlReadError when the driver does not answer: "unknown" must not look like "nobody".
        """
        found: dict[int, float | None] = {}
        for name in ("Compute", "Graphics", "MPSCompute"):
            for pid, memory_mib in self._process_list(name, required=name == "Compute").items():
                known = found.get(pid)
                found[pid] = memory_mib if known is None else max(known, memory_mib or 0.0)
        return tuple(GpuProcess(pid, found[pid]) for pid in sorted(found))

    def process_utilization(self, after_us: int = 0) -> tuple[ProcessUtilization, ...]:
        """One sample of each process that did something after `after_us` (the last stamp seen): its mean since then.

        Samples of an impossible value are left out. Raises NvmlReadError, e.g. where it is not supported.
        """
        samples = self._new_samples(lambda: self._process_samples(after_us))
        offset_ns = _wall_minus_monotonic_ns()
        good = sorted(
            (stamp_us, pid, sm, memory)
            for pid, stamp_us, sm, memory in samples
            if stamp_us > after_us and sm <= 100 and memory <= 100
        )
        return tuple(
            ProcessUtilization(pid, stamp_us * 1000 - offset_ns, stamp_us, sm, memory)
            for stamp_us, pid, sm, memory in good
        )

    def power_samples(self, after_us: int = 0) -> tuple[PowerSample, ...]:
        """The driver's power buffer after `after_us` (the last `stamp_us` seen), oldest first: on an H100 2.4 s of
        samples 20 ms apart, for about 1 ms a call. Raises NvmlReadError, e.g. where it is not supported."""
        return self.power_stamps(after_us).samples(after_us)

    def power_stamps(self, after_us: int = 0) -> PowerStamps:
        """The same as the driver gives it, to be worked out later."""
        stamped = self._new_samples(lambda: self._power_buffer(after_us))
        return PowerStamps(_wall_minus_monotonic_ns(), stamped)

    def _read_power_limit_w(self) -> float:
        return float(self._nvml.nvmlDeviceGetPowerManagementLimitConstraints(self._handle)[1]) / 1000

    def _get(self, name: str, read: Callable[[], T], nulls: dict[str, str]) -> T | None:
        try:
            return read()
        except self.error as error:
            nulls[name] = reason_of(error.value)
            return None

    def _try(self, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except self.error:
            return otherwise

    def _new_samples(self, read: Callable[[], Sequence[T]]) -> Sequence[T]:
        try:
            return read()
        except self.error as error:
            if error.value in NOTHING_NEW:
                return ()
            raise NvmlReadError(reason_of(error.value)) from error

    def _process_list(self, name: str, *, required: bool) -> dict[int, float | None]:
        """MiB by PID. A PID is listed twice where it holds several MIG instances: those add up."""
        try:
            listed = getattr(self._nvml, f"nvmlDeviceGet{name}RunningProcesses_v3")(self._handle)
        except self.error as error:
            if not required and error.value in FOREVER:
                return {}
            raise NvmlReadError(reason_of(error.value)) from error
        found: dict[int, float | None] = {}
        for process in listed:
            used, before = process.usedGpuMemory, found.get(process.pid)
            found[process.pid] = before if used is None else used / MIB + (before or 0.0)
        return found


def text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _wall_minus_monotonic_ns() -> int:
    """What to take from the driver's wall-clock stamps; read at the time of the call, so a step of the clock shows only
    in stamps from before it."""
    return host.anchor().utc_offset_ns
