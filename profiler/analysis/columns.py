"""Turns one hyperparameter into the terms of a regression: its scale, categories, exact zeros. It fits nothing.

A term may rest on no fewer than MIN_DIFFERENT runs: with one or two, their noise would pass for the effect.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from profiler.analysis.results import Hyperparameter, Scale
from profiler.analysis.selection import Row
from profiler.hyperparameters import HyperparameterSpec

Array: TypeAlias = NDArray[np.float64]
Specs: TypeAlias = Mapping[str, HyperparameterSpec]

MIN_DIFFERENT = 3
SEED = "seed"
_SEED_REASON = "a seed is a name, not an amount: what it does is part of the spread between runs"


@dataclass(frozen=True)
class Term:
    """One column of a design. `values` are centred on 0; `step` is what standardised figures are per: the standard
    deviation of a number, 1 for a category. `per` says what one unit of `values` is."""

    hyperparameter: str
    name: str
    per: str
    values: Array
    step: float


@dataclass(frozen=True)
class HyperparameterColumn:
    """One hyperparameter's values in all rows of a group."""

    name: str
    values: tuple[Any, ...]
    spec: HyperparameterSpec | None

    @cached_property
    def scale(self) -> Scale:
        """category for anything but numbers, log2 where the values are drawn log-uniformly and none is negative."""
        known = [value for value in self.values if value is not None]
        if not all(is_number(value) for value in known):
            return "category"
        log = self.spec is not None and self.spec.distribution == "log_uniform"
        return "log2" if log and all(value >= 0 for value in known) else "linear"

    def describe(self) -> Hyperparameter:
        """The column as results show it, with the reason where no term can be made of it."""
        known = [value for value in self.values if value is not None]
        distinct = len(set(map(_key, known))) + (len(known) < len(self.values))
        low, high = (min(known), max(known)) if known and self.scale != "category" else (None, None)
        return Hyperparameter(self.name, self.scale, distinct, low, high, self._reason(distinct))

    def _reason(self, distinct: int) -> str | None:
        if distinct <= 1:
            return f"the same in every run: {self.values[0]}" if self.values else "no runs"
        return _SEED_REASON if self.name == SEED else None

    def rare(self) -> tuple[list[int], str]:
        """Positions of the rows whose value is too rare to be judged, and what to say about them. ([], "") if none."""
        if self.name == SEED:
            return [], ""
        unset = [n for n, value in enumerate(self.values) if value is None]
        if 0 < len(unset) < len(self.values):
            numbered = [n for n in range(len(self.values)) if n not in set(unset)]
            return min(unset, numbered, key=len), "the trainer's own choice in some runs, a value in others"
        for part in self._parts():
            positions = [n for n, value in enumerate(self.values) if _key(value) in part]
            if 0 < len(positions) < min(MIN_DIFFERENT, len(self.values)):
                return positions, f"fewer than {MIN_DIFFERENT} runs differ from the others"
        return [], ""

    def _parts(self) -> Iterator[set[Any]]:
        """Sets of values each of which a term rests on."""
        counts = Counter(map(_key, self.values))
        if self.scale == "category":
            yield from ({key} for key in counts)
        elif len(counts) > 1:
            common = counts.most_common(1)[0][0]
            yield set(counts) - {common}
            if self.scale == "log2":
                yield {key for key in counts if key[1] == 0}

    def terms(self) -> list[Term]:
        """The terms; [] where `describe` has a reason."""
        if self.describe().reason is not None:
            return []
        if self.scale == "category":
            return self._categories()
        numbers = np.array(self.values, dtype=float)
        return self._logarithms(numbers) if self.scale == "log2" else [self._term(self.name, "1", numbers)]

    def _categories(self) -> list[Term]:
        counts = Counter(map(_key, self.values))
        common = counts.most_common(1)[0][0]
        default = _key(self.spec.default) if self.spec else common
        reference = default if default in counts else common
        return [
            self._switch(level[1], f"{reference[1]} -> {level[1]}", [_key(value) == level for value in self.values])
            for level in counts
            if level != reference
        ]

    def _logarithms(self, numbers: Array) -> list[Term]:
        """Per doubling of what is above zero; exact zeros, which have no logarithm, are a switch of their own."""
        above = numbers > 0
        logs = np.zeros(len(numbers))
        logs[above] = np.log2(numbers[above])
        logs[above] -= logs[above].mean()
        terms = []
        if np.ptp(numbers[above]) > 0:
            terms.append(Term(self.name, self.name, "doubling", logs, float(np.std(logs[above], ddof=1))))
        if not above.all():
            terms.append(self._switch("0", "above 0 -> 0", list(~above)))
        return terms

    def _switch(self, level: object, per: str, flags: Sequence[bool]) -> Term:
        values = np.array(flags, dtype=float)
        return Term(self.name, f"{self.name}={level}", per, values - values.mean(), 1.0)

    def _term(self, name: str, per: str, values: Array) -> Term:
        return Term(self.name, name, per, values - values.mean(), float(np.std(values, ddof=1)))


def columns_of(rows: Sequence[Row], specs: Specs) -> list[HyperparameterColumn]:
    """Every hyperparameter that the rows have, in declared order, then those that nobody declared."""
    seen = dict.fromkeys(name for row in rows for name in row["hyperparameters"])
    names = [name for name in specs if name in seen] + [name for name in seen if name not in specs]
    return [
        HyperparameterColumn(name, tuple(row["hyperparameters"].get(name) for row in rows), specs.get(name))
        for name in names
    ]


def is_number(value: Any) -> bool:
    """A finite number that is no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _key(value: Any) -> tuple[bool, Any]:
    """Equal for equal values; True is not 1, and a text is itself."""
    return isinstance(value, bool), value if isinstance(value, int | float | str) or value is None else repr(value)
