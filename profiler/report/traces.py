"""The power trace of one run with everything that happened around it, small enough to be drawn. It draws nothing.

Times are in seconds since the trainer's start. A trace is reduced to an envelope: for each piece of time the lowest and
the highest reading and the mean, so that no peak disappears; where nothing was read, the envelope has a hole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from profiler.events import TrainerEvents, read_events
from profiler.report.groups import ENERGIES, gather, state_of
from profiler.store.layout import SampleSpan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from profiler.store.read import Session

Row = Mapping[str, Any]
Numbers: TypeAlias = "NDArray[np.float64]"

MAX_TRACES = 60
PIECES = 240
MAX_MARKS = 200
HOLE_S = 1.0
COLUMNS = ("t_mono_ns", "tick", "scope", "device", "power_w")
_CONTEXT_SHARE, _CONTEXT_S = 0.25, 5.0
_SERIES = (("gpu", "GPU board"), ("cpu_package", "CPU packages"), ("dram", "DRAM"))


@dataclass(frozen=True)
class Piece:
    """Power in W in one piece of time around `t_s`: lowest and highest reading, mean. `follows`: no hole before it."""

    t_s: float
    low_w: float
    mean_w: float
    high_w: float
    follows: bool


@dataclass(frozen=True)
class Series:
    """One device's power; `readings` are all that were reduced to `pieces`."""

    scope: str
    label: str
    readings: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Mark:
    """Something that happened at one moment."""

    t_s: float
    kind: str
    text: str


@dataclass(frozen=True)
class Stretch:
    """Something that lasted: a step of the attempt, or the background."""

    start_s: float
    end_s: float
    kind: str
    text: str


@dataclass(frozen=True)
class Trace:
    """What is drawn of one run. `duration_s` is its window, `boundaries_s` when the counters were read. `missing` says
    why there is no series, None where there is one."""

    row: Row
    state: str
    duration_s: float
    boundaries_s: tuple[float, float] | None
    series: tuple[Series, ...]
    marks: tuple[Mark, ...]
    stretches: tuple[Stretch, ...]
    unshown_marks: int
    missing: str | None


def chosen_rows(rows: Sequence[Row], wanted: Sequence[str], limit: int = MAX_TRACES) -> list[Row]:
    """The runs whose traces are shown, in plan order: all that were wanted, and up to `limit` in all. Where there are
    more, each model, mode and state has its turn, safe runs last, so that every kind of run is seen."""
    traced = [row for row in rows if row["window_start_ns"] is not None]
    first = [row for row in traced if row["run_id"] in wanted or row["experiment_id"] in wanted]
    names = {row["run_id"] for row in first}
    by_kind = gather(traced, lambda row: (row["repo"], row["model"], row["mode"], state_of(row))).values()
    kinds = sorted(by_kind, key=lambda kind: state_of(kind[0]) == "safe")
    turns = (row for turn in zip_longest(*kinds) for row in turn if row is not None and row["run_id"] not in names)
    names |= {row["run_id"] for row in islice(turns, max(0, limit - len(first)))}
    return [row for row in traced if row["run_id"] in names]


def read_trace(session: Session, row: Row) -> Trace:
    """The trace of the attempt that `row` describes, with a little of what was before and after its window."""
    start_ns, end_ns = row["window_start_ns"], row["window_end_ns"]
    clock = _Clock.of(row)
    stretches = _stretches(row, clock)
    from_ns, to_ns = _shown_span(start_ns, end_ns, stretches)
    table = session.samples_between(row["node_id"], SampleSpan(row["boot_id"], from_ns, to_ns), COLUMNS)
    series = _series(table, start_ns, row["gpu_uuid"])
    marks = _marks(read_events(session.folder.events(row["experiment_id"])), start_ns, from_ns, to_ns)
    return Trace(
        row=row,
        state=state_of(row),
        duration_s=(end_ns - start_ns) / 1e9,
        boundaries_s=_boundaries(row),
        series=series,
        marks=tuple(marks[:MAX_MARKS]),
        stretches=tuple(
            _within(stretch, (from_ns - start_ns) / 1e9, (to_ns - start_ns) / 1e9) for stretch in stretches
        ),
        unshown_marks=max(0, len(marks) - MAX_MARKS),
        missing=None if series else _why_missing(row),
    )


@dataclass(frozen=True)
class _Clock:
    """Turns wall clock into seconds since the trainer's start, by the anchor of the row."""

    start_ns: int
    offset_ns: int | None

    @classmethod
    def of(cls, row: Row) -> _Clock:
        utc_ns, mono_ns = row["utc_anchor_ns"], row["mono_anchor_ns"]
        return cls(row["window_start_ns"], None if None in (utc_ns, mono_ns) else utc_ns - mono_ns)

    def seconds(self, moment: datetime | None) -> float | None:
        if moment is None or self.offset_ns is None:
            return None
        return (round(moment.timestamp() * 1e6) * 1000 - self.offset_ns - self.start_ns) / 1e9


