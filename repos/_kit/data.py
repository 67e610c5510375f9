"""Finds data sets below the data roots and states what a run used; it knows no data set's layout.

A data root is the folder given by --data, else by PROFILER_DATA. A root that was named and does not exist is an
error: falling back to other data in silence would train on something the user did not ask for.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from _kit.errors import DataError

DATA_VARIABLE = "PROFILER_DATA"


@dataclass(frozen=True)
class Provenance:
    """Which data a run used: `source` for eyes, `digest` (sha256 over the arrays) for comparison."""

    source: str
    digest: str


def data_root(option: Path | None) -> Path | None:
    """The data root, or None when neither --data nor PROFILER_DATA names one; DataError when it is no folder."""
    text = str(option) if option is not None else os.environ.get(DATA_VARIABLE, "")
    if not text:
        return None
    root = Path(text).expanduser()
    if not root.is_dir():
        origin = "--data" if option is not None else f"${DATA_VARIABLE}"
        raise DataError(f"the data folder {root} ({origin}) does not exist; create it or leave the option out")
    return root


def missing_data(name: str, layout: str, source: str, looked_in: Iterable[Path] = ()) -> DataError:
    """The error for a data set that is nowhere: its layout, where it comes from, where it was looked for."""
    places = ", ".join(str(place) for place in looked_in)
    where = f"looked in {places}" if places else f"no data folder is set (--data DIR or ${DATA_VARIABLE})"
    return DataError(f"{name} not found: {where}\n  layout: {layout}\n  source: {source}")


def whole_row(path: Path, line: int, row: dict[str, str]) -> dict[str, str]:
    """The row of a csv.DictReader; DataError unless it has as many fields as the header. Where it has more, csv files
    them under None, and where it has fewer it gives None for them."""
    if None in row or None in row.values():
        raise DataError(f"{path}, line {line}: the row has not as many fields as the header")
    return row


def digest(arrays: Iterable[np.ndarray]) -> str:
    """sha256 over shapes, types and contents of the arrays, in order."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return f"sha256:{total.hexdigest()}"
