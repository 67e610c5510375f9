"""Lets the node rest after a run and proves from the trace that the GPU was idle. It stops nothing itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from profiler.energy.sample import Sample
from profiler.gpu_processes import GpuPresence

POLL_S = 0.1


class CoolingTrace(Protocol):
    def window(self, t0_ns: int, t1_ns: int) -> Sequence[Sample]: ...
    def gpu_processes(self, t0_ns: int, t1_ns: int) -> Sequence[GpuPresence]: ...


@dataclass(frozen=True)
class CoolingResult:
    """`cooling_idle_proven` is None with `null_reason` where there is nothing to prove it with."""

    cooling_s: float
    cooling_idle_proven: bool | None
    null_reason: str | None


def cool(
    seconds: float,
    gpu_uuid: str | None,
    trace: CoolingTrace,
    *,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> CoolingResult:
    """Wait `seconds`, in short sleeps so that a stop gets through, and look at the trace of that time."""
    t0_ns = clock_ns()
    deadline_ns = t0_ns + round(seconds * 1e9)
    while (left_s := (deadline_ns - clock_ns()) / 1e9) > 0:
        sleep(min(left_s, POLL_S))
    t1_ns = clock_ns()
    proven, reason = _idle(gpu_uuid, trace, t0_ns, t1_ns) if seconds > 0 else (None, "no_cooling")
    return CoolingResult((t1_ns - t0_ns) / 1e9, proven, reason)


def _idle(gpu_uuid: str | None, trace: CoolingTrace, t0_ns: int, t1_ns: int) -> tuple[bool | None, str | None]:
    if gpu_uuid is None:
        return None, "no_gpu"
    # NVML's utilisation looks back up to a second: the run's own tail is not the cooling's.
    settled_ns = min(t0_ns + 2_000_000_000, t1_ns)
    samples = [s for s in trace.window(settled_ns, t1_ns) if s.device == gpu_uuid and s.util_percent is not None]
    if not samples:
        return None, "no_samples"
    processes = [p for p in trace.gpu_processes(settled_ns, t1_ns) if p.gpu_uuid == gpu_uuid]
    return not processes and all(sample.util_percent == 0 for sample in samples), None
