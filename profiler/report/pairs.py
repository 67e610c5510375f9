"""What co-location does: each pair of trainings against the same training alone. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler.analysis.identity import beside_how
from profiler.report.groups import gather, null_reasons
from profiler.report.numbers import Spread, spread

Row = Mapping[str, Any]

PARTS = (
    ("gpu_energy_foreground_j", "foreground"),
    ("gpu_energy_background_j", "background"),
    ("gpu_energy_idle_j", "idle"),
    ("gpu_energy_other_j", "others"),
)


@dataclass(frozen=True)
class Part:
    """A part of the GPU's energy: its share of the whole in percent over `known` runs, or why there is none."""

    label: str
    percent: float | None
    known: int
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ColocatedPair:
    """Safe runs of one foreground beside one background. `slowdown` and `gpu_ratio`: duration, and energy of the whole
    GPU, over the mean of safe runs alone with exactly the same effective values; `matched` runs have such ones."""

    foreground: str
    background: str
    runs: int
    safe: int
    matched: int
    duration_s: Spread | None
    gpu_energy_j: Spread | None
    slowdown: Spread | None
    gpu_ratio: Spread | None
    busy_share: Spread | None
    parts: tuple[Part, ...]


def colocated_pairs(rows: Sequence[Row]) -> tuple[ColocatedPair, ...]:
    """One entry for each foreground and background model that were planned together, apart by how."""
    alone = gather((row for row in rows if row["safe"] and row["background_repo"] is None), _vector)
    together = gather((row for row in rows if row["background_repo"] is not None), _models)
    return tuple(_pair(names, members, alone) for names, members in sorted(together.items()))


def _models(row: Row) -> tuple[str, ...]:
    beside = f"{row['background_repo']} / {row['background_model']}{beside_how(row)}"
    return f"{row['repo']} / {row['model']}", beside


def _vector(row: Row) -> tuple[str, ...]:
    """Equal for runs of one model with the same effective values on the same kind of GPU. Unknown values equal none."""
    if row["hyperparameters"] is None:
        return "", row["run_id"]
    values = json.dumps(row["hyperparameters"], sort_keys=True)
    return row["repo"], row["model"], row.get("checkout") or "", row["gpu_name"] or "", row["host"] or "", values


def _pair(names: tuple[str, ...], rows: Sequence[Row], alone: Mapping[tuple[str, ...], Sequence[Row]]) -> ColocatedPair:
    safe = [row for row in rows if row["safe"]]
    twins = [(row, alone[_vector(row)]) for row in safe if _vector(row) in alone]
    return ColocatedPair(
        foreground=names[0],
        background=names[1],
        runs=len(rows),
        safe=len(safe),
        matched=len(twins),
        duration_s=spread(row["duration_s"] for row in safe),
        gpu_energy_j=spread(row["gpu_energy_j"] for row in safe),
        slowdown=spread(_ratio(row, solo, "duration_s") for row, solo in twins),
        gpu_ratio=spread(_ratio(row, solo, "gpu_energy_j") for row, solo in twins),
        busy_share=spread(row["background_busy_share"] for row in safe),
        parts=tuple(_part(safe, column, label) for column, label in PARTS),
    )


def _ratio(row: Row, alone: Sequence[Row], column: str) -> float | None:
    reference = spread(other[column] for other in alone)
    if row[column] is None or reference is None or reference.mean <= 0:
        return None
    return float(row[column] / reference.mean)


def _part(rows: Sequence[Row], column: str, label: str) -> Part:
    known = [row for row in rows if row[column] is not None and row["gpu_energy_j"]]
    whole_j = sum(row["gpu_energy_j"] for row in known)
    percent = 100 * sum(row[column] for row in known) / whole_j if whole_j else None
    return Part(label, percent, len(known), null_reasons(rows, column))
