"""Says which runs are the same training: model, mode, background, device, and every value. Pure.

Values are the effective ones; where the trainer did not tell them, those that were asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from profiler.analysis.selection import Row, SoloOrParallel, mode_of


@dataclass(frozen=True, order=True)
class Setting:
    """What is trained: the model, alone (`background` is "") or beside a background, with how that shares the GPU."""

    repo: str
    model: str
    mode: SoloOrParallel
    background: str


def setting_of(row: Row) -> Setting:
    return Setting(str(row["repo"]), str(row["model"]), mode_of(row), background_of(row))


def background_of(row: Row) -> str:
    """The background's repository and model, with how it was there if not in the usual way; "" of a solo run."""
    if mode_of(row) == "solo":
        return ""
    return f"{row.get('background_repo')}/{row.get('background_model')}{beside_how(row)}"


def beside_how(row: Row) -> str:
    """In which other way than the usual one (a loop of trainings, in time slices) a background was there: such runs
    are no repetitions of the others."""
    reuse = ", reuse" if row.get("background_mode") == "reuse" else ""
    limits = sm_percents(row)
    limited = any(limit not in (None, 100.0) for limit in limits)
    threads = f" {limits[0]:g} % and {limits[1]:g} % of the SMs" if limited else ""
    return reuse + (f", MPS{threads}" if row.get("sharing") == "mps" else "")


def sm_percents(row: Row) -> tuple[float | None, float | None]:
    """The share of the SMs that foreground and background may use under MPS."""
    return row.get("mps_active_thread_percent"), row.get("background_mps_active_thread_percent")


def gpu_of(row: Row) -> str | None:
    """Product name of the run's GPU, None where it had none."""
    name = row.get("gpu_name")
    return None if name is None else str(name)


def boards_of(rows: Iterable[Row]) -> set[str]:
    """UUIDs of all GPUs that these runs were on. Boards of one model take different energy for the same work."""
    return {str(uuid) for row in rows for uuid in row.get("gpu_uuids") or [row.get("gpu_uuid")] if uuid}


def board_of(row: Row) -> str:
    """UUID of the run's GPU, of each where it had several; "none" where it had none or nobody wrote it down."""
    return ", ".join(sorted(boards_of([row]))) or "none"


def by_gpu(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Runs by the product name of their GPU, so that figures of different devices are never mixed. Where all have the
    same one there is one entry, called ""."""
    everyone = list(rows)
    sets: dict[str, list[Row]] = {}
    for row in everyone:
        sets.setdefault(gpu_of(row) or "no GPU", []).append(row)
    if len(sets) > 1:
        return dict(sorted(sets.items()))
    return {"": everyone} if everyone else {}


def values_of(row: Row) -> str:
    """The complete values of the run and of its background, as text that is equal where they are."""
    own: Any = row.get("hyperparameters") or row.get("requested_hyperparameters") or {}
    beside: Any = row.get("background_hyperparameters") or {}
    return json.dumps([own, beside], sort_keys=True, default=str)


def by_values(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Runs with the same values together, in the order in which they come."""
    sets: dict[str, list[Row]] = {}
    for row in rows:
        sets.setdefault(values_of(row), []).append(row)
    return sets
