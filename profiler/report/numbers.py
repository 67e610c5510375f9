"""Figures as text, and what a list of figures is like. It knows no columns and no page."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

UNKNOWN = "–"
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SCALED_UNITS = ("J", "W", "B")


@dataclass(frozen=True)
class Spread:
    """What `count` figures are like, in their own unit. `deviation` is the sample standard deviation, None for one."""

    count: int
    mean: float
    deviation: float | None
    minimum: float
    lower_quartile: float
    median: float
    upper_quartile: float
    maximum: float


def spread(values: Iterable[float | None]) -> Spread | None:
    """The spread of the values that are known; None where none is."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    lower, median, upper = statistics.quantiles(known, n=4, method="inclusive") if len(known) > 1 else known * 3
    return Spread(
        count=len(known),
        mean=statistics.fmean(known),
        deviation=statistics.stdev(known) if len(known) > 1 else None,
        minimum=known[0],
        lower_quartile=lower,
        median=median,
        upper_quartile=upper,
        maximum=known[-1],
    )


def figure(value: float | None, digits: int = 4) -> str:
    """`value` with `digits` significant digits and groups of thousands; a dash for None. Whole numbers stay whole."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    size = math.floor(math.log10(abs(value)))
    if not -4 <= size < 12:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - size)}f}"


def with_unit(value: float | None, unit: str) -> str:
    """`value` with its unit: joules, watts, bytes as k, M or G where large, times from ten minutes on in h and min."""
    if value is None:
        return UNKNOWN
    if unit == "s":
        return _time(value)
    if unit in _SCALED_UNITS:
        for factor, prefix in _PREFIXES:
            if abs(value) >= factor:
                return f"{figure(value / factor)} {prefix}{unit}"
    return f"{figure(value)} {unit}".rstrip()


def _time(seconds: float) -> str:
    if seconds < 600:
        return f"{figure(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60:02d} min"


def signed_percent(value: float | None) -> str:
    """A difference in percent, always with its sign."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0 %"
    return f"{value:+,.0f} %" if abs(value) >= 100 else f"{value:+.2g} %" if abs(value) < 1 else f"{value:+.1f} %"


def difference_percent(value: float | None, reference: float | None) -> float | None:
    """How far `value` is from `reference`, in percent of it; None where one is unknown or the reference is zero."""
    if value is None or not reference:
        return None
    return 100 * (value - reference) / reference
