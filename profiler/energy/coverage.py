"""How well the trace covers a window: ticks of the grid, ticks missed, longest hole. Only arithmetic on node rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from profiler.energy.sample import NODE, Sample


@dataclass(frozen=True, slots=True)
class Coverage:
    """`samples`: ticks of the grid that were due in the window; `missed`: those of them without a reading."""

    samples: int
    missed: int
    hole_ns: tuple[int, int]
    """Start and end of the longest time without a reading (CLOCK_MONOTONIC)."""

    @property
    def longest_hole_s(self) -> float:
        return (self.hole_ns[1] - self.hole_ns[0]) / 1e9


def cover(samples: Iterable[Sample], t0_ns: int, t1_ns: int) -> Coverage:
    """Counts the ticks due in [t0_ns, t1_ns). Where no sampler ran (it was killed, or not there yet) ticks count as
    missed too, at the grid's own pace. Without any node row everything is 0 and the hole is the whole window."""
    rows = sorted((row for row in samples if row.source == NODE), key=_due_ns)
    period_ns = _period_ns(rows)
    inside = [row for row in rows if t0_ns <= _due_ns(row) < t1_ns]
    read = [row.t_mono_ns for row in inside if not row.missed]
    hole_ns = max(pairwise([t0_ns, *sorted(read), max(t1_ns, *read, t0_ns)]), key=lambda pair: pair[1] - pair[0])
    if not inside:
        lost = int((t1_ns - t0_ns) // period_ns) if period_ns else 0
        return Coverage(lost, lost, hole_ns)
    absent = sum(_absent(a, b, period_ns) for a, b in pairwise(inside))
    if period_ns:
        absent += int((_due_ns(inside[0]) - t0_ns) // period_ns) + int((t1_ns - 1 - _due_ns(inside[-1])) // period_ns)
    thinned = _thinned(inside)
    missed = sum(1 for row in inside if row.missed)
    return Coverage(len(inside) + absent + thinned, missed + absent, hole_ns)


def _due_ns(row: Sample) -> int:
    return row.t_mono_ns if row.missed else row.t_mono_ns - row.lateness_ns


def _period_ns(rows: Sequence[Sample]) -> float:
    """The time of one tick, 0.0 when fewer than two rows tell."""
    spans = [(_due_ns(b) - _due_ns(a)) / (b.tick - a.tick) for a, b in pairwise(rows) if b.tick > a.tick]
    return median(spans) if spans else 0.0


def _absent(a: Sample, b: Sample, period_ns: float) -> int:
    """Ticks between two rows of different samplers (the numbers start again), which no row stands for."""
    if b.tick > a.tick or not period_ns:
        return 0
    return max(0, round((_due_ns(b) - _due_ns(a)) / period_ns) - 1)


def _thinned(inside: Sequence[Sample]) -> int:
    """Ticks that were read but whose rows were thinned out of a long held trace: numbers left out without a row."""
    return sum(b.tick - a.tick - 1 for a, b in pairwise(inside) if b.tick > a.tick)
