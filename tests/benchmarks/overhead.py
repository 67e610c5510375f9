"""What a tool uses while it measures a machine that rests: CPU time and wake-ups of all its processes."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.benchmarks.cpu_time import tree_use
from tests.benchmarks.side import Side

SETTLE_S = 0.5  # what a tool does when it begins is no part of measuring


@dataclass(frozen=True)
class Overhead:
    """CPU in percent of a core; all figures None where there is an `error`."""

    tool: str
    rate_hz: float
    gpus: int
    seconds: float
    cpu_percent: float | None = None
    wake_ups_per_s: float | None = None
    processes: int | None = None
    error: str | None = None


def overhead(side: Side, rate_hz: float, gpus: int, seconds: float) -> Overhead:
    side.on(rate_hz, gpus)
    if side.error is not None:
        return Overhead(side.tool.label, rate_hz, gpus, seconds, error=side.error)
    time.sleep(SETTLE_S)
    began, before = time.monotonic(), tree_use(side.pid)
    time.sleep(seconds)
    after, lasted_s = tree_use(side.pid), time.monotonic() - began
    side.off()
    return Overhead(
        side.tool.label,
        rate_hz,
        gpus,
        seconds,
        cpu_percent=100 * (after.cpu_s - before.cpu_s) / lasted_s,
        wake_ups_per_s=(after.wake_ups - before.wake_ups) / lasted_s,
        processes=after.processes,
    )
