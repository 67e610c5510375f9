"""What repetitions have in common: mean, spread, confidence interval; and the difference of two series. Pure.

Student's t for one mean, Welch's t for two (unequal spreads, unequal counts). A single value has no interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Final

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Summary:
    """`n` values: `mean`, `std` (n - 1), and `low`..`high`, which holds the true mean with 95 % confidence; the last
    three are None for a single value. All in the values' own unit."""

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None
    min: float
    max: float

    @property
    def half_width(self) -> float | None:
        """The +- of the mean."""
        return None if self.high is None else self.high - self.mean


@dataclass(frozen=True, slots=True)
class Difference:
    """The second series against the first one: `difference` = mean of the second - mean of the first, in the values'
    unit, with its 95 % interval `low`..`high` (Welch); `percent`..: the same relative to the first mean, its interval
    from the logarithm of the ratio (None where a value is not positive); `p_value`: two-sided."""

    difference: float
    low: float | None
    high: float | None
    percent: float | None
    percent_low: float | None
    percent_high: float | None
    p_value: float | None

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out "no difference"."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def summarize(values: Sequence[float]) -> Summary:
    """The summary of at least one value. ValueError for none."""
    if not values:
        raise ValueError("nothing to summarize: at least one value is needed")
    centre = mean(values)
    if len(values) == 1:
        return Summary(1, centre, None, None, None, centre, centre)
    spread = stdev(values)
    half = t_quantile(len(values) - 1) * spread / math.sqrt(len(values))
    return Summary(len(values), centre, spread, centre - half, centre + half, min(values), max(values))


def compare(first: Sequence[float], second: Sequence[float]) -> Difference:
    """How the second series differs from the first; intervals need at least two values in both."""
    a, b = summarize(first), summarize(second)
    difference = b.mean - a.mean
    ratio = b.mean / a.mean if a.min > 0 and b.min > 0 else None
    percent = None if ratio is None else 100 * (ratio - 1)
    if a.std is None or b.std is None:
        return Difference(difference, None, None, percent, None, None, None)
    parts = (a.std**2 / a.n, b.std**2 / b.n)
    error, freedom = math.sqrt(sum(parts)), _welch_freedom(parts, (a.n, b.n))
    half = t_quantile(freedom) * error
    percent_low = percent_high = None
    if ratio is not None:
        relative = (parts[0] / a.mean**2, parts[1] / b.mean**2)
        log_half = t_quantile(_welch_freedom(relative, (a.n, b.n))) * math.sqrt(sum(relative))
        percent_low, percent_high = (100 * (ratio * math.exp(sign * log_half) - 1) for sign in (-1, 1))
    p_value = _two_sided(difference / error, freedom) if error else float(difference == 0)
    return Difference(difference, difference - half, difference + half, percent, percent_low, percent_high, p_value)


def _welch_freedom(parts: tuple[float, float], counts: tuple[int, int]) -> float:
    """Welch-Satterthwaite degrees of freedom; `parts` are the squared standard errors of both means."""
    below = sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    return sum(parts) ** 2 / below if below else float(sum(counts) - 2)


def t_quantile(freedom: float) -> float:
    """How many standard errors a 95 % interval reaches to either side."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _two_sided(t: float, freedom: float) -> float:
    from scipy.special import stdtr

    return float(2 * stdtr(freedom, -abs(t)))
