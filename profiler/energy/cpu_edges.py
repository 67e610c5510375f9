"""The edges of a window over CPU counters: from the boundary reads to the run's own start and end.

Outside of the run the node draws another power than inside, so the time between a read and its edge is taken off with
the power of the time outside: that of the last trace reading before the start, of the first one after the end. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from profiler.energy import perf
from profiler.energy.counted import trace_readings
from profiler.energy.counters import CounterEnergy, CounterInfo, Reading, accumulate
from profiler.energy.edges import SECOND, TWO_SIGMA, UNIFORM_SIGMA
from profiler.energy.figures import Window

# Of how long ago a reading may still tell the power at an edge.
NEAR_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class AtEdges:
    """`energy_j` from the run's start to its end; `parts_j`: what its +- is made of (half widths, 95 of 100), by
    cause; `outside_s`: how long before the start and after the end the counters were read."""

    energy_j: float
    parts_j: dict[str, float]
    outside_s: tuple[float, float]

    @property
    def half_width_j(self) -> float:
        return math.sqrt(sum(part**2 for part in self.parts_j.values()))


def to_the_edges(window: Window, ledgers: Sequence[tuple[CounterInfo, CounterEnergy]]) -> AtEdges:
    """The energy of several counters together, from their boundary reads moved to the edges of the window."""
    energy_j = 0.0
    parts_j: dict[str, float] = {"start": 0.0, "end": 0.0, "resolution": 0.0}
    outside_ns = [0, 0]
    for info, result in ledgers:
        first, last = window.start.readings[info.name], window.end.readings[info.name]
        counted_j = result.joules or 0.0
        inside_w = counted_j / window.between_s(info.name)
        trace = trace_readings(info, window.samples)
        for place, (name, gap_ns, power_w) in enumerate(
            (
                ("start", window.t0_ns - first.t_ns, _power_before(info, trace, first)),
                ("end", last.t_ns - window.t1_ns, _power_after(info, trace, last)),
            )
        ):
            outside_ns[place] = max(outside_ns[place], gap_ns)
            taken_w = inside_w if power_w is None else power_w
            counted_j -= taken_w * gap_ns / SECOND
            # Somewhere in the gap the load began (or went): its power is that of one side or of the other.
            unsure_w = inside_w if power_w is None else abs(inside_w - taken_w)
            parts_j[name] += TWO_SIGMA * UNIFORM_SIGMA * unsure_w * abs(gap_ns) / SECOND
        energy_j += counted_j
        # At both ends the counter is behind by up to one update.
        parts_j["resolution"] += TWO_SIGMA * UNIFORM_SIGMA * math.sqrt(2) * inside_w * info.period_s
    return AtEdges(energy_j, parts_j, (outside_ns[0] / SECOND, outside_ns[1] / SECOND))


def _power_before(info: CounterInfo, trace: Sequence[Reading], edge: Reading) -> float | None:
    """Power in W right before a boundary read: since the last trace reading, or between the last two of them."""
    earlier = [r for r in trace if r.units is not None and edge.t_ns - NEAR_NS <= r.t_ns < edge.t_ns]
    return _slope(info, earlier if info.source == perf.SOURCE else [*earlier, edge], newest=True)


def _power_after(info: CounterInfo, trace: Sequence[Reading], edge: Reading) -> float | None:
    later = [r for r in trace if r.units is not None and edge.t_ns < r.t_ns <= edge.t_ns + NEAR_NS]
    return _slope(info, later if info.source == perf.SOURCE else [edge, *later], newest=False)


def _slope(info: CounterInfo, readings: Iterable[Reading], *, newest: bool) -> float | None:
    """Power between two neighbours at least ten updates apart, the newest or the oldest such pair; None without one."""
    pairs = list(pairwise(readings))
    for before, after in reversed(pairs) if newest else pairs:
        seconds = (after.t_ns - before.t_ns) / SECOND
        joules = accumulate(info, [before, after]).joules
        if joules is not None and seconds >= 10 * info.period_s:
            return joules / seconds
    return None
