"""Reads one experiment.json of the older tool, sequential or parallel, into one shape. It judges nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profiler.legacy.cells import is_absent, moment, number, truth
from profiler.store.export import EXPERIMENT_ENERGY

FIGURES = tuple(EXPERIMENT_ENERGY)
"""The names of `energy_metrics`, in the older tool's order."""


@dataclass(frozen=True)
class OldBackground:
    """What a parallel record says of the training beside the measured one."""

    repo: str
    model: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    log_directory: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class OldRecord:
    """One run as an old file tells it. `ended` is local time without a zone. Figures and metrics under old names;
    what is absent or no number is not in them. `document` is the whole of the source, `nested`: repository and model
    stood only in `foreground`."""

    original_id: str
    timestamp: str | None
    repo: str
    model: str
    parallel: bool
    success: bool | None
    retries: int | None
    duration_s: float | None
    hyperparameters: Mapping[str, Any]
    figures: Mapping[str, float]
    metrics: Mapping[str, float]
    error_message: str | None
    background: OldBackground | None
    document: Mapping[str, Any]
    nested: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What tells old runs apart: the id repeats across sessions."""
        return self.original_id, self.timestamp or ""


class BadRecordError(Exception):
    """A file is not a record of the older tool. The text says why."""


def read_record(path: Path) -> OldRecord:
    """The record in `path`. BadRecordError when it is empty, cut short, or no such record."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecordError(f"cannot be read: {error}") from error
    if not text.strip():
        raise BadRecordError("is empty")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRecordError(f"is cut short or no JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadRecordError(f"holds {type(document).__name__}, not a record")
    return record_of(document, path.parent.name)


def record_of(document: Mapping[str, Any], folder_name: str) -> OldRecord:
    """The record in an already parsed `document`. The id defaults to the folder's name."""
    front = document.get("foreground")
    nested = isinstance(front, Mapping)
    body: Mapping[str, Any] = front if isinstance(front, Mapping) else document
    back = document.get("background")
    if not nested and not {"repository", "training_success", "energy_metrics"} & set(body):
        raise BadRecordError("has neither `repository` nor `foreground`: no record of the older tool")
    return OldRecord(
        original_id=str(document.get("experiment_id") or folder_name),
        timestamp=text_of(document.get("timestamp")),
        repo=text_of(body.get("repository")) or "",
        model=text_of(body.get("model")) or "",
        parallel=nested or document.get("mode") == "parallel",
        success=truth(body.get("training_success")),
        retries=_count(body.get("retries")),
        duration_s=number(body.get("duration_seconds")),
        hyperparameters={
            str(name): value for name, value in _map(body, "hyperparameters").items() if value is not None
        },
        figures=_numbers(_map(body, "energy_metrics")),
        metrics=_numbers(_map(body, "performance_metrics")),
        error_message=text_of(body.get("error_message")),
        background=_background(back) if isinstance(back, Mapping) else None,
        document=document,
        nested=nested and not document.get("repository"),
    )


def _background(back: Mapping[str, Any]) -> OldBackground:
    return OldBackground(
        text_of(back.get("repository")) or "",
        text_of(back.get("model")) or "",
        dict(_map(back, "hyperparameters")),
        text_of(back.get("log_directory")),
        text_of(back.get("note")),
    )


def _map(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    return value if isinstance(value, Mapping) else {}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    parsed = {str(name): number(value) for name, value in values.items()}
    return {name: value for name, value in parsed.items() if value is not None}


def _count(value: Any) -> int | None:
    parsed = number(value)
    return int(parsed) if parsed is not None and parsed >= 0 else None


def text_of(value: Any) -> str | None:
    return None if is_absent(value) else str(value)


def seconds_apart(first: str | None, second: str | None) -> float | None:
    """How far two recorded times are apart, in s; None where one of them is no time."""
    one, other = moment(first), moment(second)
    if one is None or other is None or (one.tzinfo is None) != (other.tzinfo is None):
        return None
    return abs((one - other).total_seconds())
