"""Energy of each epoch: the run's trace cut at the moments at which the trainer said that an epoch had ended. Pure.

The parts lie end to end, from the run's start to its end, so their energies add up to the run's: `setup` (up to the
first optimiser step, where the trainer told it), each epoch, `rest` (what came after the last one).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from profiler.energy import integral
from profiler.energy.gpu_account import power_points
from profiler.energy.integral import Point
from profiler.energy.power_buffer import Piece, pieces, refine
from profiler.energy.sample import Sample

SETUP, EPOCH, REST = "setup", "epoch", "rest"
NO_GPU: Final = "no_gpu"
NO_COUNTER: Final = "no_cpu_counter_in_trace"
GAP: Final = "trace_gap"
NOT_COVERED: Final = "trace_does_not_cover_window"
# Between two readings of a counter a straight line stands for it; not over a longer hole.
MAX_COUNTER_HOLE_NS: Final = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """One stretch of a run, CLOCK_MONOTONIC ns; `epoch` counts from 1 and is None outside of the epochs."""

    part: str
    epoch: int | None
    start_ns: int
    end_ns: int
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, slots=True)
class PartEnergy:
    """What a part took: the GPU's integrated power in J and mean in W, the CPU packages' counters in J (of the node);
    None exactly where `null_reasons` has the column. `samples`: powers of the GPU inside of it."""

    part: Part
    gpu_energy_integral_j: float | None
    gpu_power_mean_w: float | None
    cpu_package_energy_j: float | None
    samples: int
    null_reasons: dict[str, str]


def cut(
    t0_ns: int, t1_ns: int, ready_ns: int | None, ends: Iterable[tuple[int, int | None, Mapping[str, float]]]
) -> list[Part]:
    """The parts of the run [t0_ns, t1_ns]. `ends`: (epoch, when it ended, its metrics) in order; an end outside of the
    run, before the one ahead of it, or without a time makes no part (its energy is in the next one)."""
    parts: list[Part] = []
    begun_ns = t0_ns
    if ready_ns is not None and t0_ns < ready_ns <= t1_ns:
        parts.append(Part(SETUP, None, t0_ns, ready_ns))
        begun_ns = ready_ns
    for epoch, end_ns, metrics in ends:
        if end_ns is not None and begun_ns < end_ns <= t1_ns:
            parts.append(Part(EPOCH, epoch, begun_ns, end_ns, metrics))
            begun_ns = end_ns
    if begun_ns < t1_ns:
        parts.append(Part(REST, None, begun_ns, t1_ns))
    return parts


def measure_parts(parts: Sequence[Part], samples: Sequence[Sample], gpu_uuid: str | None) -> list[PartEnergy]:
    """The energy of each part out of the trace, which should reach a tick beyond the run on both sides."""
    ordered = sorted(samples, key=lambda row: row.t_mono_ns)
    points, _ = power_points(row for row in ordered if row.scope == "gpu" and row.device == gpu_uuid)
    packages: dict[str, list[tuple[int, float]]] = {}
    for row in ordered:
        if row.scope == "cpu_package":
            known = packages.setdefault(row.device, [])
            if row.energy_j is not None:
                known.append((row.t_mono_ns, row.energy_j))
    buffered = pieces(ordered, gpu_uuid) if gpu_uuid else []
    return [_measure(part, points, buffered, packages, gpu_uuid) for part in parts]


def span_energy(
    start_ns: int, end_ns: int, samples: Sequence[Sample], gpu_uuids: Sequence[str]
) -> tuple[float | None, str | None]:
    """J that these GPUs took between two moments, by the power trace, or None and why."""
    found = [measure_parts([Part(EPOCH, None, start_ns, end_ns)], samples, uuid)[0] for uuid in gpu_uuids]
    known = [one.gpu_energy_integral_j for one in found if one.gpu_energy_integral_j is not None]
    if len(known) == len(found):
        return sum(known), None
    return None, next(one.null_reasons["gpu_energy_integral_j"] for one in found if one.gpu_energy_integral_j is None)


def _measure(
    part: Part,
    points: Sequence[Point],
    buffered: Sequence[Piece],
    packages: Mapping[str, Sequence[tuple[int, float]]],
    gpu_uuid: str | None,
) -> PartEnergy:
    nulls: dict[str, str] = {}
    whole = integral.integrate(points, part.start_ns, part.end_ns)
    found = refine(whole, points, buffered, part.start_ns, part.end_ns)
    if found.energy_j is None:
        reason = NO_GPU if gpu_uuid is None else found.null_reason or integral.NO_SAMPLES
        nulls |= dict.fromkeys(("gpu_energy_integral_j", "gpu_power_mean_w"), reason)
    cpu = _counted(packages, part)
    if isinstance(cpu, str):
        nulls["cpu_package_energy_j"] = cpu
    return PartEnergy(
        part,
        found.energy_j,
        None if found.energy_j is None else found.energy_j / part.duration_s,
        None if isinstance(cpu, str) else cpu,
        found.samples,
        nulls,
    )


def _counted(packages: Mapping[str, Sequence[tuple[int, float]]], part: Part) -> float | str:
    """What all packages counted within a part, in J, or why that is not known."""
    if not packages:
        return NO_COUNTER
    total_j = 0.0
    for readings in packages.values():
        first, last = _value_at(readings, part.start_ns), _value_at(readings, part.end_ns)
        if isinstance(first, str) or isinstance(last, str):
            return first if isinstance(first, str) else str(last)
        if last < first:  # another sampler took over, and counts from its own start
            return GAP
        total_j += last - first
    return total_j


def _value_at(readings: Sequence[tuple[int, float]], t_ns: int) -> float | str:
    """The counter at `t_ns`, on the line between its neighbours."""
    index = bisect_left(readings, t_ns, key=lambda reading: reading[0])
    if index < len(readings) and readings[index][0] == t_ns:
        return readings[index][1]
    if index == 0 or index == len(readings):
        return NOT_COVERED
    (before_ns, before_j), (after_ns, after_j) = readings[index - 1], readings[index]
    if after_ns - before_ns > MAX_COUNTER_HOLE_NS:
        return GAP
    return before_j + (after_j - before_j) * (t_ns - before_ns) / (after_ns - before_ns)
