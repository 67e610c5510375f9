"""Puts typed rows and traces into pandas DataFrames. The only module of the store that imports pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from profiler.store.schema import Column, Table


def frame_of(table: Table, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame({column.name: _series(column, [row[column.name] for row in rows]) for column in table})


def _series(column: Column, values: list[Any]) -> pd.Series[Any]:
    """Integers and truth values that may be null get pandas' nullable types: as floats, large times lose digits."""
    if pa.types.is_integer(column.type):
        return pd.Series(values, dtype="Int64")
    if pa.types.is_boolean(column.type):
        return pd.Series(values, dtype="boolean")
    if pa.types.is_floating(column.type):
        return pd.Series(values, dtype="float64")
    if pa.types.is_timestamp(column.type):
        return pd.Series(pd.to_datetime(pd.Series(values, dtype="object"), utc=True)).astype("datetime64[us, UTC]")
    if pa.types.is_string(column.type):
        return pd.Series(values, dtype="string")
    return pd.Series(values, dtype="object")


def arrow_frame(data: pa.Table) -> pd.DataFrame:
    """As `frame_of`, without the way over Python objects: traces are long."""
    types = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype(), pa.string(): pd.StringDtype()}
    frame: pd.DataFrame = data.to_pandas(types_mapper=types.get)
    return frame


def flatten(frame: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    flat: dict[str, list[Any]] = {}
    for prefix, column in (("hp_", "hyperparameters"), ("metric_", "metrics")):
        for name in dict.fromkeys(name for row in rows for name in row[column] or {}):
            flat[prefix + name] = [(row[column] or {}).get(name) for row in rows]
    return pd.concat(
        [frame, pd.DataFrame({name: _values(values) for name, values in flat.items()}, index=frame.index)], axis=1
    )


def _values(values: list[Any]) -> pd.Series[Any]:
    """The narrowest column type that keeps each value what it is."""
    kinds = {type(value) for value in values if value is not None}
    narrow = {
        frozenset({int}): "Int64",
        frozenset({float}): "float64",
        frozenset({bool}): "boolean",
        frozenset({str}): "string",
    }
    return pd.Series(values, dtype=narrow.get(frozenset(kinds), "object"))
