"""Finds the terms of a design that the data cannot tell apart, such as two values that always change together. Pure.

Of columns that mix one stays in the design, so that the effects of all others remain right; none of them is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler.analysis.columns import Array, Term

SEPARABLE_R2 = 0.99
"""A column that the others explain to this share of its variance or more cannot be told apart from them."""

_PARTNER = 0.1  # a column with at least this standardised weight is named as one that a term mixes with


@dataclass(frozen=True)
class Control:
    """A column that is held fixed and not reported."""

    name: str
    values: Array


@dataclass(frozen=True)
class Separated:
    """`terms` that stand for themselves, `controls` to hold fixed, and hyperparameter -> why its effect is not told."""

    terms: tuple[Term, ...]
    controls: tuple[Control, ...]
    mixed: dict[str, str]


def independent(controls: Sequence[Control]) -> list[Control]:
    """The controls without those that earlier ones explain."""
    kept: list[Control] = []
    for control in controls:
        if _explained(control.values, [other.values for other in kept])[0] < SEPARABLE_R2:
            kept.append(control)
    return kept


def separate(terms: Sequence[Term], controls: Sequence[Control]) -> Separated:
    """The terms that can be told apart from each other and from the controls."""
    kept, held, mixed = list(terms), independent(controls), dict[str, str]()
    while (found := _most_mixed(kept, held)) is not None:
        place, partners = found
        term = kept.pop(place)
        names = list(dict.fromkeys(partner.name for partner in partners)) or ["the others together"]
        mixed[term.hyperparameter] = f"cannot be told apart from {', '.join(names)} in these runs"
        for partner in partners:
            if isinstance(partner, Term):
                kept.remove(partner)
                held.append(Control(partner.name, partner.values))
                mixed.setdefault(partner.hyperparameter, f"cannot be told apart from {term.name} in these runs")
    return Separated(tuple(kept), tuple(held), mixed)


def _most_mixed(terms: Sequence[Term], held: Sequence[Control]) -> tuple[int, list[Term | Control]] | None:
    """The place of the term that the other columns explain best, if to SEPARABLE_R2, and those that do."""
    best, answer = SEPARABLE_R2, None
    for place, term in enumerate(terms):
        others: list[Term | Control] = [*terms[:place], *terms[place + 1 :], *held]
        share, weights = _explained(term.values, [other.values for other in others])
        if share >= best:
            partners = [other for other, weight in zip(others, weights, strict=True) if abs(weight) >= _PARTNER]
            best, answer = share, (place, partners)
    return answer


def _explained(column: Array, others: Sequence[Array]) -> tuple[float, list[float]]:
    """Share of the column's variance that the others explain, 0 to 1, and their standardised weights."""
    spread = float(np.std(column))
    if spread == 0 or np.allclose(column, column[0]):
        return 1.0, [0.0] * len(others)
    if not others:
        return 0.0, []
    matrix = np.column_stack([(other - other.mean()) / (np.std(other) or 1.0) for other in others])
    target = (column - column.mean()) / spread
    weights, *_rest = np.linalg.lstsq(matrix, target, rcond=None)
    left = target - matrix @ weights
    return float(1 - left @ left / len(column)), [float(weight) for weight in weights]
