"""What readings of an NVIDIA GPU look like, and the names of what can go wrong. It calls nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

_REASONS: Final = {
    1: "nvml_closed",
    2: "nvml_invalid_argument",
    3: "nvml_not_supported",
    4: "nvml_no_permission",
    6: "nvml_not_found",
    9: "nvml_driver_not_loaded",
    10: "nvml_timeout",
    12: "nvml_library_missing",
    13: "nvml_function_missing",
    15: "nvml_gpu_lost",
    16: "nvml_reset_required",
    18: "nvml_version_mismatch",
    25: "nvml_version_mismatch",
}
GPU_LOST: Final = "nvml_gpu_lost"
FOREVER: Final = frozenset({2, 3, 13, 25, 26})  # codes that will not change: ask the next way
FOREVER_REASONS: Final = frozenset(_REASONS.get(code, f"nvml_error_{code}") for code in FOREVER)
NOTHING_NEW: Final = frozenset({0, 6, 21})  # success without a sample, not found, no data

FIXES: Final = {
    "nvml_library_missing": "install the NVIDIA driver (it brings libnvidia-ml.so.1); a container needs `--gpus all`",
    "nvml_driver_not_loaded": "load the driver with `sudo modprobe nvidia`; a container needs `--gpus all`",
    "nvml_no_permission": "let this user read and write /dev/nvidiactl and /dev/nvidia[0-9]*",
    "nvml_version_mismatch": "the driver was updated while loaded: reboot, or unload and load the nvidia modules",
    GPU_LOST: "the GPU fell off the bus: see `dmesg | grep -i xid`, then reboot or reset it",
}


def reason_of(code: int) -> str:
    """The null reason for an NVML return code."""
    return _REASONS.get(code, f"nvml_error_{code}")


class NvmlReadError(Exception):
    """A reading other than `read()` failed; `reason` is one of the null reasons (`nvml_...`)."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class GpuReading(NamedTuple):
    """One look at a GPU at CLOCK_MONOTONIC `t_ns` (when the power was read). W, degrees C, percent, MiB, MHz.

    `memory_mib` is what processes and contexts use, without the driver's own reservation (with it, where the driver is
    older than nvmlMemory_v2). `throttle_reasons` is NVML's
    clocks-event bitmask. Every None field has its reason in `null_reasons`, under the field's name.
    """

    t_ns: int
    power_w: float | None
    power_kind: str | None
    temp_c: float | None
    util_percent: float | None
    memory_util_percent: float | None
    memory_mib: float | None
    clock_mhz: float | None
    throttle_reasons: int | None
    null_reasons: dict[str, str]


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds the GPU: its PID outside of any run's namespace, MiB (None: the driver does not tell)."""

    pid: int
    memory_mib: float | None


@dataclass(frozen=True, slots=True)
class ProcessUtilization:
    """Share of the SMs and of the memory bandwidth that a process used in the sample that ends at `t_ns`.

    `t_ns` is CLOCK_MONOTONIC, converted from the driver's wall-clock `stamp_us`, which the next call needs.
    """

    pid: int
    t_ns: int
    stamp_us: int
    sm_percent: int
    memory_percent: int


class PowerSample(NamedTuple):
    """One entry of the driver's power buffer: W at CLOCK_MONOTONIC `t_ns`, converted from the wall-clock `stamp_us`."""

    t_ns: int
    stamp_us: int
    power_w: float


class PowerStamps(NamedTuple):
    """The driver's power buffer as it gives it: (us of its wall clock, mW) in its order. `offset_ns`: what to take from
    its clock for CLOCK_MONOTONIC, as it was at the call, so a step of the clock shows only in stamps from before it."""

    offset_ns: int
    stamped: Sequence[tuple[int, float]]

    def samples(self, after_us: int = 0) -> tuple[PowerSample, ...]:
        """Those after `after_us`, oldest first."""
        return tuple(
            PowerSample(stamp_us * 1000 - self.offset_ns, stamp_us, power_mw / 1000)
            for stamp_us, power_mw in self._after(after_us)
        )

    def points(self, after_us: int = 0) -> list[tuple[int, float]]:
        """The same in a fifth of the time, as (ns of CLOCK_MONOTONIC, mW)."""
        offset_ns = self.offset_ns
        return [(stamp_us * 1000 - offset_ns, power_mw) for stamp_us, power_mw in self._after(after_us)]

    def _after(self, after_us: int) -> list[tuple[int, float]]:
        return sorted(one for one in self.stamped if one[0] > after_us)
