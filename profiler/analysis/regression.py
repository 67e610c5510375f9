"""Fits an ordinary least-squares regression with HC3 errors, through statsmodels. It knows neither rows nor columns.

HC3 errors stay right where the spread differs between runs (long trainings scatter more), also with few runs.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from profiler.analysis.columns import Array
from profiler.analysis.libraries import library
from profiler.analysis.results import LEVEL, Figure

RESET_P = 0.01
"""A RESET test with a smaller p says that the relation is no straight line."""


@dataclass(frozen=True)
class Fit:
    """Coefficients in order of the matrix's columns, with their robust errors, 95 % intervals, and two-sided p.

    `freedom`: residual degrees of freedom. `reset_p`: of Ramsey's test for a bend; None where it could not be made."""

    slopes: Array
    errors: Array
    lows: Array
    highs: Array
    p: Array
    freedom: int
    r_squared: float
    reset_p: float | None

    def figure(self, column: int) -> Figure:
        return Figure(float(self.slopes[column]), float(self.lows[column]), float(self.highs[column]))


def fit(matrix: Array, y: Array, *, reset: bool = False) -> Fit | None:
    """The regression of `y` on the matrix's columns, of full rank. None where a run alone decides a coefficient, so
    that no robust error exists. `reset`: with Ramsey's test."""
    model = library("statsmodels.regression.linear_model").OLS(y, matrix)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # what these warn of ends as None below
        result = model.fit(cov_type="HC3", use_t=True)
        errors = np.asarray(result.bse)
        reset_p = _reset_p(result) if reset else None
        lows, highs = result.conf_int(alpha=1 - LEVEL).T
    if not np.isfinite(errors).all() or not np.isfinite(result.pvalues).all():
        return None
    return Fit(
        slopes=np.asarray(result.params),
        errors=errors,
        lows=lows,
        highs=highs,
        p=np.asarray(result.pvalues),
        freedom=int(result.df_resid),
        r_squared=float(result.rsquared),
        reset_p=reset_p,
    )


def _reset_p(result: Any) -> float | None:
    if result.rsquared > 1 - 1e-9:  # nothing is left that could be bent
        return None
    test = library("statsmodels.stats.diagnostic").linear_reset(result, power=2, test_type="fitted", use_f=True)
    p = float(test.pvalue)
    return p if np.isfinite(p) else None


def benjamini_hochberg(p: list[float]) -> list[float]:
    """The p of many tests, corrected so that at most the wanted share of those found is wrong."""
    if not p:
        return []
    return [float(value) for value in library("scipy.stats").false_discovery_control(p, method="bh")]


def holm(p: list[float]) -> list[float]:
    """The p of many tests, corrected so that the chance of finding any that is wrong stays at the wanted level."""
    if not p:
        return []
    corrected = library("statsmodels.stats.multitest").multipletests(p, method="holm")[1]
    return [float(value) for value in corrected]
