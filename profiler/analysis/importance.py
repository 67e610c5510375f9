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
    stats = library("scipy.stats")
    target = _within(y, levels)
    found = [stats.spearmanr(_within(term.values, levels), target) for term in terms]
    pairs = [(float(np.nan_to_num(result.statistic)), float(np.nan_to_num(result.pvalue, nan=1.0))) for result in found]
    order = sorted(range(len(pairs)), key=lambda n: -abs(pairs[n][0]))
    return [Rank(correlation, p, order.index(n) + 1) for n, (correlation, p) in enumerate(pairs)]


def _within(values: Array, levels: Sequence[object]) -> Array:
    out = values.copy()
    for level in set(levels):
        here = np.array([found == level for found in levels])
        out[here] -= out[here].mean()
    return out
