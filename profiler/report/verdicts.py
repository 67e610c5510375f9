"""Every attempt's verdict with its evidence, and how often each reason holds. Pure; it judges nothing anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler.report.groups import STATES, state_of
from profiler.verdict import REASONS

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ReasonCount:
    """A reason, what it means, and in how many attempts it holds."""

    name: str
    level: str
    meaning: str
    attempts: int


@dataclass(frozen=True)
class Entry:
    """One attempt, or a planned run that has none (`attempt` None). `reasons`: (name, level, evidence)."""

    experiment_id: str
    attempt: int | None
    state: str
    values: Mapping[str, Any]
    duration_s: float | None
    gpu_energy_j: float | None
    cpu_energy_j: float | None
    metric: float | None
    metric_name: str | None
    reasons: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Verdicts:
    """`entries` by state in the order of `listed`, each state's in plan order."""

    counts: tuple[ReasonCount, ...]
    entries: Mapping[str, tuple[Entry, ...]]


LISTED = ("failed", "contaminated", "retried", "unfinished", "not run", "safe")
"""What a reader looks for first comes first. retried: an attempt after which another one followed."""


def verdicts(rows: Sequence[Row], attempts: Sequence[Row]) -> Verdicts:
    """`rows`: one a planned run; `attempts`: every attempt."""
    speaking = {(row["run_id"], row["attempt"]) for row in rows}
    found: dict[str, list[Entry]] = {name: [] for name in LISTED}
    for row in rows:
        found[state_of(row)].append(_entry(row, state_of(row)))
    for row in attempts:
        if (row["run_id"], row["attempt"]) not in speaking:
            found["retried"].append(_entry(row, str(row["verdict"])))
    assert set(found) >= set(STATES)
    return Verdicts(_counts(attempts), {name: tuple(entries) for name, entries in found.items()})


def _counts(attempts: Iterable[Row]) -> tuple[ReasonCount, ...]:
    counts = Counter(reason for row in attempts for reason in row["reasons"] or ())
    strangers = [name for name in counts if name not in REASONS]
    known = [ReasonCount(name, REASONS[name].level, REASONS[name].meaning, counts[name]) for name in REASONS]
    unknown = [ReasonCount(name, "unknown", "not a reason of this version", counts[name]) for name in strangers]
    return tuple(entry for entry in (*known, *unknown) if entry.attempts)


def _entry(row: Row, state: str) -> Entry:
    evidence = row["evidence"] or {}
    return Entry(
        experiment_id=row["experiment_id"],
        attempt=row["attempt"],
        state=state,
        values=shown_values(row),
        duration_s=row["duration_s"],
        gpu_energy_j=row["gpu_energy_j"],
        cpu_energy_j=row["cpu_package_energy_j"],
        metric=row["primary_metric_value"],
        metric_name=row["primary_metric"],
        reasons=tuple((name, level_of(name), evidence.get(name, "")) for name in row["reasons"] or ()),
    )


def level_of(reason: str) -> str:
    return REASONS[reason].level if reason in REASONS else "unknown"


def shown_values(row: Row) -> Mapping[str, Any]:
    """The mutated values, or all where none was mutated; effective ones where known, else the requested."""
    values: Mapping[str, Any] = row["hyperparameters"] or row["requested_hyperparameters"] or {}
    names = [name for name in row["mutated"] or () if name in values] or list(values)
    return {name: values[name] for name in names}
