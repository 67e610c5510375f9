"""Chooses and orders rows of `runs` by an SQL expression, over the flat table with hp_* and metric_* columns.

The expression is evaluated by an embedded DuckDB that sees this one table and nothing else: no file, no network, no
setting, and nothing but a condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from profiler.documents import nearest
from profiler.errors import UsageError
from profiler.store.rows import to_arrow, value_to_json
from profiler.store.schema import RUNS

Row = Mapping[str, Any]

_PLACE, _HIT = "_place", "_hit"
_CLOSED = {"enable_external_access": "false", "autoload_known_extensions": "false", "threads": "1"}


def flat_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """`rows` with a further entry hp_<name> for each effective hyperparameter and metric_<name> for each metric that
    occurs in any of them."""
    names = [f"hp_{name}" for name in _names(rows, "hyperparameters")]
    names += [f"metric_{name}" for name in _names(rows, "metrics")]
    return [{**row, **{name: _flat_value(row, name) for name in names}} for row in rows]


def _names(rows: Sequence[Row], column: str) -> list[str]:
    return sorted({name for row in rows for name in row[column] or {}})


def _flat_value(row: Row, name: str) -> Any:
    column = "hyperparameters" if name.startswith("hp_") else "metrics"
    return (row[column] or {}).get(name.partition("_")[2])


def choose(flat: Sequence[Row], where: str | None, sort: Sequence[str]) -> list[int]:
    """Places in `flat` (rows of `flat_rows`) that satisfy `where`, ordered by `sort`: names of columns, with '-' before
    or ':desc' behind for the largest first; nulls come last. UsageError tells what is wrong with either."""
    if not where and not sort:
        return list(range(len(flat)))
    columns = column_names(flat)
    order = [_ordering(key, columns) for key in sort]
    judged = f"select *, (\n{where or 'true'}\n) as {_HIT} from runs"
    query = f"select {_PLACE} from ({judged}) where {_HIT} order by {', '.join([*order, _PLACE])}"
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        connection.register("runs", _table(flat))
        connection.execute("set lock_configuration = true")
        try:
            if len(connection.extract_statements(judged)) != 1:
                raise UsageError(f"--where takes one condition, not {where!r}")
            return [place for (place,) in connection.execute(query).fetchall()]
        except duckdb.Error as error:
            raise UsageError(_told(where or "", error)) from error


def column_names(flat: Sequence[Row]) -> list[str]:
    return list(flat[0]) if flat else list(RUNS.names)


def known_column(name: str, columns: Sequence[str]) -> str:
    """`name` if it is one of `columns`; UsageError with the nearest one otherwise."""
    if name in columns:
        return name
    close = nearest(name, list(columns))
    raise UsageError(f"no column {name!r}" + (f" (did you mean {close!r}?)" if close else "; see docs/dataset.md"))


def _ordering(key: str, columns: Sequence[str]) -> str:
    name, _, word = key.strip().partition(":")
    descending = name.startswith("-") or word.lower() == "desc"
    if word.lower() not in ("", "asc", "desc"):
        raise UsageError(f"--sort {key}: after ':' comes asc or desc, not {word!r}")
    quoted = known_column(name.removeprefix("-"), columns).replace('"', '""')
    return f'"{quoted}" {"desc" if descending else "asc"} nulls last'


def _table(flat: Sequence[Row]) -> pa.Table:
    table = to_arrow(RUNS, flat).replace_schema_metadata(None)
    for name in column_names(flat)[len(RUNS.names) :]:
        table = table.append_column(name, _array([row[name] for row in flat]))
    return table.append_column(_PLACE, pa.array(range(len(flat)), pa.int64()))


def _array(values: list[Any]) -> pa.Array:
    """One type for the column: numbers as numbers; where kinds are mixed, the JSON text of each value."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if len(kinds) <= 1 and kinds <= {int, float, bool, str}:
        return pa.array(values)
    return pa.array([None if value is None else value_to_json(value) for value in values], pa.string())


def _told(where: str, error: duckdb.Error) -> str:
    """What DuckDB says, without its excerpt of our query."""
    lines = [line for line in str(error).split("\n\nLINE ")[0].splitlines() if line.strip()]
    return f"--where {where!r}: {' '.join(lines)}"
