"""The second path to a joule: power over real timestamps, integrated by trapezoids and cut at the window's edges.

It knows no device; it refuses to bridge a hole in the trace that is too large to be called measured.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

# A hole up to this long is bridged by a straight line; a longer one, or more than this share of the window, is not.
MAX_HOLE_S: Final = 1.0
MAX_HOLE_SHARE: Final = 0.05
# How far the first or last sample's power may be held to reach the edge of the window.
MAX_EDGE_S: Final = 0.5

NO_SAMPLES: Final = "no_power_samples"
HOLE: Final = "trace_gap"
NOT_COVERED: Final = "trace_does_not_cover_window"


@dataclass(frozen=True, slots=True)
class Point:
    """Power in W at CLOCK_MONOTONIC `t_ns`."""

    t_ns: int
    power_w: float


@dataclass(frozen=True, slots=True)
class Integral:
    """`energy_j` of the window, or None with `null_reason`. `samples` lie inside the window; `largest_hole_s` is the
    longest time between two neighbours, and `hole_ns` its start and end (CLOCK_MONOTONIC)."""

    energy_j: float | None
    null_reason: str | None
    samples: int
    largest_hole_s: float
    hole_ns: tuple[int, int] = (0, 0)


def integrate(points: Sequence[Point], t0_ns: int, t1_ns: int) -> Integral:
    """Energy in J between `t0_ns` and `t1_ns` of `points` (in order of time; those around the edges are used too)."""
    inside = max(0, bisect_right(points, t1_ns, key=_time) - bisect_left(points, t0_ns, key=_time))
    curve = _cut(points, t0_ns, t1_ns)
    if curve is None:
        return Integral(None, NO_SAMPLES if not points else NOT_COVERED, inside, 0.0)
    pairs = ((a.t_ns, b.t_ns) for a, b in pairwise(_around(points, t0_ns, t1_ns)))
    hole_ns = max(pairs, key=lambda pair: pair[1] - pair[0], default=(t0_ns, t0_ns))
    hole_s = (hole_ns[1] - hole_ns[0]) / 1e9
    if hole_s > max(MAX_HOLE_S, MAX_HOLE_SHARE * (t1_ns - t0_ns) / 1e9):
        return Integral(None, HOLE, inside, hole_s, hole_ns)
    energy_j = sum((a.power_w + b.power_w) / 2 * (b.t_ns - a.t_ns) for a, b in pairwise(curve)) / 1e9
    return Integral(energy_j, None, inside, hole_s, hole_ns)


def unsure_j(points: Sequence[Point], t0_ns: int, t1_ns: int) -> dict[str, float]:
    """The +- of an integral by cause, in J (95 of 100): `edges`, where the curve is cut between two samples, and
    `sampling`, what the power does between them, judged by how far neighbours lie apart. Bursts that keep step with the
    samples (aliasing) are not in it: only the counter shows those."""
    curve = _around(points, t0_ns, t1_ns)
    if len(curve) < 2:
        return {}
    seconds = (curve[-1].t_ns - curve[0].t_ns) / 1e9 / (len(curve) - 1)
    spread_w = math.sqrt(sum((b.power_w - a.power_w) ** 2 for a, b in pairwise(curve)) / (2 * (len(curve) - 1)))
    at_an_edge_w = (abs(curve[1].power_w - curve[0].power_w), abs(curve[-1].power_w - curve[-2].power_w))
    return {
        "edges": 2 * math.hypot(*at_an_edge_w) * seconds / math.sqrt(12),
        "sampling": 2 * spread_w * seconds * math.sqrt(len(curve)) / math.sqrt(12),
    }


def _around(points: Sequence[Point], t0_ns: int, t1_ns: int) -> Sequence[Point]:
    """The points inside, and one more on each side."""
    return points[max(0, bisect_right(points, t0_ns, key=_time) - 1) : bisect_left(points, t1_ns, key=_time) + 1]


def _cut(points: Sequence[Point], t0_ns: int, t1_ns: int) -> list[Point] | None:
    """The curve from edge to edge, or None when no sample is near one of the edges."""
    if not points or t1_ns <= t0_ns:
        return None
    first, last = power_at(points, t0_ns), power_at(points, t1_ns)
    if first is None or last is None:
        return None
    inside = points[bisect_right(points, t0_ns, key=_time) : bisect_left(points, t1_ns, key=_time)]
    return [Point(t0_ns, first), *inside, Point(t1_ns, last)]


def power_at(points: Sequence[Point], t_ns: int) -> float | None:
    """Power at `t_ns`: on the line between its neighbours, or the nearest sample's when one side is missing."""
    index = bisect_left(points, t_ns, key=_time)
    before = points[index - 1] if index > 0 else None
    after = points[index] if index < len(points) else None
    if before is not None and after is not None:
        share = (t_ns - before.t_ns) / (after.t_ns - before.t_ns)
        return before.power_w + share * (after.power_w - before.power_w)
    nearest = before or after
    if nearest is None or abs(nearest.t_ns - t_ns) > MAX_EDGE_S * 1e9:
        return None
    return nearest.power_w


def _time(point: Point) -> int:
    return point.t_ns
