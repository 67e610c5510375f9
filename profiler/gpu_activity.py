"""Which process kept the SMs of a GPU busy when: NVML's per-process utilisation, collected. It judges nobody.

Under MPS everything is reported under the PID of the MPS server, so partners cannot be told apart there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from profiler.energy.nvml import NvmlReadError, ProcessUtilization

MAX_SAMPLES = 400_000  # eleven hours of two busy processes


@dataclass(frozen=True, slots=True)
class Activity:
    """Share of the SMs that process `pid` used in the driver's sample that ends at `t_ns` (CLOCK_MONOTONIC). A process
    that did nothing in a sample has none."""

    pid: int
    t_ns: int
    sm_percent: int


@dataclass(frozen=True)
class ActivityWindow:
    """The activities on one GPU within a window, oldest first; `null_reason`: why there is nothing to know."""

    activities: tuple[Activity, ...]
    null_reason: str | None = None


class UtilizationDevice(Protocol):
    """What is asked of a GPU; `NvmlDevice` is one."""

    @property
    def uuid(self) -> str: ...
    def process_utilization(self, after_us: int = 0) -> Sequence[ProcessUtilization]: ...


class ActivityLog:
    """Collects the activities of several GPUs. Not safe for several threads at a time."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[Activity]] = {}
        self._newest_us: dict[str, int] = {}
        self._refused: dict[str, str] = {}
        self._since_ns: dict[str, int] = {}

    def look(self, devices: Sequence[UtilizationDevice], now_ns: int) -> None:
        """Take in what is new on every device; the driver's own buffer spans several seconds."""
        for device in devices:
            self._since_ns.setdefault(device.uuid, now_ns)
            try:
                new = device.process_utilization(self._newest_us.get(device.uuid, 0))
            except NvmlReadError as error:
                self._refused[device.uuid] = error.reason
                continue
            self._refused.pop(device.uuid, None)
            kept = self._seen.setdefault(device.uuid, deque(maxlen=MAX_SAMPLES))
            kept.extend(Activity(sample.pid, sample.t_ns, sample.sm_percent) for sample in new)
            if new:
                self._newest_us[device.uuid] = max(sample.stamp_us for sample in new)

    def between(self, gpu_uuid: str, t0_ns: int, t1_ns: int) -> ActivityWindow:
        """What happened on one GPU in [t0_ns, t1_ns]."""
        if gpu_uuid in self._refused:
            return ActivityWindow((), self._refused[gpu_uuid])
        seen = self._seen.get(gpu_uuid)
        if seen is None:
            return ActivityWindow((), "not_looked_at")
        if t0_ns < self._since_ns[gpu_uuid] or (len(seen) == MAX_SAMPLES and seen[0].t_ns > t0_ns):
            return ActivityWindow((), "activity_log_too_short")
        return ActivityWindow(tuple(activity for activity in seen if t0_ns <= activity.t_ns <= t1_ns))
