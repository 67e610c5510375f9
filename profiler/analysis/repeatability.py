"""Says how far figures scatter when the same training is repeated, and compares repetitions with each other (A/A)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from profiler.analysis.columns import Array
from profiler.analysis.compare import compare_rows
from profiler.analysis.comparison import Comparison
from profiler.analysis.identity import board_of, gpu_of, setting_of, values_of
from profiler.analysis.libraries import library
from profiler.analysis.outcomes import METRIC, TOTAL, nulls_text, unit_of, value
from profiler.analysis.results import LEVEL, Figure
from profiler.analysis.selection import Row, Rows, by_model, mode_of, select

COLUMNS = (
    "cpu_package_energy_j",
    "dram_energy_j",
    "gpu_energy_j",
    TOTAL,
    "gpu_energy_training_j",
    "gpu_power_mean_w",
    "duration_s",
    "training_s",
    METRIC,
)


@dataclass(frozen=True)
class Variation:
    """How far one figure scatters. `cv_percent`: standard deviation in percent of the mean, pooled over the sets of
    identical runs by their degrees of freedom, with its 95 % interval (chi-squared). `runs` in `sets` entered.
    `reason`: why there is none, None where there is."""

    column: str
    unit: str
    cv_percent: Figure | None
    runs: int
    sets: int
    reason: str | None = None


@dataclass(frozen=True)
class ModelRepeatability:
    """One model in one mode. `sets`: sets of values that were trained more than once on the same node and GPU."""

    repo: str
    model: str
    mode: str
    runs: int
    sets: int
    figures: tuple[Variation, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Repeatability:
    """Every model and mode. `reason`: why no figure is known at all, None where one is."""

    models: tuple[ModelRepeatability, ...]
    runs: int
    used: int
    excluded: dict[str, int] = field(default_factory=dict)
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Nested dicts and numbers, ready for `json.dumps`."""
        return asdict(self)


def repeatability(rows: Rows, *, safe_only: bool = True) -> Repeatability:
    """The coefficients of variation over runs with the same model, mode, background, values, node and GPU (by UUID)."""
    chosen = select(rows, safe_only=safe_only)
    models = tuple(
        _model(repo, model, mode, here)
        for (repo, model), group in by_model(chosen.rows).items()
        for mode in ("solo", "parallel")
        if (here := [row for row in group if mode_of(row) == mode])
    )
    reason = None
    if not models:
        reason = chosen.nothing
    elif all(model.reason is not None for model in models):
        reason = "no training was repeated with the same values"
    return Repeatability(models, chosen.given, len(chosen.rows), dict(chosen.excluded), reason)


def a_against_a(rows: Rows, *, safe_only: bool = True) -> Comparison:
    """Repetitions compared with each other: of each set of identical runs every other one is A, the rest B.

    Whatever this calls different is a false alarm, or a drift between runs that should be the same."""
    halves: tuple[list[Row], list[Row]] = [], []
    for group in _sets(select(rows, safe_only=safe_only).rows):
        even = group[: len(group) // 2 * 2]
        halves[0].extend(even[0::2])
        halves[1].extend(even[1::2])
    return compare_rows(*halves, names=("every first repetition", "every second repetition"), safe_only=safe_only)


def _sets(rows: Sequence[Row]) -> list[list[Row]]:
    """Runs that are the same training, in order of their start, together; only sets of two and more."""
    sets: dict[object, list[Row]] = {}
    for row in sorted(rows, key=lambda row: str(row.get("started_at"))):
        key = (setting_of(row), gpu_of(row), board_of(row), row.get("node_id"), values_of(row))
        sets.setdefault(key, []).append(row)
    return [group for group in sets.values() if len(group) > 1]


def _model(repo: str, model: str, mode: str, rows: Sequence[Row]) -> ModelRepeatability:
    sets = _sets(rows)
    if not sets:
        return ModelRepeatability(repo, model, mode, len(rows), 0, reason="no two runs have the same values")
    figures = tuple(_variation(column, sets) for column in COLUMNS)
    return ModelRepeatability(repo, model, mode, len(rows), len(sets), figures)


def _variation(column: str, sets: Sequence[Sequence[Row]]) -> Variation:
    known = [np.array([v for row in group if (v := value(row, column)) is not None]) for group in sets]
    known = [values for values in known if len(values) > 1]
    runs, unit = sum(map(len, known)), unit_of(column)
    if not known:
        nulls = nulls_text([row for group in sets for row in group], column)
        return Variation(column, unit, None, runs, 0, nulls)
    if any(values.mean() <= 0 for values in known):
        return Variation(column, unit, None, runs, len(known), "a mean is not above zero, so there is no percentage")
    return Variation(column, unit, _pooled(known), runs, len(known))


def _pooled(sets: Sequence[Array]) -> Figure:
    freedom = sum(len(values) - 1 for values in sets)
    squares = sum((len(values) - 1) * (values.std(ddof=1) / values.mean()) ** 2 for values in sets)
    cv = 100 * math.sqrt(squares / freedom)
    chi2 = library("scipy.stats").chi2
    low, high = (cv * math.sqrt(freedom / chi2.ppf(p, freedom)) for p in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    return Figure(cv, float(low), float(high))
