"""Counts, totals and spreads: of the session, and of each model and mode. Pure; rows in, frozen values out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler.analysis.identity import by_gpu
from profiler.report.numbers import Spread, difference_percent, spread

Row = Mapping[str, Any]

STATES = ("safe", "contaminated", "failed", "unfinished", "not run")
"""What became of a planned run. unfinished: it has an attempt, but none that is final."""

ENERGIES = (
    ("gpu_energy_j", "GPU energy"),
    ("cpu_package_energy_j", "CPU package energy"),
    ("dram_energy_j", "DRAM energy"),
)
COMPARED = (
    *((column, label, "J") for column, label in ENERGIES),
    ("gpu_power_mean_w", "mean GPU power", "W"),
    ("duration_s", "duration", "s"),
)


def state_of(row: Row) -> str:
    """One of STATES."""
    if row["verdict"] is None:
        return "not run"
    if not row["is_final"]:
        return "unfinished"
    return "safe" if row["safe"] else str(row["verdict"])


def count_states(rows: Iterable[Row]) -> dict[str, int]:
    counts = Counter(state_of(row) for row in rows)
    return {state: counts[state] for state in STATES}


@dataclass(frozen=True)
class Total:
    """The sum of one energy column over some rows, in J: `known` of `of` rows have it. None where no row has."""

    label: str
    sum_j: float | None
    known: int
    of: int
    reasons: tuple[tuple[str, int], ...]


def total(rows: Sequence[Row], column: str, label: str) -> Total:
    known = [row[column] for row in rows if row[column] is not None]
    return Total(label, sum(known) if known else None, len(known), len(rows), null_reasons(rows, column))


def null_reasons(rows: Iterable[Row], column: str) -> tuple[tuple[str, int], ...]:
    """Why `column` is null, and in how many rows, most frequent first."""
    counts = Counter((row["null_reasons"] or {}).get(column, "not_recorded") for row in rows if row[column] is None)
    return tuple(counts.most_common())


@dataclass(frozen=True)
class Totals:
    """Energies over four selections of rows; `training_s` is the time they trained."""

    name: str
    runs: int
    training_s: float
    energies: tuple[Total, ...]


def totals(name: str, rows: Sequence[Row]) -> Totals:
    training_s = sum(row["duration_s"] for row in rows if row["duration_s"] is not None)
    return Totals(name, len(rows), training_s, tuple(total(rows, column, label) for column, label in ENERGIES))


@dataclass(frozen=True)
class Compared:
    """One figure of a group over its valid runs and over its safe runs. `difference_percent`: mean of the valid ones
    against mean of the safe ones."""

    label: str
    unit: str
    valid: Spread | None
    safe: Spread | None

    @property
    def difference_percent(self) -> float | None:
        return difference_percent(self.valid.mean, self.safe.mean) if self.valid and self.safe else None


@dataclass(frozen=True)
class Group:
    """The runs of one model in one mode. `gpu`: the GPU model they ran on, where those of this model and mode have been
    on several, else "": figures of different devices are never mixed."""

    repo: str
    model: str
    mode: str
    gpu: str
    states: Mapping[str, int]
    figures: tuple[Compared, ...]
    reasons: Mapping[str, tuple[tuple[str, int], ...]]
    """Energy column -> why it is null in valid runs."""

    @property
    def name(self) -> str:
        return f"{self.repo} / {self.model}" + (f" on {self.gpu}" if self.gpu else "")

    @property
    def planned(self) -> int:
        return sum(self.states.values())

    def compared(self, label: str) -> Compared:
        return next(entry for entry in self.figures if entry.label == label)


def groups_of(rows: Sequence[Row]) -> tuple[Group, ...]:
    """One group for each repository, model, mode and GPU model, by name."""
    kinds = gather(rows, lambda row: (row["repo"], row["model"], row["mode"]))
    return tuple(
        _group(kind, gpu, members)
        for kind, everyone in sorted(kinds.items())
        for gpu, members in _by_gpu(everyone).items()
    )


def _by_gpu(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """As `by_gpu`; runs that have not been anywhere stand by themselves only where there are several kinds of GPU."""
    if len({row["gpu_name"] for row in rows if row["verdict"] is not None}) < 2:
        return {"": list(rows)}
    idle = [row for row in rows if row["verdict"] is None]
    return {**by_gpu(row for row in rows if row["verdict"] is not None), **({"no GPU yet": idle} if idle else {})}


def gather(rows: Iterable[Row], key: Callable[[Row], tuple[str, ...]]) -> dict[tuple[str, ...], list[Row]]:
    """Rows by key, in the order in which they come."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def _group(kind: tuple[str, ...], gpu: str, rows: Sequence[Row]) -> Group:
    valid = [row for row in rows if row["is_final"] and row["valid"]]
    safe = [row for row in valid if row["safe"]]
    figures = [_compared(label, unit, valid, safe, column) for column, label, unit in COMPARED]
    metrics = {row["primary_metric"] for row in valid if row["primary_metric_value"] is not None}
    if len(metrics) == 1:
        figures.append(_compared(metrics.pop(), "", valid, safe, "primary_metric_value"))
    reasons = {column: null_reasons(valid, column) for column, _ in ENERGIES}
    repo, model, mode = kind
    return Group(repo, model, mode, gpu, count_states(rows), tuple(figures), reasons)


def _compared(label: str, unit: str, valid: Sequence[Row], safe: Sequence[Row], column: str) -> Compared:
    return Compared(label, unit, spread(row[column] for row in valid), spread(row[column] for row in safe))
