"""The driver's own power buffer as the source of an integral: a sample every 20 ms, fetched every two seconds.

At 10 Hz, bursts that keep step with the grid alias: what the sensor shows at the ticks is not their mean. The buffer
is five times as dense and costs a call every two seconds. Here its samples are added up to joules, and the pieces of a
window that it covers are put in place of those of the 10 Hz curve. It knows no grid (sampler) and no counter (account).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from profiler.energy import integral
from profiler.energy.counters import Clock
from profiler.energy.integral import Integral, Point
from profiler.energy.nvml_values import FOREVER_REASONS, NvmlReadError, PowerSample, PowerStamps
from profiler.energy.probes import Identity, Look
from profiler.energy.sample import Sample, Seen

if TYPE_CHECKING:
    from profiler.energy.nvml import NvmlDevice

SCOPE: Final = "gpu_power_buffer"
# Neighbours further apart than this are not joined: the buffer had lost samples in between.
MAX_STEP_NS: Final = 100_000_000
# The driver's clock was set between two fetches that differ by more: stamps from before it lie at another time, among
# those from after it or in the future.
CLOCK_SET_NS: Final = 10_000_000
GAP: Final = "buffer_gap"
BELOW_DENSITY: Final = "buffer_not_denser"
# Less dense than this the buffer tells nothing that the ticks do not.
MAX_MEAN_STEP_NS: Final = 60_000_000
ROW_EVERY: Final = 10


def device_of(uuid: str) -> str:
    """The device under which a GPU's buffer stands in the trace: beside the GPU, not among its own rows."""
    return f"{uuid} buffer"


class BufferShown(NamedTuple):
    """What the buffer held, new after `after_us`, or why it could not be fetched."""

    t_ns: int
    stamps: PowerStamps | None
    after_us: int
    null_reason: str | None = None


