"""How the figures came about: sources, gaps between two paths, uncertainty, reasons for nulls, devices. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler.report.groups import gather, null_reasons
from profiler.report.numbers import Spread, spread
from profiler.store.schema import RUNS

Row = Mapping[str, Any]

FIGURES = tuple(
    column.name
    for column in RUNS
    if column.name.startswith(("gpu_energy", "gpu_power", "gpu_temp", "gpu_util", "gpu_memory", "cpu_package", "dram"))
    or column.name in ("cpu_energy_total_j", "gpu_counter_integral_gap_percent", "background_busy_share")
)


@dataclass(frozen=True)
class Source:
    """One way in which `column` was measured in `runs` attempts; `example` is the text of one of them."""

    column: str
    way: str
    runs: int
    example: str


@dataclass(frozen=True)
class Missing:
    """A measured column that is null in some attempts, and why."""

    column: str
    unit: str
    null: int
    of: int
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Uncertainty:
    """+- at the window's edges of `column`: in J, and in percent of the figure."""

    column: str
    joules: Spread
    percent: Spread | None


@dataclass(frozen=True)
class Device:
    """A node and GPU that executed attempts."""

    host: str
    gpu_name: str
    gpu_uuid: str
    attempts: int


@dataclass(frozen=True)
class Measured:
    """All of it, over the attempts that ended."""

    attempts: int
    sources: tuple[Source, ...]
    missing: tuple[Missing, ...]
    uncertainties: tuple[Uncertainty, ...]
    gap_percent: Spread | None
    samples: int
    samples_missed: int
    rates_hz: tuple[float, ...]
    devices: tuple[Device, ...]
    effective_sources: tuple[tuple[str, int], ...]
    containments: tuple[tuple[str, int], ...]
    cooling_s: Spread | None
    cooling_proven: int
    tool_versions: tuple[str, ...]


def measured(attempts: Sequence[Row]) -> Measured:
    return Measured(
        attempts=len(attempts),
        sources=tuple(_sources(attempts)),
        missing=tuple(_missing(attempts)),
        uncertainties=tuple(_uncertainties(attempts)),
        gap_percent=spread(row["gpu_counter_integral_gap_percent"] for row in attempts),
        samples=sum(row["samples"] or 0 for row in attempts),
        samples_missed=sum(row["samples_missed"] or 0 for row in attempts),
        rates_hz=tuple(sorted({row["sampling_rate_hz"] for row in attempts if row["sampling_rate_hz"] is not None})),
        devices=tuple(_devices(attempts)),
        effective_sources=_counted(attempts, "effective_source"),
        containments=_counted(attempts, "containment"),
        cooling_s=spread(row["cooling_s"] for row in attempts),
        cooling_proven=sum(row["cooling_idle_proven"] is True for row in attempts),
        tool_versions=tuple(sorted({row["tool_version"] for row in attempts if row["tool_version"]})),
    )


def _counted(rows: Sequence[Row], column: str) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(row[column] if row[column] is not None else "not recorded" for row in rows).most_common())


def _sources(rows: Sequence[Row]) -> Iterable[Source]:
    """Source texts that differ in their figures only are one way."""
    found = gather(
        ({"column": column, "text": text} for row in rows for column, text in (row["energy_sources"] or {}).items()),
        lambda entry: (entry["column"], re.sub(r"\d+(?:\.\d+)?", "#", entry["text"])),
    )
    for (column, way), texts in sorted(found.items()):
        yield Source(column, way, len(texts), texts[0]["text"])


def _missing(rows: Sequence[Row]) -> Iterable[Missing]:
    for column in FIGURES:
        null = sum(row[column] is None for row in rows)
        if null:
            yield Missing(column, RUNS.column(column).unit, null, len(rows), null_reasons(rows, column))


def _uncertainties(rows: Sequence[Row]) -> Iterable[Uncertainty]:
    pairs = [(column, value, row) for row in rows for column, value in (row["energy_uncertainty_j"] or {}).items()]
    for column in sorted({column for column, _, _ in pairs}):
        own = [(value, row.get(column)) for name, value, row in pairs if name == column]
        joules = spread(value for value, _ in own)
        if joules is not None:
            yield Uncertainty(column, joules, spread(100 * value / whole for value, whole in own if whole))


def _devices(rows: Sequence[Row]) -> Iterable[Device]:
    known = [row for row in rows if row["host"] is not None or row["gpu_uuid"] is not None]
    kinds = gather(known, lambda row: (row["host"] or "not recorded", row["gpu_name"] or "", row["gpu_uuid"] or ""))
    for (host, name, uuid), members in sorted(kinds.items()):
        yield Device(host, name or "no GPU", uuid, len(members))
