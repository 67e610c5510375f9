"""Opens NVML through nvidia-ml-py and lists the GPUs, or says what is missing and what would fix it.

A value that cannot be read is None with its reason: `NvmlDevice.read` and the energy counter never raise, whatever
happens to the GPU. The reading itself is in nvml_device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from profiler.energy.counters import Unavailable
from profiler.energy.nvml_device import NvmlDevice, text
from profiler.energy.nvml_values import (
    FIXES,
    GPU_LOST,
    GpuProcess,
    GpuReading,
    NvmlReadError,
    PowerSample,
    ProcessUtilization,
    reason_of,
)
from profiler.energy.throttle import describe_throttle_reasons, is_throttled

__all__ = [
    "GPU_LOST",
    "GpuProcess",
    "GpuReading",
    "Nvml",
    "NvmlDevice",
    "NvmlReadError",
    "PowerSample",
    "ProcessUtilization",
    "describe_throttle_reasons",
    "is_throttled",
    "open_nvml",
]


class Nvml:
    """The open library and its GPUs; `unavailable` names what of them cannot be measured. Close it, or use `with`."""

    def __init__(
        self, nvml: Any, devices: Sequence[NvmlDevice], unavailable: Sequence[Unavailable], driver_version: str | None
    ) -> None:
        self._nvml = nvml
        self._open = True
        self.devices = tuple(devices)
        self.unavailable = tuple(unavailable)
        self.driver_version = driver_version

    def close(self) -> None:
        """Gives the library back; safe to call twice."""
        if self._open:
            self._open = False
            _shutdown(self._nvml)

    def __enter__(self) -> Nvml:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_nvml() -> Nvml | Unavailable:
    """Opens NVML and every GPU it lets this process see, or says why there is none."""
    try:
        import pynvml
    except ImportError:
        return Unavailable("nvml", "nvidia_ml_py_missing", "pip install nvidia-ml-py", scope="gpu", source="nvml")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return _unavailable("nvml", error.value)
    try:
        opened = _open_devices(pynvml)
    except pynvml.NVMLError as error:
        _shutdown(pynvml)
        return _unavailable("nvml", error.value)
    if isinstance(opened, Unavailable):
        _shutdown(pynvml)
    return opened


def _open_devices(pynvml: Any) -> Nvml | Unavailable:
    devices: list[NvmlDevice] = []
    unavailable: list[Unavailable] = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            device = NvmlDevice(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index), index)
        except pynvml.NVMLError as error:
            unavailable.append(_unavailable(f"gpu-{index}", error.value))
            continue
        devices.append(device)
        if device.mig_enabled:
            unavailable.append(_mig_instances(device))
    if not devices:
        none = Unavailable("nvml", "no_device", "the driver shows no GPU to this process", scope="gpu", source="nvml")
        return unavailable[0] if unavailable else none
    return Nvml(pynvml, devices, unavailable, _driver_version(pynvml))


def _mig_instances(device: NvmlDevice) -> Unavailable:
    fix = f"`sudo nvidia-smi -i {device.index} -mig 0` for figures per job; now they are of the whole board"
    name = f"gpu-{device.index} MIG instances ({device.uuid})"
    return Unavailable(name, "mig_instances_not_measured", fix, scope="gpu", source="nvml")


def _driver_version(pynvml: Any) -> str | None:
    try:
        return text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


def _shutdown(pynvml: Any) -> None:
    try:
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        pass  # somebody else in this process closed it first


def _unavailable(name: str, code: int) -> Unavailable:
    reason = reason_of(code)
    fix = FIXES.get(reason, "`nvidia-smi` shows what the driver itself says")
    return Unavailable(name, reason, fix, scope="gpu", source="nvml")