class BufferProbe:
    """One GPU's buffer, fetched on every `every`-th look; on the others it has no row. A row holds, at the time of a
    sample, the joules of all samples since the first one; there is one for every tenth sample, and for the newest.
    Where samples were lost, because the fetch came too late, there is a row without a figure, and one in place of all
    samples of a fetch before which the clock of their stamps was set."""

    on_grid: Final = False

    def __init__(self, gpu: NvmlDevice, every: int, turn: int = 0) -> None:
        self.identity = Identity("nvml", device_of(gpu.uuid), SCOPE)
        self._gpu = gpu
        self._every = every
        self._countdown = turn % every
        self._supported = True
        self._newest_us = 0
        self._last: tuple[int, float] | None = None
        self._offset_ns: int | None = None
        self._energy_j = 0.0

    def read(self, clock_ns: Clock) -> BufferShown | None:
        self._countdown -= 1
        if self._countdown >= 0 or not self._supported:
            return None
        self._countdown = self._every - 1
        after_us = self._newest_us
        try:
            stamps = self._gpu.power_stamps(after_us)
        except NvmlReadError as error:
            self._supported = error.reason not in FOREVER_REASONS
            return BufferShown(clock_ns(), None, after_us, error.reason)
        if stamps.stamped:
            self._newest_us = max(after_us, max(stamps.stamped)[0])
        return BufferShown(clock_ns(), stamps, after_us)

    def look(self, shown: BufferShown) -> Look | None:
        if shown.stamps is None:
            return Look(shown.t_ns, Seen(null_reason=shown.null_reason))
        before_ns, self._offset_ns = self._offset_ns, shown.stamps.offset_ns
        if before_ns is not None and abs(self._offset_ns - before_ns) > CLOCK_SET_NS:
            self._last = None
            return Look(shown.t_ns, Seen(null_reason=GAP))
        points = shown.stamps.points(shown.after_us)
        if not points:
            return None
        if self._last is not None:
            points.insert(0, self._last)
        self._last = points[-1]
        steps_ns = [b[0] - a[0] for a, b in pairwise(points)]
        if not steps_ns:
            return None
        dense_ns = [step for step in steps_ns if step <= MAX_STEP_NS]
        if not dense_ns or min(steps_ns) < 0:
            return Look(points[-1][0], Seen(null_reason=GAP))
        if sum(dense_ns) / len(dense_ns) > MAX_MEAN_STEP_NS:
            return Look(points[-1][0], Seen(null_reason=BELOW_DENSITY))
        looks: list[Look] = []
        begins = [0, *(number for number, step in enumerate(steps_ns, 1) if step > MAX_STEP_NS)]
        for begin, end in pairwise([*begins, len(points)]):
            if begin:
                t_ns = points[begin][0]
                looks.append(Look(t_ns - steps_ns[begin - 1] // 2, Seen(null_reason=GAP)))
                looks.append(Look(t_ns, Seen(self._energy_j)))
            looks += self._rows(points[begin:end])
        *earlier, newest = looks
        return Look(newest.t_ns, newest.seen, tuple(earlier))

    def _rows(self, points: Sequence[tuple[int, float]]) -> list[Look]:
        """Adds up samples of which none is lost in between."""
        if len(points) < 2:
            return []
        times_ns, powers_mw = zip(*points, strict=True)
        steps_ns = (b - a for a, b in pairwise(times_ns))
        doubled_pj = accumulate((a + b) * step for a, b, step in zip(powers_mw, powers_mw[1:], steps_ns, strict=False))
        sums_j = [self._energy_j + doubled / 2e12 for doubled in doubled_pj]
        self._energy_j = sums_j[-1]
        shown_at = [*range(ROW_EVERY, len(sums_j), ROW_EVERY), len(sums_j)]
        return [Look(times_ns[number], Seen(sums_j[number - 1])) for number in shown_at]

    def close(self) -> None:
        """Nothing to do: the GPU belongs to the sources."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Energy that the buffer knows of [start_ns, end_ns]."""

    start_ns: int
    end_ns: int
    energy_j: float


def pieces(samples: Iterable[Sample], uuid: str, newest: Sequence[PowerSample] = ()) -> list[Piece]:
    """What the trace has of a GPU's buffer, in order; not joined over a failed fetch or a sampler that began anew.

    `newest`: the buffer as it was fetched at the window's end; it goes on where the trace's last row ends."""
    name = device_of(uuid)
    rows = sorted((row for row in samples if row.device == name), key=lambda row: row.t_mono_ns)
    found = [
        Piece(a.t_mono_ns, b.t_mono_ns, b.energy_j - a.energy_j)
        for a, b in pairwise(rows)
        if a.energy_j is not None and b.energy_j is not None and b.energy_j >= a.energy_j and b.t_mono_ns > a.t_mono_ns
    ]
    from_ns = found[-1].end_ns if found else 0
    steps = [(a, b) for a, b in pairwise(newest) if a.t_ns >= from_ns]
    if not steps or sum(b.t_ns - a.t_ns for a, b in steps) / len(steps) > MAX_MEAN_STEP_NS:
        return found
    return found + [
        Piece(a.t_ns, b.t_ns, (a.power_w + b.power_w) / 2 * (b.t_ns - a.t_ns) / 1e9)
        for a, b in steps
        if 0 < b.t_ns - a.t_ns <= MAX_STEP_NS
    ]


def covered_s(known: Sequence[Piece], t0_ns: int, t1_ns: int) -> float:
    """How much of a window the pieces cover, in s."""
    return sum(max(0, min(p.end_ns, t1_ns) - max(p.start_ns, t0_ns)) for p in known) / 1e9


def refine(whole: Integral, points: Sequence[Point], known: Sequence[Piece], t0_ns: int, t1_ns: int) -> Integral:
    """The integral of a window with the buffer's pieces (in order of time) in place of the 10 Hz curve's. Without a
    buffer, or where the curve itself has no figure, `whole` as it is. A piece that an edge cuts is divided as the curve
    divides it, so the integrals of neighbouring windows add up to that of both together."""
    if not known or whole.energy_j is None:
        return whole
    energy_j = whole.energy_j
    first = bisect_right(known, t0_ns, key=lambda piece: piece.end_ns)
    last = bisect_left(known, t1_ns, key=lambda piece: piece.start_ns)
    for piece in known[first:last]:
        inside_ns = (max(piece.start_ns, t0_ns), min(piece.end_ns, t1_ns))
        curve_j = integral.integrate(points, piece.start_ns, piece.end_ns).energy_j
        here_j = integral.integrate(points, *inside_ns).energy_j
        if curve_j and here_j is not None:
            energy_j += here_j * (piece.energy_j / curve_j - 1)
    return Integral(energy_j, None, whole.samples, whole.largest_hole_s)
