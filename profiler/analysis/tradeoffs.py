"""Weighs energy against the primary metric: the Pareto front of runs, what saving energy costs. It fits nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from profiler.analysis.identity import by_gpu
from profiler.analysis.outcomes import METRIC, TOTAL, nulls_text, value
from profiler.analysis.results import Effect, OutcomeEffects, Tradeoff
from profiler.analysis.selection import Row, Rows, SoloOrParallel, by_model, mode_of, select
from profiler.analysis.workload import ModelFacts, facts_of
from profiler.workloads import Catalog

Direction = Literal["maximize", "minimize"]

ENERGY_CHOICE = (TOTAL, "gpu_energy_j", "cpu_energy_total_j", "cpu_package_energy_j")
"""Which energy a trade-off is about: the first that the runs know."""


@dataclass(frozen=True)
class Point:
    """One run. `on_front`: no other run of the group used less energy without a worse metric, nor had a better metric
    without more energy."""

    run_id: str
    experiment_id: str
    energy_j: float
    metric: float
    on_front: bool


@dataclass(frozen=True)
class Front:
    """The runs of one model in one mode, by energy. `direction`: whether a high or a low metric is the better one.
    `left_out`: runs without one of both figures, and why. `reason`: why there is no front, else None. `gpu`: the GPU
    model they ran on, where the runs of this model have been on several, else ""."""

    repo: str
    model: str
    mode: SoloOrParallel
    energy_column: str
    metric_name: str | None
    direction: Direction | None
    points: tuple[Point, ...] = ()
    left_out: str = ""
    reason: str | None = None
    gpu: str = ""

    def to_json(self) -> dict[str, Any]:
        """Ready for `json.dumps`."""
        return asdict(self)


def pareto_front(
    rows: Rows, catalog: Catalog | None = None, *, energy: str = TOTAL, safe_only: bool = True
) -> tuple[Front, ...]:
    """A front for each model, mode (solo, parallel) and GPU model that has usable runs. `energy`: a column in joules,
    or total_energy_j. The catalog says which direction of the metric is better."""
    fronts = []
    for (repo, model), group in by_model(select(rows, safe_only=safe_only).rows).items():
        for mode in ("solo", "parallel"):
            facts = facts_of(catalog, repo, model)
            for gpu, here in by_gpu(row for row in group if mode_of(row) == mode).items():
                fronts.append(replace(_front(repo, model, mode, here, facts, energy), gpu=gpu))
    return tuple(fronts)


def _front(repo: str, model: str, mode: SoloOrParallel, rows: Sequence[Row], facts: ModelFacts, energy: str) -> Front:
    name = facts.metric_name or next((row["primary_metric"] for row in rows if row.get("primary_metric")), None)
    known = [row for row in rows if value(row, energy) is not None and value(row, METRIC) is not None]
    missing = "; ".join(filter(None, (nulls_text(rows, energy), nulls_text(rows, METRIC))))
    reason = None
    if facts.direction is None:
        reason = "nothing says whether a high or a low metric is the better one"
    elif not known:
        reason = missing
    points = () if reason else _points(known, energy, facts.direction)
    return Front(repo, model, mode, energy, name, facts.direction, points, missing, reason)


def _points(rows: Sequence[Row], energy: str, direction: Direction | None) -> tuple[Point, ...]:
    sign = -1 if direction == "maximize" else 1
    figures = [(value(row, energy) or 0.0, value(row, METRIC) or 0.0, row) for row in rows]
    figures.sort(key=lambda figure: (figure[0], sign * figure[1]))
    points, best = list[Point](), float("inf")
    for joules, metric, row in figures:
        equal = bool(points) and points[-1].on_front and (points[-1].energy_j, points[-1].metric) == (joules, metric)
        on_front = sign * metric < best or equal
        best = min(best, sign * metric)
        points.append(Point(row["run_id"], row["experiment_id"], joules, metric, on_front))
    return tuple(points)


def tradeoffs(outcomes: Sequence[OutcomeEffects], facts: ModelFacts) -> tuple[tuple[Tradeoff, ...], str]:
    """What each term that shows an effect on energy does to the metric; and why there are none, "" where there are."""
    done = {outcome.outcome: outcome for outcome in outcomes if outcome.reason is None}
    energy = next((done[name] for name in ENERGY_CHOICE if name in done), None)
    metric = next((outcome for outcome in done.values() if outcome.is_metric), None)
    if facts.direction is None:
        return (), "no trade-offs: nothing says whether a high or a low metric is the better one"
    if energy is None or metric is None:
        return (), "no trade-offs: they need effects on an energy and on the primary metric"
    on_metric = {effect.term: effect for effect in metric.effects}
    pairs = [(effect, on_metric[effect.term]) for effect in energy.effects if effect.term in on_metric]
    return tuple(_tradeoff(energy, metric, *pair, facts.direction) for pair in pairs if pair[0].significant), ""


def _tradeoff(
    energy: OutcomeEffects, metric: OutcomeEffects, on_energy: Effect, on_metric: Effect, direction: Direction
) -> Tradeoff:
    saving = -1.0 if on_energy.slope.value > 0 else 1.0  # the direction of the term that lowers the energy
    change = on_metric.standardised.scaled(saving * (metric.sd or 0.0))
    return Tradeoff(
        hyperparameter=on_energy.hyperparameter,
        term=on_energy.term,
        change=_change(on_energy, saving),
        energy_column=energy.outcome,
        energy=on_energy.standardised.scaled(saving * (energy.sd or 0.0)),
        energy_percent=on_energy.percent.scaled(saving) if on_energy.percent else None,
        metric_name=metric.outcome,
        metric=change,
        kind=_kind(change.value if direction == "maximize" else -change.value, significant=on_metric.significant),
    )


def _change(effect: Effect, saving: float) -> str:
    before, arrow, after = effect.per.partition(" -> ")
    if not arrow:
        return "raise" if saving > 0 else "lower"
    return effect.per if saving > 0 else f"{after} -> {before}"


def _kind(better: float, *, significant: bool) -> str:
    if not significant:
        return "saves energy, no difference in quality found"
    return "saves energy, improves quality" if better > 0 else "saves energy, costs quality"
