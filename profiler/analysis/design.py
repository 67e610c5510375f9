"""Builds the design of a regression from rows: its terms, and the conditions that are held fixed. It fits nothing.

Conditions (GPU model, node, board, background) that differ between runs are held fixed by a level of their own
each, so that they cannot pass for the effect of a hyperparameter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from profiler.analysis.columns import MIN_DIFFERENT, Array, HyperparameterColumn, Specs, Term, columns_of
from profiler.analysis.identity import background_of, board_of
from profiler.analysis.results import Hyperparameter
from profiler.analysis.selection import Row, mode_of
from profiler.analysis.separation import Control, independent, separate

MIN_FREEDOM = 10
"""Runs that must be left over after one for each coefficient."""


def _background(row: Row) -> str:
    return background_of(row) or "none"


CONDITIONS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("gpu_name", lambda row: str(row.get("gpu_name"))),
    ("node_id", lambda row: str(row.get("node_id"))),
    ("gpu_uuid", board_of),
    ("background", _background),
)


@dataclass(frozen=True)
class Design:
    """`kept`: positions of the rows that enter. `terms`: the columns with an effect of interest; `controls`: columns
    only held fixed, of which `adjusted_for` names the conditions. `reason`: why there is nothing to fit, else None."""

    kept: tuple[int, ...]
    terms: tuple[Term, ...]
    controls: tuple[Control, ...]
    hyperparameters: tuple[Hyperparameter, ...]
    adjusted_for: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def matrix(self) -> Array:
        """Constant, terms, controls: one row a run."""
        columns = [term.values for term in self.terms] + [control.values for control in self.controls]
        return np.column_stack([np.ones(len(self.kept)), *columns])


def make_design(rows: Sequence[Row], specs: Specs, *, interactions: bool = False) -> Design:
    """The design of `rows`, all of one model. `interactions`: its terms are the differences that running in parallel
    makes (and what parallel makes by itself); else they are the hyperparameters."""
    kept, columns, notes = _enough(rows, specs)
    rows = [rows[n] for n in kept]
    terms = [term for column in columns for term in column.terms()]
    controls = list(_conditions(rows))
    described = [column.describe() for column in columns]
    adjusted = tuple(dict.fromkeys(control.name for control in controls))
    if interactions:
        controls += [Control(term.name, term.values) for term in terms]
        terms, described = _interactions(rows, terms, described)
    design = Design(tuple(kept), tuple(terms), tuple(controls), tuple(described), adjusted, tuple(notes))
    return _fittable(design)


def _enough(rows: Sequence[Row], specs: Specs) -> tuple[list[int], list[HyperparameterColumn], list[str]]:
    """Positions of the rows whose every value and condition enough others share, their columns, what was left out."""
    kept, notes = list(range(len(rows))), list[str]()
    while True:
        here = [rows[n] for n in kept]
        columns = columns_of(here, specs)
        rare, why = _first_rare(columns, here)
        if not rare:
            return kept, columns, notes
        notes.append(f"{len(rare)} of {len(here)} runs left out: {why}")
        gone = set(rare)
        kept = [n for place, n in enumerate(kept) if place not in gone]


def _first_rare(columns: Sequence[HyperparameterColumn], rows: Sequence[Row]) -> tuple[list[int], str]:
    for column in columns:
        positions, why = column.rare()
        if positions:
            return positions, f"{column.name}: {why}"
    for name, condition in CONDITIONS:
        levels = [condition(row) for row in rows]
        level, count = min(Counter(levels).items(), key=lambda item: item[1], default=("", 0))
        if 0 < count < MIN_DIFFERENT and count < len(rows):
            positions = [n for n, found in enumerate(levels) if found == level]
            return positions, f"{name}: fewer than {MIN_DIFFERENT} runs with {level}"
    return [], ""


def _conditions(rows: Sequence[Row]) -> Iterator[Control]:
    """A column for each level but the first of each condition that differs between the rows.

    Backgrounds are centred within the parallel runs: the effect of `parallel` is then that of the mean background."""
    parallel = _parallel(rows)
    for name, condition in CONDITIONS:
        within = parallel if name == "background" else np.ones(len(rows), dtype=bool)
        levels = [condition(row) for row in rows]
        known = sorted({level for level, inside in zip(levels, within, strict=True) if inside})
        for level in known[1:]:
            values = np.array([found == level for found in levels], dtype=float)
            values[within] -= values[within].mean()
            yield Control(name, values)


def _parallel(rows: Sequence[Row]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([mode_of(row) == "parallel" for row in rows], dtype=bool)


def _interactions(
    rows: Sequence[Row], terms: Sequence[Term], described: Sequence[Hyperparameter]
) -> tuple[list[Term], list[Hyperparameter]]:
    """A term for running in parallel, and one for each term that varies in both modes: its product with parallel."""
    parallel = _parallel(rows)
    shares = parallel - parallel.mean()
    switch = Term("parallel", "parallel", "solo -> parallel", shares, 1.0)
    both = [term for term in terms if _varies(term.values[parallel]) and _varies(term.values[~parallel])]
    products = [replace(term, name=f"{term.name} x parallel", values=term.values * shares) for term in both]
    names = {term.hyperparameter for term in both}
    reason = "does not vary enough in both solo and parallel runs"
    told = [info if info.reason or info.name in names else replace(info, reason=reason) for info in described]
    return [switch, *products], told


def _varies(values: Array) -> bool:
    _levels, counts = np.unique(values, return_counts=True)
    return bool(len(values) - counts.max(initial=0) >= MIN_DIFFERENT)


def _fittable(design: Design) -> Design:
    """The design with the terms that can be told apart, or with the reason why it cannot be fitted."""
    if not design.terms:
        return replace(design, reason="no hyperparameter varies enough between the runs")
    columns = len(design.terms) + len(independent(design.controls))
    need = 1 + columns + MIN_FREEDOM
    if len(design.kept) < need:
        return replace(design, reason=f"too little data: {len(design.kept)} runs, {need} are needed for what varies")
    parted = separate(design.terms, design.controls)
    told = tuple(
        replace(info, reason=parted.mixed[info.name]) if info.name in parted.mixed and not info.reason else info
        for info in design.hyperparameters
    )
    reason = None if parted.terms else "; ".join(f"{name} {why}" for name, why in parted.mixed.items())
    return replace(design, terms=parted.terms, controls=parted.controls, hyperparameters=told, reason=reason)
