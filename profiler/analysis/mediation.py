"""Estimates how much of a term's effect goes through a mediator: the product of two coefficients. It reads no rows.

The term moves the mediator (a), the mediator moves the outcome with the term held fixed (b): a * b goes through it.
This says what fits the data, not what causes what: a third thing may move both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from profiler.analysis.columns import Array
from profiler.analysis.regression import Fit, fit
from profiler.analysis.results import ALPHA, LEVEL, Figure
from profiler.analysis.separation import SEPARABLE_R2

DRAWS = 10_000
_SEED = 20260101  # the same data give the same interval


@dataclass(frozen=True)
class Paths:
    """One column's way through one mediator; units as in `results.Mediation`."""

    column: int
    indirect: Figure
    direct: float
    total: float
    share: float | None
    p: float


def mediate(matrix: Array, mediator: Array, y: Array, columns: Sequence[int]) -> list[Paths] | str:
    """The ways from each of `columns` of the matrix to `y` through `mediator`; or why they cannot be told.

    The interval is a parametric bootstrap: both coefficients drawn from their robust t distributions, multiplied."""
    if np.allclose(mediator, mediator[0]):
        return "the same in every run"
    total, first = fit(matrix, y), fit(matrix, mediator)
    if first is not None and first.r_squared >= SEPARABLE_R2:
        return "the hyperparameters decide it, so that it cannot be told apart from them"
    second = fit(np.column_stack([matrix, mediator]), y)
    if total is None or first is None or second is None:
        return "one run alone decides a coefficient"
    return [_paths(column, total, first, second) for column in columns]


def _paths(column: int, total: Fit, first: Fit, second: Fit) -> Paths:
    b = len(second.slopes) - 1
    indirect = float(first.slopes[column] * second.slopes[b])
    draws = _draws(first, column, 0) * _draws(second, b, 1)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    whole = float(total.slopes[column])
    share = indirect / whole if total.p[column] < ALPHA else None
    p = float(max(first.p[column], second.p[b]))
    return Paths(column, Figure(indirect, float(low), float(high)), float(second.slopes[column]), whole, share, p)


def _draws(fitted: Fit, column: int, stream: int) -> Array:
    return np.asarray(fitted.slopes[column] + fitted.errors[column] * _noise(fitted.freedom, stream))


@lru_cache(maxsize=64)
def _noise(freedom: int, stream: int) -> Array:
    """Draws of Student's t; the two streams are independent."""
    return np.random.default_rng([_SEED, stream]).standard_t(freedom, DRAWS)
