"""What each call of a tick costs in CPU time when it is made as the sampler makes it: ten times a second, caches cold.

It calls nvidia-ml-py and /proc directly, also in ways that the profiler does not use, so that ways can be compared.
"""

from __future__ import annotations

import ctypes
import os
import random
import time
from collections.abc import Callable
from typing import Any

from tests.benchmarks.cpu_time import Cost

RATE_HZ = 10.0
BUFFER_SAMPLES = 256
ENERGY = ("counter: nvmlDeviceGetTotalEnergyConsumption", "counter: field 83", "counter: field 191")


def gpu_calls(pynvml: Any, handle: Any) -> dict[str, Callable[[], Any]]:
    """By name; a call may raise pynvml.NVMLError where the driver does not know it."""

    def field(*numbers: int) -> Callable[[], Any]:
        def call() -> Any:
            found = pynvml.nvmlDeviceGetFieldValues(handle, list(numbers))[len(numbers) - 1]
            if found.nvmlReturn:
                raise pynvml.NVMLError(found.nvmlReturn)
            return found.value.ullVal if found.valueType in (2, 3) else found.value.uiVal

        return call

    return {
        ENERGY[0]: lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle),
        ENERGY[1]: field(83),
        ENERGY[2]: field(191),
        "power: field 186": field(186),
        "power and counter: fields 186, 83": field(186, 83),
        "temperature": lambda: pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU),
        "utilisation": lambda: pynvml.nvmlDeviceGetUtilizationRates(handle),
        "memory": lambda: pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2),
        "clock": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "throttle reasons": lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
        "processes": lambda: pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle),
        "process utilisation": lambda: pynvml.nvmlDeviceGetProcessUtilization(handle, 0),
        "power buffer, two calls": lambda: pynvml.nvmlDeviceGetSamples(handle, pynvml.NVML_TOTAL_POWER_SAMPLES, 0),
        "power buffer, one call": _buffer_in_one_call(pynvml, handle),
    }


def _buffer_in_one_call(pynvml: Any, handle: Any) -> Callable[[], int]:
    samples = (pynvml.c_nvmlSample_t * BUFFER_SAMPLES)()

    def call() -> int:
        kind, count = ctypes.c_uint(), ctypes.c_uint(BUFFER_SAMPLES)
        code = pynvml.nvmlLib.nvmlDeviceGetSamples(
            handle, 0, ctypes.c_ulonglong(0), ctypes.byref(kind), ctypes.byref(count), samples
        )
        if code:
            raise pynvml.NVMLError(code)
        return count.value

    return call


def proc_calls() -> dict[str, Callable[[], Any]]:
    """Reads of /proc on descriptors that stay open, as the node's probe makes them."""
    descriptors = {name: os.open(f"/proc/{name}", os.O_RDONLY) for name in ("stat", "meminfo", "uptime")}

    def read(descriptor: int) -> Callable[[], bytes]:
        return lambda: os.pread(descriptor, 256, 0)

    return {f"/proc/{name}": read(descriptor) for name, descriptor in descriptors.items()}


def costs(calls: dict[str, Callable[[], Any]], seconds: float, errors: tuple[type[Exception], ...]) -> dict[str, Any]:
    """Each call once a tick, in a new order each time. `last`: what a number-valued call answered at the end."""
    found = {name: Cost() for name in calls}
    answers: dict[str, Any] = {}
    order, start = list(calls), time.monotonic()
    for tick in range(1, int(seconds * RATE_HZ) + 1):
        time.sleep(max(0.0, start + tick / RATE_HZ - time.monotonic()))
        random.shuffle(order)
        for name in order:
            try:
                answers[name] = found[name].of(calls[name])
            except errors as error:
                answers[name] = f"failed: {error}"
    plain = {name: answer for name, answer in answers.items() if isinstance(answer, int | str)}
    return {name: cost.told() | ({"last": plain[name]} if name in plain else {}) for name, cost in found.items()}


def measure(seconds: float, *, gpu: bool) -> dict[str, Any]:
    """Every call of this machine; those of the first GPU where `gpu`."""
    if not gpu:
        return costs(proc_calls(), seconds, (OSError,))
    import pynvml

    pynvml.nvmlInit()
    try:
        calls = proc_calls() | gpu_calls(pynvml, pynvml.nvmlDeviceGetHandleByIndex(0))
        return costs(calls, seconds, (OSError, pynvml.NVMLError))
    finally:
        pynvml.nvmlShutdown()