def _stretches(row: Row, clock: _Clock) -> list[Stretch]:
    found = []
    for name, moment in (row["steps_at"] or {}).items():
        begun, took = clock.seconds(moment), (row["steps"] or {}).get(name)
        if begun is not None and took is not None:
            found.append(Stretch(begun, begun + took, "step", name))
    begun, ended = clock.seconds(row["background_started_at"]), clock.seconds(row["background_ended_at"])
    if begun is not None and ended is not None:
        found.append(Stretch(begun, ended, "background", f"{row['background_repo']} / {row['background_model']}"))
    return sorted(found, key=lambda stretch: stretch.start_s)


def _shown_span(start_ns: int, end_ns: int, stretches: Sequence[Stretch]) -> tuple[int, int]:
    """The window with what the attempt did before and after it, but not so much that the window gets small."""
    most_ns = max(int(_CONTEXT_SHARE * (end_ns - start_ns)), int(_CONTEXT_S * 1e9))
    begin_s = min((stretch.start_s for stretch in stretches), default=0.0)
    end_s = max((stretch.end_s for stretch in stretches), default=0.0)
    before_ns = min(most_ns, max(0, int(-begin_s * 1e9)))
    after_ns = min(most_ns, max(0, start_ns + int(end_s * 1e9) - end_ns))
    return start_ns - before_ns, end_ns + after_ns


def _within(stretch: Stretch, from_s: float, to_s: float) -> Stretch:
    return replace(
        stretch, start_s=min(max(stretch.start_s, from_s), to_s), end_s=max(min(stretch.end_s, to_s), from_s)
    )


def _boundaries(row: Row) -> tuple[float, float] | None:
    start_ns, end_ns = row["boundary_start_ns"], row["boundary_end_ns"]
    if None in (start_ns, end_ns):
        return None
    return (start_ns - row["window_start_ns"]) / 1e9, (end_ns - row["window_start_ns"]) / 1e9


def _marks(events: TrainerEvents, start_ns: int, from_ns: int, to_ns: int) -> list[Mark]:
    """What the trainer said, as far as it lies in the shown span: another attempt's events do not."""
    found = [(events.ready_t_ns, "ready", "first optimiser step done")]
    found += [(epoch.t_ns, "epoch", f"epoch {epoch.epoch} done") for epoch in events.epochs]
    found += [(events.done.t_ns, "done", "trainer says it is done")] if events.done else []
    shown = [(t_ns, kind, text) for t_ns, kind, text in found if t_ns is not None and from_ns <= t_ns <= to_ns]
    return [Mark((t_ns - start_ns) / 1e9, kind, text) for t_ns, kind, text in sorted(shown)]


def _why_missing(row: Row) -> str:
    reasons = row["null_reasons"] or {}
    parts = [f"{label}: {reasons[column]}" for column, label in ENERGIES if column in reasons]
    return "no power was read" + (f" ({', '.join(parts)})" if parts else " in this window")


def _series(table: pa.Table, start_ns: int, gpu_uuid: str | None) -> tuple[Series, ...]:
    read = table.filter(pc.is_valid(table["power_w"]))
    found = []
    for scope, label in _SERIES:
        rows = read.filter(pc.equal(read["scope"], scope))
        if scope == "gpu":
            rows = rows.filter(pc.equal(rows["device"], gpu_uuid or ""))
        if rows.num_rows:
            t_s, power_w = _sum_of_devices(rows, start_ns)
            found.append(Series(scope, label, len(t_s), envelope(t_s, power_w)))
    return tuple(found)


def _sum_of_devices(rows: pa.Table, start_ns: int) -> tuple[Numbers, Numbers]:
    """Seconds and watts, by time; several devices (packages) are summed tick by tick where all of them were read."""
    t_s = (rows["t_mono_ns"].to_numpy() - start_ns) / 1e9
    power_w = rows["power_w"].to_numpy()
    devices = len(pc.unique(rows["device"]))
    if devices > 1:
        ticks, place, count = np.unique(rows["tick"].to_numpy(), return_inverse=True, return_counts=True)
        sums_w = np.bincount(place, weights=power_w, minlength=len(ticks))
        means_s = np.bincount(place, weights=t_s, minlength=len(ticks)) / count
        t_s, power_w = means_s[count == devices], sums_w[count == devices]
    order = np.argsort(t_s, kind="stable")
    return t_s[order], power_w[order]


def envelope(t_s: Numbers, power_w: Numbers, pieces: int = PIECES) -> tuple[Piece, ...]:
    """At most `pieces` pieces of equal length with lowest, mean and highest power. `t_s` in s, ascending."""
    if not len(t_s):
        return ()
    width_s = (t_s[-1] - t_s[0]) / pieces or 1.0
    place = np.minimum(((t_s - t_s[0]) / width_s).astype(int), pieces - 1)
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    counts = np.diff([*starts, len(t_s)])
    lows, highs = np.minimum.reduceat(power_w, starts), np.maximum.reduceat(power_w, starts)
    means, middles = np.add.reduceat(power_w, starts) / counts, np.add.reduceat(t_s, starts) / counts
    distances_s = np.diff(t_s, prepend=t_s[0])
    holes = distances_s > max(HOLE_S, 5 * float(np.median(distances_s)))
    return tuple(
        Piece(float(t), float(low), float(mean), float(high), not holes[start])
        for t, low, mean, high, start in zip(middles, lows, means, highs, starts, strict=True)
    )
