"""Tests one figure of A against B: paired over equal values where there are enough, else Welch. Through scipy.

at least 3 sets of values in both       paired t over the means of each set
a set with at least 3 runs on each side  Welch t within the largest such set
else                                     Welch t over all runs, which says so
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from profiler.analysis.columns import Array
from profiler.analysis.comparison import OutcomeComparison
from profiler.analysis.identity import by_values
from profiler.analysis.libraries import library
from profiler.analysis.outcomes import null_reasons, nulls_text, value
from profiler.analysis.results import LEVEL
from profiler.analysis.selection import Row

MIN_RUNS = 3
"""Pairs, or runs on each side, below which nothing is judged."""

VALUES_DIFFER = "the runs have different hyperparameter values, which are part of the difference"


def difference(column: str, unit: str, a: Sequence[Row], b: Sequence[Row], *, pairable: bool) -> OutcomeComparison:
    """One figure of A against B; p not yet corrected. `pairable`: runs with the same values are the same training."""
    known_a = [row for row in a if value(row, column) is not None]
    known_b = [row for row in b if value(row, column) is not None]
    empty = OutcomeComparison(
        column, unit, len(known_a), len(known_b), a_nulls=null_reasons(a, column), b_nulls=null_reasons(b, column)
    )
    if not known_a or not known_b:
        return replace(empty, reason=_both_nulls(nulls_text(a, column), nulls_text(b, column)))
    if not pairable:
        return _welch(empty, _figures(known_a, column), _figures(known_b, column))
    return _matched(empty, known_a, known_b)


def _both_nulls(a: str, b: str) -> str:
    if a == b:
        return f"A and B: {a}"
    return "; ".join(f"{name}: {text}" for name, text in (("A", a), ("B", b)) if text)


def _matched(empty: OutcomeComparison, a: Sequence[Row], b: Sequence[Row]) -> OutcomeComparison:
    sets_a, sets_b = by_values(a), by_values(b)
    both = [key for key in sets_a if key in sets_b]
    column = empty.outcome
    if len(both) >= MIN_RUNS:
        means = [np.array([_figures(sets[key], column).mean() for key in both]) for sets in (sets_a, sets_b)]
        counts = [sum(len(sets[key]) for key in both) for sets in (sets_a, sets_b)]
        return _paired(replace(empty, a_runs=counts[0], b_runs=counts[1], pairs=len(both)), means[0], means[1])
    repeated = [key for key in both if min(len(sets_a[key]), len(sets_b[key])) >= MIN_RUNS]
    if repeated:
        key = max(repeated, key=lambda key: min(len(sets_a[key]), len(sets_b[key])))
        a, b = sets_a[key], sets_b[key]
    found = _welch(replace(empty, a_runs=len(a), b_runs=len(b)), _figures(a, column), _figures(b, column))
    mixed = len(by_values([*a, *b])) > 1
    return replace(found, note=VALUES_DIFFER) if mixed else found


def _figures(rows: Sequence[Row], column: str) -> Array:
    return np.array([value(row, column) for row in rows], dtype=float)


def _paired(empty: OutcomeComparison, a: Array, b: Array) -> OutcomeComparison:
    found = replace(_means(empty, a, b), method="paired t")
    if _constant(b - a):
        return _without_spread(found)
    return _tested(found, library("scipy.stats").ttest_rel(b, a))


def _welch(empty: OutcomeComparison, a: Array, b: Array) -> OutcomeComparison:
    found = _means(empty, a, b)
    if min(len(a), len(b)) < MIN_RUNS:
        return replace(found, reason=f"too little data: {len(a)} and {len(b)} runs, {MIN_RUNS} of each are needed")
    found = replace(found, method="Welch t")
    if _constant(a) and _constant(b):
        return _without_spread(found)
    return _tested(found, library("scipy.stats").ttest_ind(b, a, equal_var=False))


def _means(empty: OutcomeComparison, a: Array, b: Array) -> OutcomeComparison:
    change = float(b.mean() - a.mean())
    percent = 100 * change / float(a.mean()) if a.mean() > 0 else None
    return replace(empty, a_mean=float(a.mean()), b_mean=float(b.mean()), difference=change, percent=percent)


def _constant(values: Array) -> bool:
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _without_spread(found: OutcomeComparison) -> OutcomeComparison:
    """Every run says the same: equal figures are equal, and for unequal ones there is nothing to test against."""
    equal = abs(found.difference or 0.0) <= 1e-12 * abs(found.a_mean or 0.0)
    if equal:
        return replace(found, different=False, note="the same in A and B")
    return replace(found, reason="no spread between the runs, so that no test is possible")


def _tested(found: OutcomeComparison, result: Any) -> OutcomeComparison:
    interval = result.confidence_interval(LEVEL)
    return replace(found, p=float(result.pvalue), low=float(interval.low), high=float(interval.high))
