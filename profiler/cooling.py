"""Lets a GPU come to rest between runs, and proves from the trace that it was idle meanwhile. It stops nothing itself.

Three ways: a fixed time (`rest`); until the GPU is as cool and as idle as before the campaign's first run
(`cool_until_idle`); and, before that first run, until it has settled (`settle`), which gives the mark to return to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean
from typing import Final, Literal, Protocol

from profiler.energy.sample import Sample
from profiler.gpu_processes import GpuPresence

POLL_S: Final = 0.1
LOOK_S: Final = 0.5  # how often the trace is asked; it moves ten times a second
# NVML's utilisation and the 1 s mean of power look back: the run's own tail is not the cooling's.
LOOK_BACK_S: Final = 2.0
HOLD_S: Final = 1.0  # idle counts when it has lasted that long
MAX_HOLE_S: Final = 2.0  # a longer hole in the trace proves nothing
# Idle power depends a little on temperature and on what the driver does by itself.
POWER_MARGIN_W: Final = 5.0
POWER_MARGIN_SHARE: Final = 0.10
SETTLED_OVER_S: Final = 10.0
SETTLED_WITHIN_C: Final = 0.5  # by which the mean of its second half may be below that of its first
SETTLED_SHARE: Final = 0.7  # of those seconds must be in the trace

NO_COOLING: Final = "no_cooling"

Ending = Literal["seconds", "idle", "max_seconds"]


@dataclass(frozen=True)
class IdleMark:
    """A GPU at rest: W and degrees C; None for what the device does not tell."""

    power_w: float | None
    temp_c: float | None


class CoolingTrace(Protocol):
    """The node's trace and sightings; times are CLOCK_MONOTONIC in ns."""

    def window(self, t0_ns: int, t1_ns: int) -> Sequence[Sample]: ...
    def gpu_processes(self, t0_ns: int, t1_ns: int) -> Sequence[GpuPresence]: ...


@dataclass(frozen=True)
class CoolingResult:
    """`cooling_end`: which condition ended it. `cooling_idle_proven`: nobody on the GPU and utilisation 0 all the time;
    None with `null_reason` where there is nothing to prove it with."""

    cooling_s: float
    cooling_end: Ending
    cooling_idle_proven: bool | None
    null_reason: str | None


@dataclass(frozen=True)
class Clocks:
    """What passes the time; tests put their own here."""

    now_ns: Callable[[], int] = time.monotonic_ns
    sleep: Callable[[float], None] = time.sleep

    def pause(self, seconds: float) -> None:
        """Sleep in short pieces: a cancelled Ray task is interrupted only between them."""
        end_ns = self.now_ns() + round(seconds * 1e9)
        while (left_s := (end_ns - self.now_ns()) / 1e9) > 0:
            self.sleep(min(left_s, POLL_S))


@dataclass(frozen=True)
class CoolingGpu:
    """One GPU as its trace shows it."""

    uuid: str
    trace: CoolingTrace
    clocks: Clocks = field(default_factory=Clocks)

    def rows(self, t0_ns: int, t1_ns: int) -> list[Sample]:
        seen = self.trace.window(t0_ns, t1_ns)
        return [row for row in seen if row.device == self.uuid and t0_ns <= row.t_mono_ns <= t1_ns and not row.missed]

    def company(self, t0_ns: int, t1_ns: int) -> list[GpuPresence]:
        return [seen for seen in self.trace.gpu_processes(t0_ns, t1_ns) if seen.gpu_uuid == self.uuid]


def rest(seconds: float, gpu_uuid: str | None, trace: CoolingTrace, clocks: Clocks | None = None) -> CoolingResult:
    """Wait `seconds` and look at the trace of that time."""
    clocks = clocks or Clocks()
    t0_ns = clocks.now_ns()
    clocks.pause(seconds)
    t1_ns = clocks.now_ns()
    if seconds <= 0 or gpu_uuid is None:
        return CoolingResult((t1_ns - t0_ns) / 1e9, "seconds", None, NO_COOLING if seconds <= 0 else "no_gpu")
    proven, reason = idle_proof(CoolingGpu(gpu_uuid, trace, clocks), t0_ns, t1_ns)
    return CoolingResult((t1_ns - t0_ns) / 1e9, "seconds", proven, reason)


