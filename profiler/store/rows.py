"""Translates rows between Python dicts with typed values and Arrow. It touches no file.

A row of `runs` leaves here complete: every declared column is there, every null has a reason, nothing is NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from profiler._version import __version__
from profiler.store.schema import RUNS, Column, Table, arrow_schema

IDENTITY = ("run_id", "session_id", "experiment_id", "attempt", "is_final", "repo", "model", "mode", "verdict")
_NON_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_UNEXPLAINED = {"extra", "null_reasons"}
OLDER_SCHEMA = "older_schema"


def value_to_json(value: Any) -> str:
    """JSON text of one hyperparameter value: floats round-trip bit for bit, integers and booleans keep their type.

    NaN and the infinities, which JSON lacks, become the strings "NaN", "Infinity", "-Infinity"."""
    if isinstance(value, float) and not math.isfinite(value):
        value = _NON_FINITE[repr(value)]
    return json.dumps(value, ensure_ascii=False, default=str)


def complete_run(row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` with every column of `runs`: fields without a column go to `extra`, numbers that are not finite become
    null, and every null has a reason. ValueError when the row does not say whose it is or what became of it."""
    missing = [name for name in IDENTITY if row.get(name) is None]
    if missing:
        raise ValueError(f"a row of runs without {', '.join(missing)}: {dict(row)!r}")
    whole = {column.name: row.get(column.name) for column in RUNS}
    reasons = dict(row.get("null_reasons") or {})
    for column in RUNS:
        _drop_non_finite(whole, column, reasons)
    known = set(RUNS.names)
    whole["extra"] = {**(row.get("extra") or {}), **{k: v for k, v in row.items() if k not in known}}
    if whole["error_message"] is None and whole["valid"]:
        whole["error_message"] = ""
    whole["tool_version"] = whole["tool_version"] or __version__
    whole["index"] = whole["index"] or _index(row["run_id"])
    for name, value in whole.items():
        if value is None and name not in _UNEXPLAINED:
            reasons.setdefault(name, _reason(name, whole))
    whole["null_reasons"] = {name: reason for name, reason in reasons.items() if whole.get(name) is None}
    return whole


def _index(run_id: str) -> int | None:
    number = run_id.rpartition("-")[2]
    return int(number) if number.isdigit() else None


def _drop_non_finite(row: dict[str, Any], column: Column, reasons: dict[str, str]) -> None:
    value = row[column.name]
    if isinstance(value, float) and not math.isfinite(value):
        row[column.name] = None
        reasons.setdefault(column.name, "not_finite")
    elif value is not None and pa.types.is_map(column.type) and pa.types.is_floating(column.type.item_type):
        row[column.name] = {name: number for name, number in value.items() if _is_finite(number)}
        for name in set(value) - set(row[column.name]):
            reasons.setdefault(f"{column.name}.{name}", "not_finite" if value[name] is not None else "missing")


def _is_finite(number: float | None) -> bool:
    return number is not None and math.isfinite(number)


def _reason(name: str, row: Mapping[str, Any]) -> str:
    """The reason that follows from the row itself where its maker gave none."""
    of_a_pair = name.startswith("background_") or name in ("sharing", "mps_active_thread_percent")
    if of_a_pair and row.get("background_repo") is None:
        return "no_background"
    if name.endswith("mps_active_thread_percent") and row.get("sharing") == "time_slice":
        return "not_mps"
    if name == "signal" and row.get("exit_code") is not None:
        return "not_signalled"
    if name == "exit_code" and row.get("signal") is not None:
        return "ended_by_signal"
    if name in ("timeout_seconds", "cpus", "seed"):
        return "not_set"
    if name == "background_checkout":
        return "no_checkout"
    if name in ("checkout", "checkout_commit"):
        return "not_under_git" if row.get("checkout") is not None else "no_checkout"
    if name == "imported_figures":
        return "not_imported"
    return "not_recorded"


def not_run(plan_row: Mapping[str, Any]) -> dict[str, Any]:
    """The row that stands for a planned run without any attempt: planned fields, the rest null because `not_run`."""
    whole = {column.name: plan_row.get(column.name) for column in RUNS}
    whole["null_reasons"] = {
        name: "not_run" for name, value in whole.items() if value is None and name not in _UNEXPLAINED
    }
    whole["extra"] = {}
    return whole


def to_arrow(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table of the declared schema. TypeError names the column whose value does not fit its type."""
    schema = arrow_schema(table)
    return pa.Table.from_arrays(
        [_array(column, [row.get(column.name) for row in rows]) for column in table], schema=schema
    )


def _array(column: Column, values: list[Any]) -> pa.Array:
    try:
        return pa.array([_encode(column, value) for value in values], type=column.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise TypeError(f"column {column.name} ({column.type}): {error}") from error


def _encode(column: Column, value: Any) -> Any:
    if value is None:
        return None
    if column.json_values and pa.types.is_list(column.type):
        return [value_to_json(item) for item in value]
    if column.json_values:
        return [(str(name), value_to_json(item)) for name, item in value.items()]
    if pa.types.is_map(column.type):
        return list(value.items())
    if pa.types.is_list(column.type):
        return list(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, bool) and not pa.types.is_boolean(column.type):
        raise TypeError(f"{value!r} is a truth value")
    return value


def from_arrow(table: Table, data: pa.Table) -> list[dict[str, Any]]:
    """Rows as dicts with every declared column and typed values: maps are real dicts, times are aware datetimes in UTC.

    Columns that an older file lacks are null; a row of `runs` says so in its null_reasons."""
    columns = {column.name: _decode_all(column, data) for column in table}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [_explained(row) for row in rows] if table is RUNS else rows


def _explained(row: dict[str, Any]) -> dict[str, Any]:
    """Every null of a row has a reason when it is written, so one without is of a column that came later."""
    known = row["null_reasons"] or {}
    later = [name for name, value in row.items() if value is None and name not in known and name not in _UNEXPLAINED]
    return {**row, "null_reasons": {**known, **dict.fromkeys(later, OLDER_SCHEMA)}} if later else row


def _decode_all(column: Column, data: pa.Table) -> list[Any]:
    index = data.schema.get_field_index(column.name)
    if index < 0:
        return [None] * data.num_rows
    values: list[Any] = data.column(index).to_pylist()
    decode = _decoder(column)
    return values if decode is None else [None if value is None else decode(value) for value in values]


def _decoder(column: Column) -> Callable[[Any], Any] | None:
    """What makes a typed value of one that Arrow gives; None where that one is typed already."""
    if column.json_values and pa.types.is_list(column.type):
        return lambda texts: [json.loads(text) for text in texts]
    if column.json_values:
        return lambda pairs: {name: json.loads(text) for name, text in pairs}
    if pa.types.is_map(column.type):
        return lambda pairs: {name: _plain(item) for name, item in pairs}
    return _plain if pa.types.is_timestamp(column.type) else None


def _plain(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def to_json(value: Any) -> Any:
    """A row, or any part of one, with times as ISO 8601 text: ready for `json.dumps`."""
    if isinstance(value, datetime):
        return timestamp_text(value)
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return _NON_FINITE[repr(value)]
    return value


def timestamp_text(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds, the same text wherever the moment is shown."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
