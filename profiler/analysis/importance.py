"""Ranks terms by how far an outcome's order follows theirs: a second opinion that assumes no straight line. Pure.

Spearman's correlation looks at one term at a time, so it mixes in the others where the plan let them vary together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler.analysis.columns import Array, Term
from profiler.analysis.libraries import library


@dataclass(frozen=True)
class Rank:
    """Spearman's `correlation` (-1..1) with its p, and the `rank` of its size among the terms, from 1."""

    correlation: float
    p: float
    rank: int


def ranks(terms: Sequence[Term], y: Array, levels: Sequence[object]) -> list[Rank]:
    """One for each term. `levels`: each run's conditions; means of a condition are taken out of both sides first."""
    columns = np.column_stack([_within(values, levels) for values in (*(term.values for term in terms), y)])
    found = library("scipy.stats").spearmanr(columns)
    # For two columns scipy gives one number; a column that is constant within every condition has none.
    correlations = np.nan_to_num(np.atleast_1d(found.statistic[-1, :-1] if len(terms) > 1 else found.statistic))
    p = np.nan_to_num(np.atleast_1d(found.pvalue[-1, :-1] if len(terms) > 1 else found.pvalue), nan=1.0)
    order = list(np.argsort(-np.abs(correlations), kind="stable"))
    return [Rank(float(correlations[n]), float(p[n]), order.index(n) + 1) for n in range(len(terms))]


def _within(values: Array, levels: Sequence[object]) -> Array:
    if len(set(levels)) == 1:
        return values
    out = values.copy()
    for level in set(levels):
        here = np.array([found == level for found in levels])
        out[here] -= out[here].mean()
    return out