def cool_until_idle(gpu: CoolingGpu, mark: IdleMark, margin_c: float, max_seconds: float) -> CoolingResult:
    """Wait until `gpu` has been at `mark` for a second: utilisation 0, power near the mark's, temperature at most
    `margin_c` above it; for at most `max_seconds`."""
    t0_ns = gpu.clocks.now_ns()
    deadline_ns = t0_ns + round(max_seconds * 1e9)
    end: Ending = "max_seconds"
    gpu.clocks.pause(min(LOOK_BACK_S + HOLD_S, max_seconds))
    while (now_ns := gpu.clocks.now_ns()) < deadline_ns:
        if is_at_mark(gpu.rows(now_ns - round(HOLD_S * 1e9), now_ns), mark, margin_c):
            end = "idle"
            break
        gpu.clocks.pause(min(LOOK_S, (deadline_ns - now_ns) / 1e9))
    t1_ns = gpu.clocks.now_ns()
    return CoolingResult((t1_ns - t0_ns) / 1e9, end, *idle_proof(gpu, t0_ns, t1_ns))


def is_at_mark(rows: Sequence[Sample], mark: IdleMark, margin_c: float) -> bool:
    """Whether every one of `rows` (at least one) is as idle as the mark. What a device never tells is not asked."""
    return bool(rows) and all(
        row.util_percent in (0, None)
        and _at_most(row.power_w, _power_limit_w(mark))
        and _at_most(row.temp_c, None if mark.temp_c is None else mark.temp_c + margin_c)
        for row in rows
    )


def settle(gpu: CoolingGpu, max_seconds: float) -> IdleMark:
    """Before the first run: wait until the temperature has stopped falling and nothing works, for at most
    `max_seconds`; return the mark that later coolings come back to. A GPU that was watched at rest for the last ten
    seconds takes no time."""
    deadline_ns = gpu.clocks.now_ns() + round(max_seconds * 1e9)
    while (now_ns := gpu.clocks.now_ns()) < deadline_ns:
        if _settled(gpu.rows(now_ns - round(SETTLED_OVER_S * 1e9), now_ns)):
            break
        gpu.clocks.pause(min(LOOK_S, (deadline_ns - now_ns) / 1e9))
    now_ns = gpu.clocks.now_ns()
    rows = gpu.rows(now_ns - round(LOOK_BACK_S * 1e9), now_ns)
    return IdleMark(_mean([row.power_w for row in rows]), _mean([row.temp_c for row in rows]))


def _settled(rows: Sequence[Sample]) -> bool:
    if not rows or (rows[-1].t_mono_ns - rows[0].t_mono_ns) / 1e9 < SETTLED_SHARE * SETTLED_OVER_S:
        return False
    before, after = (_mean([row.temp_c for row in half]) for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]))
    falls = before is not None and after is not None and before - after > SETTLED_WITHIN_C
    return not falls and not any(row.util_percent for row in rows)


def _power_limit_w(mark: IdleMark) -> float | None:
    if mark.power_w is None:
        return None
    return mark.power_w + max(POWER_MARGIN_W, POWER_MARGIN_SHARE * mark.power_w)


def _at_most(value: float | None, limit: float | None) -> bool:
    return limit is None or (value is not None and value <= limit)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def idle_proof(gpu: CoolingGpu, t0_ns: int, t1_ns: int) -> tuple[bool | None, str | None]:
    """Was the GPU idle in [t0_ns, t1_ns]? None with the reason where the trace cannot tell."""
    settled_ns = min(t0_ns + round(LOOK_BACK_S * 1e9), t1_ns)
    rows = [row for row in gpu.rows(settled_ns, t1_ns) if row.util_percent is not None]
    if not rows:
        return None, "no_samples"
    if gpu.company(settled_ns, t1_ns) or any(row.util_percent for row in rows):
        return False, None
    times = [settled_ns, *(row.t_mono_ns for row in rows), t1_ns]
    longest_s = max(after - before for before, after in pairwise(times)) / 1e9
    return (None, "trace_gap") if longest_s > MAX_HOLE_S else (True, None)
