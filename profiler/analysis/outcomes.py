"""Names the figures that an analysis explains, and reads them from a row with the reason where one is missing.

It computes one thing only: the total energy of a row whose parts are all known.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from profiler.analysis.selection import Row

TOTAL = "total_energy_j"
METRIC = "primary_metric_value"

ENERGIES = ("cpu_package_energy_j", "dram_energy_j", "gpu_energy_j", "gpu_energy_foreground_j", TOTAL)
OUTCOMES = (*ENERGIES, "duration_s", METRIC)
MEDIATORS = ("gpu_util_mean_percent", "gpu_temp_mean_c", "gpu_power_mean_w", "duration_s")

_PARTS_OF_TOTAL = ("cpu_energy_total_j", "gpu_energy_j")
_UNITS = {"_j": "J", "_s": "s", "_w": "W", "_c": "deg C", "_percent": "%", "_mib": "MiB"}


def unit_of(column: str) -> str:
    """The unit that a column's name ends with; "" where it has none."""
    return next((unit for ending, unit in _UNITS.items() if column.endswith(ending)), "")


def value(row: Row, column: str) -> float | None:
    """The row's finite figure, or None. The total is known only where both its parts are."""
    if column == TOTAL:
        parts = [value(row, part) for part in _PARTS_OF_TOTAL]
        known = [part for part in parts if part is not None]
        return math.fsum(known) if len(known) == len(parts) else None
    found: Any = row.get(column)
    return float(found) if isinstance(found, int | float) and math.isfinite(found) else None


def null_reason(row: Row, column: str) -> str:
    """Why `value` is None."""
    reasons: Mapping[str, str] = row.get("null_reasons") or {}
    if column == TOTAL:
        missing = [part for part in _PARTS_OF_TOTAL if value(row, part) is None]
        return ", ".join(f"{part}: {reasons.get(part, 'not recorded')}" for part in missing)
    return reasons.get(column, "not recorded")


def null_reasons(rows: Sequence[Row], column: str) -> dict[str, int]:
    """Reason -> how many of the rows lack the figure for it, the most frequent first."""
    counts = Counter(null_reason(row, column) for row in rows if value(row, column) is None)
    return dict(counts.most_common())


def nulls_text(rows: Sequence[Row], column: str) -> str:
    """`null_reasons` in words, such as "no_gpu in 3 of 12 runs"; "" where every row has the figure."""
    found = null_reasons(rows, column)
    if list(found.values()) == [len(rows)]:
        return f"{next(iter(found))} in every run"
    return "; ".join(f"{reason} in {count} of {len(rows)} runs" for reason, count in found.items())
