"""Which process kept the SMs of a GPU busy when: NVML's per-process utilisation, collected. It judges nobody.

A call of `nvmlDeviceGetProcessUtilization` gives one sample for each process that did something since the stamp it is
asked with, and that sample stands for all of that time. So each is kept with the span that it covers.
Under MPS everything is reported under the PID of the MPS server, so partners cannot be told apart there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from profiler import host
from profiler.energy.nvml import NvmlReadError, ProcessUtilization
from profiler.host import Anchor

MAX_SAMPLES = 400_000  # sixteen hours of two busy processes that share a GPU
MAX_DELAY_US: Final = 1_000_000
"""What the driver saw may have become visible that much later."""
CLOCK_STEP_US: Final = 50_000
MAX_HOLE_US: Final = 3_000_000
"""The driver keeps some seconds: of a longer time between two looks it may have forgotten the beginning."""


@dataclass(frozen=True, slots=True)
class Activity:
    """Mean share of the SMs that process `pid` used between `since_ns` and `t_ns` (CLOCK_MONOTONIC). A process that
    did nothing in that time has none."""

    pid: int
    since_ns: int
    t_ns: int
    sm_percent: int

    def seconds_in(self, t0_ns: int, t1_ns: int) -> float:
        """How much of [t0_ns, t1_ns] it covers."""
        return max(0, min(self.t_ns, t1_ns) - max(self.since_ns, t0_ns)) / 1e9


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


@dataclass(frozen=True)
class _Look:
    """One that was answered: when, by both clocks, and the newest stamp that had been seen by then."""

    at: Anchor
    newest_us: int = 0

    @property
    def now_ns(self) -> int:
        return self.at.monotonic_ns

    @property
    def wall_us(self) -> int:
        return self.at.utc_ns // 1000


@dataclass
class _Seen:
    """What is known of one GPU. `unknown`: times that nobody can know of, and why; `refused`: why not since when."""

    since_ns: int
    activities: deque[Activity] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))
    unknown: list[tuple[int, int, str]] = field(default_factory=list)
    last: _Look | None = None
    refused: tuple[int, str] | None = None

    def lacks(self, t0_ns: int, t1_ns: int) -> str | None:
        """Why the window is not wholly known; None where it is."""
        if self.refused is not None and t1_ns > self.refused[0]:
            return self.refused[1]
        if t0_ns < self.since_ns:
            return "activity_log_too_short"
        if len(self.activities) == MAX_SAMPLES and self.activities[0].since_ns > t0_ns:
            return "activity_log_too_short"
        return next((why for start_ns, end_ns, why in self.unknown if start_ns < t1_ns and t0_ns < end_ns), None)


class ActivityLog:
    """Collects the activities of several GPUs. Not safe for several threads. `clocks`: UTC is that of the stamps, and
    CLOCK_MONOTONIC that of everything else."""

    def __init__(self, clocks: Callable[[], Anchor] = host.anchor) -> None:
        self._clocks = clocks
        self._seen: dict[str, _Seen] = {}

    def look(self, devices: Sequence[UtilizationDevice]) -> None:
        """Take in what is new on every device."""
        for device in devices:
            now = _Look(self._clocks())
            self._look_at(device, self._seen.setdefault(device.uuid, _Seen(now.now_ns)), now)

    def _look_at(self, device: UtilizationDevice, seen: _Seen, now: _Look) -> None:
        last = seen.last
        broken = None if last is None else _broken(last, now)
        # What nobody was seen in, before the last look, is not part of what is new.
        after_us = (now.wall_us if last is None or broken else last.wall_us) - MAX_DELAY_US
        if last is not None and not broken:
            after_us = max(after_us, last.newest_us)
        try:
            found = device.process_utilization(after_us)
        except NvmlReadError as error:
            seen.refused = seen.refused or (last.now_ns if last is not None else now.now_ns, error.reason)
            return
        if seen.refused is not None:
            seen.unknown.append((seen.refused[0], now.now_ns, seen.refused[1]))
            seen.refused = None
        elif last is not None and broken is not None:
            seen.unknown.append((last.now_ns - MAX_DELAY_US * 1000, now.now_ns, broken))
        # A stamp of the future is one from before the clock was set back.
        latest_us = self._clocks().utc_ns // 1000 + CLOCK_STEP_US
        new = [sample for sample in found if sample.stamp_us <= latest_us]
        newest_us = max((sample.stamp_us for sample in new), default=0)
        for sample in new:
            # The mean of each is over the same time, whenever within it the process did its last piece of work.
            end_ns = sample.t_ns + (newest_us - sample.stamp_us) * 1000
            since_ns = end_ns - (newest_us - after_us) * 1000
            seen.activities.append(Activity(sample.pid, since_ns, end_ns, sample.sm_percent))
        known_us = 0 if last is None or broken else last.newest_us
        seen.last = replace(now, newest_us=max(newest_us, known_us))

    def between(self, gpu_uuid: str, t0_ns: int, t1_ns: int) -> ActivityWindow:
        """What happened on one GPU in [t0_ns, t1_ns]; an activity may begin before it or end after it."""
        seen = self._seen.get(gpu_uuid)
        if seen is None:
            return ActivityWindow((), "not_looked_at")
        lack = seen.lacks(t0_ns, t1_ns)
        if lack is not None:
            return ActivityWindow((), lack)
        return ActivityWindow(tuple(item for item in seen.activities if item.t_ns > t0_ns and item.since_ns < t1_ns))


def _broken(last: _Look, now: _Look) -> str | None:
    """Why what is new does not go on from the last look; None where it does."""
    if abs(now.at.utc_offset_ns - last.at.utc_offset_ns) > CLOCK_STEP_US * 1000:
        return "clock_stepped"  # stamps from before it are of another time
    return "activity_log_hole" if now.wall_us - last.wall_us > MAX_HOLE_US else None
