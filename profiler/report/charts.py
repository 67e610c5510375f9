"""The report's charts, as inline SVG from the values of the document. Colours and line styles come from the page.

Each chart says with its title what it shows; the figures stand in a table beside it, so nothing is in a chart alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from profiler.analysis.results import Figure
from profiler.report.numbers import Spread, with_unit
from profiler.report.svg import (
    Scale,
    apart,
    dots,
    element,
    picture,
    points,
    scale,
    shortened,
    x_axis,
    y_axis,
)
from profiler.report.traces import Mark, Piece, Series, Stretch, Trace
from profiler.report.tradeoff import Tradeoff

WIDTH = 920.0
_LEFT, _RIGHT = 64.0, 16.0


def state_bar(states: Mapping[str, int], title: str, width: float = 240.0, height: float = 12.0) -> Markup:
    """One bar, divided by what became of the runs."""
    whole = sum(states.values())
    parts, x = [], 0.0
    for state, count in states.items():
        share = width * count / whole if whole else 0
        if count:
            name = state.replace(" ", "-")
            parts.append(element("rect", class_=f"state-{name}", x=x, y=0, width=max(share, 1), height=height))
        x += share
    return picture("bar", width, height, title, *parts)


def boxes(entries: Sequence[tuple[str, Spread]], title: str, axis: str) -> Markup:
    """A line from least to most, a box from quartile to quartile, a stroke at the median, a dot at the mean."""
    left, row, top = 300.0, 26.0, 8.0
    bottom = top + row * len(entries)
    x = scale((value for _, s in entries for value in (s.minimum, s.maximum)), left, WIDTH - _RIGHT, from_zero=True)
    parts = [x_axis(x, bottom, top, axis)]
    for place, (label, spread) in enumerate(entries):
        parts.append(_box(label, spread, x, top + row * place + row / 2))
    return picture("boxes", WIDTH, bottom + 38, title, *parts)


def _box(label: str, spread: Spread, x: Scale, y: float) -> Markup:
    low, high = x(spread.lower_quartile), x(spread.upper_quartile)
    parts = [
        element("text", shortened(label, 44), x=x.start - 8, y=y + 4, text_anchor="end"),
        element("line", class_="whisker", x1=x(spread.minimum), x2=x(spread.maximum), y1=y, y2=y),
        element("rect", class_="box", x=low, width=max(high - low, 1), y=y - 7, height=14),
        element("line", class_="median", x1=x(spread.median), x2=x(spread.median), y1=y - 8, y2=y + 8),
        element("circle", class_="mean", cx=x(spread.mean), cy=y, r=3),
    ]
    return Markup("").join(parts)


def scatter(tradeoff: Tradeoff) -> Markup:
    """Energy to the right, the metric upwards; the front is a line through its runs."""
    top, bottom = 30.0, 290.0
    x = scale((point.energy_j for point in tradeoff.points), _LEFT, WIDTH - _RIGHT)
    y = scale((point.metric for point in tradeoff.points), bottom, top)
    unsafe = dots((x(p.energy_j), y(p.metric)) for p in tradeoff.points if not p.safe)
    safe = dots((x(p.energy_j), y(p.metric)) for p in tradeoff.points if p.safe)
    parts = [x_axis(x, bottom, top, f"{tradeoff.energy} (J)"), y_axis(y, _LEFT, WIDTH - _RIGHT, tradeoff.metric)]
    if tradeoff.front:
        steps = points((x(point.energy_j), y(point.metric)) for point in tradeoff.front)
        parts.append(element("polyline", class_="front", points=steps))
    parts += [
        element("path", class_=f"dot {kind}", d=path) for kind, path in (("unsafe", unsafe), ("safe", safe)) if path
    ]
    parts += [element("circle", class_="on-front", cx=x(p.energy_j), cy=y(p.metric), r=6) for p in tradeoff.front]
    title = f"{tradeoff.metric} against {tradeoff.energy} in J of {len(tradeoff.points)} runs of {tradeoff.name}"
    return picture("scatter", WIDTH, bottom + 38, title, *parts)


def intervals(entries: Sequence[tuple[str, Figure, bool]], title: str, axis: str) -> Markup:
    """Estimates with their intervals against zero; filled dots are significant ones."""
    left, row, top = 380.0, 18.0, 8.0
    bottom = top + row * len(entries)
    x = scale([0.0, *(end for _, figure, _ in entries for end in (figure.low, figure.high))], left, WIDTH - _RIGHT)
    parts = [x_axis(x, bottom, top, axis), element("line", class_="zero", x1=x(0), x2=x(0), y1=top, y2=bottom)]
    for place, (label, figure, significant) in enumerate(entries):
        y = top + row * place + row / 2
        parts += [
            element("text", shortened(label, 58), x=left - 8, y=y + 4, text_anchor="end"),
            element("line", class_="interval", x1=x(figure.low), x2=x(figure.high), y1=y, y2=y),
            element("circle", class_="significant" if significant else "open", cx=x(figure.value), cy=y, r=4),
        ]
    return picture("intervals", WIDTH, bottom + 38, title, *parts)


def power(trace: Trace) -> Markup:
    """The trace: bands from lowest to highest reading, lines at the mean, boundaries, events above, steps below."""
    top, bottom = 52.0, 240.0
    times = [piece.t_s for series in trace.series for piece in series.pieces]
    ends = [value for stretch in trace.stretches for value in (stretch.start_s, stretch.end_s)]
    x = scale([0.0, trace.duration_s, *times, *ends], _LEFT, WIDTH - _RIGHT, room=0.01)
    highs = [piece.high_w for series in trace.series for piece in series.pieces]
    y = scale([0.0, *highs], bottom, top, from_zero=True)
    background = [stretch for stretch in trace.stretches if stretch.kind == "background"]
    steps = [stretch for stretch in trace.stretches if stretch.kind == "step"]
    lanes_top = bottom + 40
    parts = [
        *(element("rect", class_="window", x=x(0), width=x(trace.duration_s) - x(0), y=top, height=bottom - top),),
        x_axis(x, bottom, top, "time since the trainer's start (s)"),
        y_axis(y, _LEFT, WIDTH - _RIGHT, "power (W)"),
        *(_series(series, x, y) for series in trace.series),
        _marks(trace.marks, trace.duration_s, x, top, bottom),
        _lane("background", background, x, lanes_top),
        _lane("steps", steps, x, lanes_top + 20),
    ]
    title = f"Power over time of {trace.row['experiment_id']}: {_in_words(trace)}"
    return picture("power", WIDTH, lanes_top + 40, title, *parts)


def _in_words(trace: Trace) -> str:
    texts = []
    for series in trace.series:
        low, high = min(p.low_w for p in series.pieces), max(p.high_w for p in series.pieces)
        texts.append(f"{series.label} {with_unit(low, 'W')} to {with_unit(high, 'W')}")
    return "; ".join(texts)


def _series(series: Series, x: Scale, y: Scale) -> Markup:
    """Band and line, in pieces where there are holes."""
    parts = []
    for stretch in _unbroken(series.pieces):
        upper = [(x(piece.t_s), y(piece.high_w)) for piece in stretch]
        lower = [(x(piece.t_s), y(piece.low_w)) for piece in reversed(stretch)]
        if any(piece.low_w != piece.high_w for piece in stretch):
            parts.append(element("polygon", class_=f"band {series.scope}", points=points(upper + lower)))
        line = [(x(piece.t_s), y(piece.mean_w)) for piece in stretch]
        if len(line) == 1:
            parts.append(element("path", class_=f"lone {series.scope}", d=dots(line)))
        else:
            parts.append(element("polyline", class_=f"line {series.scope}", points=points(line)))
    return Markup("").join(parts)


def _unbroken(pieces: Sequence[Piece]) -> list[list[Piece]]:
    runs: list[list[Piece]] = []
    for piece in pieces:
        if not piece.follows or not runs:
            runs.append([])
        runs[-1].append(piece)
    return runs


def _marks(marks: Sequence[Mark], duration_s: float, x: Scale, top: float, bottom: float) -> Markup:
    """Boundaries with their names in the upper row, what the trainer said in the lower one."""
    edges = ((0.0, "start"), (duration_s, "end"))
    parts = [element("line", class_="boundary", x1=x(t), x2=x(t), y1=top - 22, y2=bottom) for t, _ in edges]
    parts += [
        element("line", class_=f"mark {mark.kind}", x1=x(mark.t_s), x2=x(mark.t_s), y1=top - 8, y2=bottom)
        for mark in marks
    ]
    upper = apart(((x(t), text) for t, text in edges), x.start, x.end)
    by_weight = sorted(marks, key=lambda mark: mark.kind == "epoch")
    said = ((x(mark.t_s), mark.text.removesuffix(" done") if mark.kind == "epoch" else mark.kind) for mark in by_weight)
    lower = apart(said, x.start, x.end)
    parts += [
        element("text", text, x=middle, y=top - 25, text_anchor="middle", class_="strong") for middle, text in upper
    ]
    parts += [element("text", text, x=middle, y=top - 11, text_anchor="middle") for middle, text in lower]
    return Markup("").join(parts)


def _lane(name: str, stretches: Sequence[Stretch], x: Scale, y: float) -> Markup:
    if not stretches:
        return Markup("")
    parts = [element("text", name, x=4, y=y + 11)]
    for number, stretch in enumerate(stretches):
        width = max(x(stretch.end_s) - x(stretch.start_s), 1)
        parts.append(
            element(
                "rect", class_=f"lane {stretch.kind} n{number % 2}", x=x(stretch.start_s), y=y, width=width, height=15
            )
        )
    middles = (((x(s.start_s) + x(s.end_s)) / 2, s) for s in stretches)
    fitting = ((middle, s.text) for middle, s in middles if len(s.text) * 6.6 <= x(s.end_s) - x(s.start_s))
    parts += [
        element("text", text, x=middle, y=y + 11, text_anchor="middle")
        for middle, text in apart(fitting, x.start, x.end)
    ]
    return Markup("").join(parts)
