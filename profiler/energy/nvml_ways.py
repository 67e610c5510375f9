"""Which NVML calls give each value of a GPU, the best way first; the next one is for drivers that do not know it.

Power comes from the first of these that the driver supports; which one is part of every reading (`power_kind`):
    1. field POWER_INSTANT                     instant
    2. field POWER_AVERAGE                     average (over 1 s)
    3. nvmlDeviceGetPowerUsage                 average; instant on GA100 and older, where NVML documents it so
Each function makes the calls of one GPU ready and asks nothing yet, but for the board's generation.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from profiler.energy.nvml_calls import Call, FirstSupported, field_value, plain

MIB: Final = 1 << 20
GA100: Final = (8, 0)  # up to this compute capability nvmlDeviceGetPowerUsage is not averaged


def power(nvml: Any, handle: Any) -> FirstSupported[tuple[float, str]]:
    """W, and "instant" or "average"."""
    instant = field_value(nvml, handle, nvml.NVML_FI_DEV_POWER_INSTANT)
    average = field_value(nvml, handle, nvml.NVML_FI_DEV_POWER_AVERAGE)
    usage = Call(nvml, "nvmlDeviceGetPowerUsage", (handle,), ctypes.c_uint)
    kind_of_usage = "instant" if _capability(nvml, handle) <= GA100 else "average"
    return FirstSupported(
        nvml.NVMLError,
        lambda: (instant() / 1000, "instant"),
        lambda: (average() / 1000, "average"),
        lambda: (usage().value / 1000, kind_of_usage),
    )


def _capability(nvml: Any, handle: Any) -> tuple[int, ...]:
    try:
        return tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle))
    except nvml.NVMLError:
        return (99, 0)


def temperature_c(nvml: Any, handle: Any) -> FirstSupported[float]:
    sensor = nvml.NVML_TEMPERATURE_GPU
    asked = partial(plain(nvml.c_nvmlTemperature_v1_t), version=nvml.nvmlTemperature_v1, sensorType=sensor)
    newer = Call(nvml, "nvmlDeviceGetTemperatureV", (handle,), asked)
    older = Call(nvml, "nvmlDeviceGetTemperature", (handle, sensor), ctypes.c_uint)
    return FirstSupported(nvml.NVMLError, lambda: float(newer().temperature), lambda: float(older().value))


def utilization(nvml: Any, handle: Any) -> Callable[[], Any]:
    """A structure with `gpu` and `memory`, in percent."""
    return Call(nvml, "nvmlDeviceGetUtilizationRates", (handle,), plain(nvml.c_nvmlUtilization_t))


def memory_mib(nvml: Any, handle: Any) -> FirstSupported[float]:
    """Without the driver's own reservation; with it, where the driver knows the first version only."""

    asked = partial(plain(nvml.c_nvmlMemory_v2_t), version=nvml.nvmlMemory_v2)
    newer = Call(nvml, "nvmlDeviceGetMemoryInfo_v2", (handle,), asked)
    older = Call(nvml, "nvmlDeviceGetMemoryInfo", (handle,), plain(nvml.c_nvmlMemory_t))
    return FirstSupported(nvml.NVMLError, lambda: newer().used / MIB, lambda: older().used / MIB)


def clock_mhz(nvml: Any, handle: Any) -> Callable[[], float]:
    """Of the SMs."""
    call = Call(nvml, "nvmlDeviceGetClockInfo", (handle, nvml.NVML_CLOCK_SM), ctypes.c_uint)
    return lambda: float(call().value)


def throttle_reasons(nvml: Any, handle: Any) -> FirstSupported[int]:
    """NVML's bit mask."""
    newer = Call(nvml, "nvmlDeviceGetCurrentClocksEventReasons", (handle,), ctypes.c_ulonglong)
    older = Call(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", (handle,), ctypes.c_ulonglong)
    return FirstSupported(nvml.NVMLError, lambda: int(newer().value), lambda: int(older().value))


def energy_mj(nvml: Any, handle: Any) -> FirstSupported[int]:
    """Since the driver was loaded."""
    counter = Call(nvml, "nvmlDeviceGetTotalEnergyConsumption", (handle,), ctypes.c_ulonglong)
    field = field_value(nvml, handle, nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION)
    return FirstSupported(nvml.NVMLError, lambda: int(counter().value), lambda: int(field()))
