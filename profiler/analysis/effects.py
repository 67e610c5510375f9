"""Estimates what each hyperparameter does to energy, duration and the primary metric, for each model and mode.

Rows in, `results.Effects` out. What the data cannot tell is said with a reason, never as a figure. It prints nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from profiler.analysis import tradeoffs
from profiler.analysis.columns import Array, Term
from profiler.analysis.design import CONDITIONS, Design, make_design
from profiler.analysis.importance import ranks
from profiler.analysis.mediation import mediate
from profiler.analysis.outcomes import ENERGIES, MEDIATORS, METRIC, OUTCOMES, nulls_text, unit_of, value
from profiler.analysis.regression import RESET_P, Fit, benjamini_hochberg, fit
from profiler.analysis.results import ALPHA, Effect, Effects, GroupEffects, Mediation, Mode, OutcomeEffects
from profiler.analysis.selection import Row, Rows, by_model, mode_of, select
from profiler.analysis.workload import ModelFacts, facts_of
from profiler.workloads import Catalog

Found = TypeVar("Found", Effect, Mediation)

_FOREGROUND = "gpu_energy_foreground_j"  # known only where shares are attributed: no outcome where no run has it


def effects(rows: Rows, catalog: Catalog | None = None, *, safe_only: bool = True) -> Effects:
    """The effects in `rows` of one or many sessions. `catalog` says which hyperparameters are logarithmic and which way
    a metric is better. `safe_only`: contaminated runs stay out. CannotRunError where statsmodels is not installed."""
    chosen = select(rows, safe_only=safe_only, effective=True)
    groups = [
        group
        for (repo, model), here in by_model(chosen.rows).items()
        for group in _groups(repo, model, here, facts_of(catalog, repo, model))
    ]
    reason = None
    if not groups:
        reason = chosen.nothing
    elif all(group.reason is not None for group in groups):
        reason = "too little data in every group"
    return Effects(tuple(groups), chosen.given, len(chosen.rows), chosen.excluded, safe_only, reason=reason)


def _groups(repo: str, model: str, rows: Sequence[Row], facts: ModelFacts) -> Iterator[GroupEffects]:
    solo = [row for row in rows if mode_of(row) == "solo"]
    parallel = [row for row in rows if mode_of(row) == "parallel"]
    if solo:
        yield _Group("solo", solo, facts).result(repo, model)
    if parallel:
        yield _Group("parallel", parallel, facts).result(repo, model)
    if solo and parallel:
        yield _Group("both", rows, facts).result(repo, model)


@dataclass(frozen=True)
class _Part:
    """The runs of a group that have all figures which a fit needs, with their design."""

    rows: tuple[Row, ...]
    design: Design

    def figures(self, column: str) -> Array:
        return np.array([value(row, column) for row in self.rows], dtype=float)


class _Group:
    """The analysis of one model in one mode."""

    def __init__(self, mode: Mode, rows: Sequence[Row], facts: ModelFacts) -> None:
        self.mode, self.rows, self.facts = mode, rows, facts
        self._designs: dict[tuple[int, ...], _Part] = {}

    def result(self, repo: str, model: str) -> GroupEffects:
        whole = self._part(()).design
        outcomes = self._corrected([self._outcome(name) for name in OUTCOMES if self._asked(name)])
        told, note = tradeoffs.tradeoffs(outcomes, self.facts) if self.mode != "both" else ((), "")
        reason = whole.reason
        if reason is None and all(outcome.reason for outcome in outcomes):
            reason = "no outcome has enough figures"
        return GroupEffects(
            repo=repo,
            model=model,
            mode=self.mode,
            runs=len(self.rows),
            hyperparameters=whole.hyperparameters,
            outcomes=tuple(outcomes),
            tradeoffs=told,
            adjusted_for=whole.adjusted_for,
            notes=tuple(filter(None, (*whole.notes, self.facts.note, "" if reason else note))),
            reason=reason,
        )

    def _asked(self, column: str) -> bool:
        return column != _FOREGROUND or any(value(row, column) is not None for row in self.rows)

    def _part(self, columns: Sequence[str]) -> _Part:
        """The runs in which each of `columns` is known; of equal sets the design is made once."""
        places = tuple(n for n, row in enumerate(self.rows) if all(value(row, name) is not None for name in columns))
        if places not in self._designs:
            rows = [self.rows[n] for n in places]
            design = make_design(rows, self.facts.specs, interactions=self.mode == "both")
            self._designs[places] = _Part(tuple(rows[n] for n in design.kept), design)
        return self._designs[places]

    def _outcome(self, column: str) -> OutcomeEffects:
        """The effects on one outcome; p not yet corrected."""
        known = [figure for row in self.rows if (figure := value(row, column)) is not None]
        nulls = nulls_text(self.rows, column)
        found = OutcomeEffects(
            outcome=self._name(column),
            unit=self.facts.metric_unit if column == METRIC else unit_of(column),
            is_metric=column == METRIC,
            runs=len(known),
            mean=float(np.mean(known)) if known else None,
            sd=float(np.std(known, ddof=1)) if len(known) > 1 else None,
            r_squared=None,
        )
        if not known:
            return replace(found, reason=nulls)
        part = self._part((column,))
        if part.design.reason is not None:
            return replace(found, reason=part.design.reason)
        y = part.figures(column)
        if np.allclose(y, y[0], rtol=1e-12, atol=0):
            return replace(found, reason=f"the same in every run: {y[0]:g}")
        fitted = fit(part.design.matrix, y, reset=True)
        if fitted is None:
            return replace(found, reason="one run alone decides a coefficient")
        return self._fitted(replace(found, notes=(f"not known: {nulls}",) if nulls else ()), part, fitted, column)

    def _name(self, column: str) -> str:
        if column != METRIC:
            return column
        seen = next((row["primary_metric"] for row in self.rows if row.get("primary_metric")), METRIC)
        return self.facts.metric_name or str(seen)

    def _fitted(self, found: OutcomeEffects, part: _Part, fitted: Fit, column: str) -> OutcomeEffects:
        y, notes = part.figures(column), list(found.notes)
        if part is not self._part(()):
            notes += part.design.notes
        if fitted.reset_p is not None and fitted.reset_p < RESET_P:
            notes.append(f"no straight line (RESET p = {fitted.reset_p:.2g}): read each slope as a mean over the range")
        mediations, told = self._all_mediations(column) if column in ENERGIES and self.mode != "both" else ([], [])
        return replace(
            found,
            runs=len(y),
            mean=float(y.mean()),
            sd=float(y.std(ddof=1)),
            r_squared=fitted.r_squared,
            effects=tuple(self._effects(part, y, fitted)),
            mediations=tuple(mediations),
            notes=(*notes, *told),
        )

    def _effects(self, part: _Part, y: Array, fitted: Fit) -> Iterator[Effect]:
        terms, sd, mean = part.design.terms, float(y.std(ddof=1)), float(y.mean())
        levels = [tuple(condition(row) for _name, condition in CONDITIONS) for row in part.rows]
        ranked = ranks(terms, y, levels) if self.mode != "both" else [None] * len(terms)
        for n, (term, rank) in enumerate(zip(terms, ranked, strict=True), start=1):
            slope = fitted.figure(n)
            yield Effect(
                hyperparameter=term.hyperparameter,
                term=term.name,
                per=term.per,
                slope=slope,
                standardised=slope.scaled(term.step / sd),
                percent=slope.scaled(100 * term.step / mean) if mean > 0 else None,
                p=float(fitted.p[n]),
                p_adjusted=float(fitted.p[n]),
                significant=False,
                rank_correlation=rank.correlation if rank else None,
                rank_p=rank.p if rank else None,
                rank=rank.rank if rank else None,
            )

    def _all_mediations(self, column: str) -> tuple[list[Mediation], list[str]]:
        ways: list[Mediation] = []
        notes: list[str] = []
        for mediator in MEDIATORS:
            found = self._mediations(column, mediator)
            if isinstance(found, str):
                notes.append(f"no mediation by {mediator}: {found}")
            else:
                ways += found
        return ways, notes

    def _mediations(self, column: str, mediator: str) -> list[Mediation] | str:
        """The ways of all terms through one mediator; or why they cannot be told."""
        if not any(value(row, mediator) is not None for row in self.rows):
            return nulls_text(self.rows, mediator)
        part = self._part((column, mediator))
        if part.design.reason is not None:
            return part.design.reason
        terms: Sequence[Term] = part.design.terms
        columns = range(1, len(terms) + 1)
        found = mediate(part.design.matrix, part.figures(mediator), part.figures(column), columns)
        if isinstance(found, str):
            return found
        return [
            Mediation(
                hyperparameter=term.hyperparameter,
                term=term.name,
                mediator=mediator,
                indirect=way.indirect,
                direct=way.direct,
                total=way.total,
                share=way.share,
                p=way.p,
                p_adjusted=way.p,
                significant=False,
                runs=len(part.rows),
            )
            for term, way in zip(terms, found, strict=True)
        ]

    def _corrected(self, outcomes: Sequence[OutcomeEffects]) -> list[OutcomeEffects]:
        """The outcomes with p corrected over all effects of the group, and over all its mediations."""
        for_effects = iter(benjamini_hochberg([e.p for outcome in outcomes for e in outcome.effects]))
        for_ways = iter(benjamini_hochberg([way.p for outcome in outcomes for way in outcome.mediations]))
        return [
            replace(
                outcome,
                effects=tuple(_judged(effect, next(for_effects)) for effect in outcome.effects),
                mediations=tuple(_judged(way, next(for_ways)) for way in outcome.mediations),
            )
            for outcome in outcomes
        ]


def _judged(found: Found, p: float) -> Found:
    return replace(found, p_adjusted=p, significant=p < ALPHA)
