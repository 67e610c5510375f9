"""The GPUs of one run before and after its training: the gate's checks, idle power, the mark, cooling.

It trains nothing. Most runs have one GPU; one on several has them checked, settled and cooled one after the other, and
their idle power is the sum.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

from profiler.config import Cooling
from profiler.cooling import (
    NO_COOLING,
    CoolingGpu,
    CoolingResult,
    CoolingTrace,
    Ending,
    IdleMark,
    cool_until_idle,
    idle_proof,
    rest,
    settle,
)
from profiler.energy.idle import IdlePower, idle_power, together
from profiler.energy.sources import Sources
from profiler.gate import Check, check_gpu, check_sources
from profiler.record import NodeFacts

# How long to wait, and how far to look back, until a time is found in which the GPU was idle: utilisation looks back
# itself, so that right after another run the first of them may show that one's tail, or the trace has only just begun.
IDLE_LOOKS = ((0.0, 3.0), (0.0, 1.5), (1.5, 1.5), (1.5, 1.5))


class GpuLimits(Protocol):
    """What the gate asks of GPUs; see `profiler.attempt.GateLimits`."""

    @property
    def memory_margin_mib(self) -> float: ...
    @property
    def temperature_c(self) -> float | None: ...
    @property
    def idle_memory_mib(self) -> Mapping[str, float]: ...
    @property
    def counters(self) -> Sequence[str]: ...
    @property
    def gpu_counters(self) -> Mapping[str, str]: ...


class MarkedTrace(CoolingTrace, Protocol):
    """A trace that keeps what GPUs were like before their first run."""

    def idle_mark(self, gpu_uuid: str) -> IdleMark | None: ...
    def keep_idle_mark(self, gpu_uuid: str, mark: IdleMark) -> None: ...


def gpu_checks(limits: GpuLimits, node: NodeFacts, sources: Sources) -> list[Check]:
    """Energy counters alive, and each GPU of the run free. Nothing of ours may be on them yet."""
    uuids = node.gpu_uuids
    expected = [*limits.counters, *(limits.gpu_counters[uuid] for uuid in uuids if uuid in limits.gpu_counters)]
    of_device = {name: uuid for uuid, name in limits.gpu_counters.items()}
    checks: list[Check] = [lambda: check_sources(sources.boundary(uuids).readings, expected, of_device)]

    def check(device: Any) -> Check:
        idle_mib = limits.idle_memory_mib.get(device.uuid)
        return lambda: check_gpu(device, (), idle_mib, limits.memory_margin_mib, limits.temperature_c)

    return checks + [check(device) for device in sources.gpus if device.uuid in uuids]


def idle_marks(cooling: Cooling, node: NodeFacts, trace: MarkedTrace) -> Generator[float, None, Mapping[str, IdleMark]]:
    """What each GPU was like before the campaign's first run on it, found out now where this is the first (then the
    seconds that it may take are yielded before); empty where nothing is to come back to it."""
    marks: dict[str, IdleMark] = {}
    if cooling.until is None:
        return marks
    for uuid in node.gpu_uuids:
        mark = trace.idle_mark(uuid)
        if mark is None:
            yield cooling.max_seconds
            mark = settle(CoolingGpu(uuid, trace), cooling.max_seconds)
            trace.keep_idle_mark(uuid, mark)
        marks[uuid] = mark
    return marks


def idle_power_of(node: NodeFacts, trace: CoolingTrace) -> IdlePower:
    """The power of this run's GPUs right now, while nothing runs on them: their sum, unknown as soon as one is."""
    found = [_idle_power(uuid, trace) for uuid in node.gpu_uuids]
    return together(found) if found else IdlePower.unknown("no_gpu")


def _idle_power(uuid: str, trace: CoolingTrace) -> IdlePower:
    gpu = CoolingGpu(uuid, trace)
    for pause_s, look_s in IDLE_LOOKS:
        gpu.clocks.pause(pause_s)
        now_ns = time.monotonic_ns()
        since_ns = now_ns - round(look_s * 1e9)
        found = idle_power(gpu.rows(since_ns, now_ns), since_ns, now_ns)
        if found.power_w is not None:
            break
    return found


def cool(cooling: Cooling, node: NodeFacts, trace: CoolingTrace, marks: Mapping[str, IdleMark]) -> CoolingResult:
    """Rest as the config says; of several GPUs until the last one is idle, all within one `max_seconds`, and each of
    them must have been idle over all of it."""
    t0_ns = time.monotonic_ns()
    result = _cooled_by_marks(cooling, trace, marks) if marks else rest(cooling.seconds or 0.0, node.gpu_uuid, trace)
    if len(node.gpu_uuids) < 2 or result.null_reason == NO_COOLING:
        return result
    t1_ns = time.monotonic_ns()
    proofs = [idle_proof(CoolingGpu(uuid, trace), t0_ns, t1_ns) for uuid in node.gpu_uuids]
    worst = next(proof for wanted in (False, None, True) for proof in proofs if proof[0] is wanted)
    return CoolingResult(result.cooling_s, result.cooling_end, *worst)


def _cooled_by_marks(cooling: Cooling, trace: CoolingTrace, marks: Mapping[str, IdleMark]) -> CoolingResult:
    """One GPU after the other; with the proof of the last one only."""
    results: list[CoolingResult] = []
    for uuid, mark in marks.items():
        left_s = max(0.0, cooling.max_seconds - sum(result.cooling_s for result in results))
        results.append(cool_until_idle(CoolingGpu(uuid, trace), mark, cooling.temperature_margin_c, left_s))
    end: Ending = "max_seconds" if any(result.cooling_end == "max_seconds" for result in results) else "idle"
    seconds = sum(result.cooling_s for result in results)
    return CoolingResult(seconds, end, results[-1].cooling_idle_proven, results[-1].null_reason)
