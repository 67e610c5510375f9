"""Chooses which rows an analysis uses, and counts the others with the reason. It looks at no figure.

Rows are dicts with the columns of `runs`, or a DataFrame of them as `session.runs()` gives it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

Row: TypeAlias = Mapping[str, Any]
Rows: TypeAlias = "Iterable[Row] | pd.DataFrame"
SoloOrParallel = Literal["solo", "parallel"]


@dataclass(frozen=True)
class Selection:
    """The rows that an analysis uses; of how many; and for the others how many were left out why."""

    rows: tuple[Row, ...]
    given: int
    excluded: Mapping[str, int]

    @property
    def nothing(self) -> str:
        """Why no row is left."""
        if not self.given:
            return "there are no runs"
        parts = ", ".join(f"{count} {reason}" for reason, count in self.excluded.items())
        return f"none of {self.given} runs can be used: {parts}"


def select(rows: Rows, *, safe_only: bool = True, effective: bool = False) -> Selection:
    """The final rows of trainings that did not fail. `safe_only`: only uncontaminated ones. `effective`: only those
    whose trainer said which hyperparameter values it used."""
    given = rows_of(rows)
    used, excluded = [], Counter[str]()
    for row in given:
        reason = _left_out(row, safe_only=safe_only, effective=effective)
        if reason:
            excluded[reason] += 1
        else:
            used.append(row)
    return Selection(tuple(used), len(given), dict(excluded))


def _left_out(row: Row, *, safe_only: bool, effective: bool) -> str:
    if row.get("verdict") is None:
        return "not run"
    if not row.get("is_final"):
        return "not final"
    if not row.get("valid"):
        return "failed"
    if safe_only and not row.get("safe"):
        return "not safe"
    if effective and not row.get("hyperparameters"):
        return "without known hyperparameter values"
    return ""


def rows_of(rows: Rows) -> list[Row]:
    """The rows as dicts in which a missing value is None."""
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        import pandas as pd

        return [
            {str(name): None if pd.api.types.is_scalar(v) and pd.isna(v) else v for name, v in row.items()}
            for row in rows.to_dict("records")
        ]
    return list(rows)


def mode_of(row: Row) -> SoloOrParallel:
    """A training alone on its device (modes default and mutation), or beside a background."""
    return "parallel" if row.get("mode") == "parallel" else "solo"


def by_model(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """(repo, model) -> its rows, sorted by name."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((str(row["repo"]), str(row["model"])), []).append(row)
    return dict(sorted(groups.items()))
