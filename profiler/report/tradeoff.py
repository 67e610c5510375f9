"""What a run costs against what it achieves: the points of the charts, with the Pareto front marked. Pure.

The front itself is computed by `profiler.analysis.tradeoffs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from profiler.analysis.identity import by_gpu
from profiler.analysis.outcomes import METRIC, TOTAL, value
from profiler.analysis.selection import by_model, mode_of, select
from profiler.analysis.tradeoffs import ENERGY_CHOICE, pareto_front
from profiler.workloads import Catalog

Row = Mapping[str, Any]
ENERGY_NAMES = {
    TOTAL: "CPU, DRAM and GPU energy",
    "gpu_energy_j": "GPU energy",
    "cpu_energy_total_j": "CPU and DRAM energy",
    "cpu_package_energy_j": "CPU package energy",
}


@dataclass(frozen=True)
class Point:
    """One valid run: energy in J, its primary metric in the metric's own unit."""

    experiment_id: str
    energy_j: float
    metric: float
    safe: bool
    on_front: bool
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Tradeoff:
    """The runs of one model, alone or with a background. `front`: its safe runs that no other safe run beats, by
    energy. `reason` says why there is none."""

    name: str
    metric: str
    direction: Literal["maximize", "minimize"] | None
    energy: str
    points: tuple[Point, ...]
    reason: str | None

    @property
    def front(self) -> list[Point]:
        return sorted((point for point in self.points if point.on_front), key=lambda point: point.energy_j)


def tradeoffs(rows: Sequence[Row], catalog: Catalog | None) -> tuple[tuple[Tradeoff, ...], tuple[str, ...]]:
    """A trade-off for each model, alone and with a background apart (GPU figures cover the whole device), and each GPU
    model apart; and the names of those where no run has both figures. `catalog` says which way a metric is better."""
    found, without = [], []
    for (repo, model), group in by_model(select(rows, safe_only=False).rows).items():
        for mode, company in (("solo", "alone"), ("parallel", "with a background")):
            for gpu, here in by_gpu(row for row in group if mode_of(row) == mode).items():
                name = f"{repo} / {model}, {company}" + (f", on {gpu}" if gpu else "")
                energy = next((column for column in ENERGY_CHOICE if any(_known(row, column) for row in here)), None)
                if energy:
                    found.append(_tradeoff(name, here, energy, catalog))
                else:
                    without.append(name)
    return tuple(found), tuple(without)


def _known(row: Row, energy: str) -> bool:
    return value(row, energy) is not None and value(row, METRIC) is not None


def _tradeoff(name: str, rows: Sequence[Row], energy: str, catalog: Catalog | None) -> Tradeoff:
    fronts = pareto_front(rows, catalog, energy=energy)
    front = fronts[0] if fronts else None
    best = {point.run_id for point in front.points if point.on_front} if front else set()
    known = [row for row in rows if _known(row, energy)]
    return Tradeoff(
        name=name,
        metric=str(known[0]["primary_metric"]),
        direction=front.direction if front else None,
        energy=ENERGY_NAMES[energy],
        points=tuple(_point(row, energy, row["run_id"] in best) for row in known),
        reason=None if best else front.reason if front else "none of these runs is safe",
    )


def _point(row: Row, energy: str, on_front: bool) -> Point:
    values = row["hyperparameters"] or row["requested_hyperparameters"] or {}
    energy_j, metric = value(row, energy) or 0.0, value(row, METRIC) or 0.0
    return Point(row["experiment_id"], energy_j, metric, bool(row["safe"]), on_front, values)
