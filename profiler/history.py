"""What earlier campaigns already ran validly: complete vectors from old summary.csv files and session folders.

Only reads. Values are compared typed: the text "7" is the integer 7, and 7.0000001 is not 7.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profiler.errors import ConfigError, ConfigIssue
from profiler.mutation import Scalar, Vector, vector_of
from profiler.workloads import Catalog, ModelSpec, UnknownWorkloadError

Key = tuple[str, str, str]
"""Repository, model, mode (default, mutation or parallel)."""

_CSV_COLUMNS = ("repository", "model", "training_success")
_PARAMETER = "hyperparam_"
_REQUESTED = "requested_hyperparameters"
_SESSION_COLUMNS = ("repo", "model", "mode", "hyperparameters", _REQUESTED, "valid")


@dataclass(frozen=True)
class History:
    """Vectors that need not be run again, by repository, model and mode; `notes` says what was read."""

    vectors: Mapping[Key, frozenset[Vector]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, repo: str, model: str, mode: str) -> frozenset[Vector]:
        return self.vectors.get((repo, model, mode), frozenset())


@dataclass(frozen=True)
class _Row:
    """`sparse`: what its values leave out had the default; else all that are not null by default must be there."""

    repo: str
    model: str
    mode: str
    values: Mapping[str, str | None]
    valid: bool
    sparse: bool = False


class _UnreadableError(Exception):
    """A file of the history is not what it should be."""


def read_history(csvs: Sequence[str], sessions: Sequence[str], catalog: Catalog, file: str = "config") -> History:
    """The vectors in summary.csv files and session folders. Raises ConfigError naming every one that is unreadable."""
    found: defaultdict[Key, set[Vector]] = defaultdict(set)
    notes: list[str] = []
    issues: list[ConfigIssue] = []
    sources: list[tuple[str, str, Callable[[Path], Iterator[_Row]]]]
    sources = [(f"historical_csvs[{n}]", path, _csv_rows) for n, path in enumerate(csvs)]
    sources += [(f"history[{n}]", path, _session_rows) for n, path in enumerate(sessions)]
    for key, path, rows in sources:
        counts: Counter[str] = Counter()
        try:
            for row in rows(Path(path)):
                counts[_take(row, catalog, found)] += 1
        except _UnreadableError as error:
            issues.append(ConfigIssue(file, key, path, str(error)))
            continue
        notes.append(
            f"{key}: {counts.total()} rows, {counts['taken']} count as done, {counts['failed']} were not valid, "
            f"{counts['strange']} are not understood"
        )
    if issues:
        raise ConfigError(issues)
    return History({key: frozenset(vectors) for key, vectors in found.items()}, tuple(notes))


def _take(row: _Row, catalog: Catalog, found: defaultdict[Key, set[Vector]]) -> str:
    """Add the row's vector to `found` and say what became of it."""
    if not row.valid:
        return "failed"
    try:
        model = catalog.resolve(row.repo, row.model)
        vector = vector_of(complete_values(row.values, model))
    except (UnknownWorkloadError, ValueError):
        return "strange"
    if not row.sparse and not _whole(row.values, model):
        return "strange"
    found[model.repo, model.name, row.mode].add(vector)
    return "taken"


def _whole(values: Mapping[str, str | None], model: ModelSpec) -> bool:
    return all(name in values for name, default in model.defaults().items() if default is not None)


def complete_values(texts: Mapping[str, str | None], model: ModelSpec) -> dict[str, Scalar | None]:
    """The complete typed vector that a stored row means; what it leaves out has the default.

    A text is a CSV cell; None stands for a stored null. Raises ValueError for a name or value the model does not have.
    """
    values = model.defaults()
    for name, text in texts.items():
        target = model.hyperparameter_aliases.get(name, name)
        if target not in model.hyperparameters:
            raise ValueError(f"{model.name} has no hyperparameter {name!r}")
        if target != name and target in texts:
            raise ValueError(f"{name!r} and {target!r} are the same")
        values[target] = None if text is None else model.hyperparameters[target].from_text(text)
    return values


def _csv_rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            missing = [column for column in _CSV_COLUMNS if column not in columns]
            if missing:
                raise _UnreadableError(f"is not a summary.csv: it has no column {', '.join(missing)}")
            for record in reader:
                yield _csv_row(record, ragged=None in record or None in record.values())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _UnreadableError(f"cannot be read: {error}") from error


def _csv_row(record: Mapping[Any, Any], *, ragged: bool) -> _Row:
    """A row of the old tool says its mode only by the end of its id, and has no verdict. One that is `ragged` has more
    cells than the header, or fewer: nobody knows which value is whose."""
    cells = {key: value for key, value in record.items() if isinstance(key, str) and isinstance(value, str)}
    if ragged:
        return _Row("", "", "", {}, valid=True)
    by_id = "parallel" if cells.get("experiment_id", "").endswith("_parallel") else "mutation"
    return _Row(
        repo=cells.get("repository", ""),
        model=cells.get("model", ""),
        mode=cells.get("mode") or by_id,
        values={
            key.removeprefix(_PARAMETER): value
            for key, value in cells.items()
            if key.startswith(_PARAMETER) and value.strip()
        },
        valid=cells.get("training_success", "").strip().lower() == "true" and cells.get("verdict") != "failed",
        sparse=not cells.get("verdict"),
    )


def _session_rows(folder: Path) -> Iterator[_Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    runs = folder / "dataset" / "runs"
    if not runs.is_dir():
        raise _UnreadableError("is not a session folder: it has no dataset/runs in it")
    for file in sorted(runs.rglob("*.parquet")):
        if file.name.startswith("."):
            continue
        try:
            columns = [name for name in _SESSION_COLUMNS if name != _REQUESTED or name in pq.read_schema(file).names]
            records = pq.read_table(file, columns=columns, partitioning=None).to_pylist()
        except (OSError, pa.ArrowException, KeyError) as error:
            raise _UnreadableError(f"{file.name} cannot be read: {error}") from error
        for record in records:
            yield _session_row(record)


def _session_row(record: Mapping[str, Any]) -> _Row:
    """A run whose effective values are not known did not prove any; those that its trainer did not tell beside others
    are those that it was asked for. What was left to the trainer (null) stays so, whatever it then chose: asked for
    again, it would choose the same."""
    stored = record["hyperparameters"]
    asked = {name: _cell(text) for name, text in dict(record.get(_REQUESTED) or {}).items()}
    told = {name: _cell(text) for name, text in dict(stored or {}).items()}
    left = {name for name, text in asked.items() if text is None}
    values = asked | {name: text for name, text in told.items() if name not in left}
    return _Row(
        repo=record["repo"] or "",
        model=record["model"] or "",
        mode=record["mode"] or "",
        values=values,
        valid=bool(record["valid"]) and stored is not None,
        sparse=True,
    )


def _cell(text: str | None) -> str | None:
    """The JSON text of a stored value as the text of a CSV cell."""
    try:
        value = json.loads(text) if text is not None else None
    except ValueError:
        return text
    return value if value is None or isinstance(value, str) else json.dumps(value)


_MEMORY_COLUMNS = (
    "repo", "model", "requested_hyperparameters", "valid", "reasons", "background_repo", "background_model",
    "background_hyperparameters", "gpu_memory_foreground_mib", "gpu_memory_background_mib",
)  # fmt: skip


def memory_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """What the session in `folder` tells of its runs' memory; nothing where it is none, or was written before these
    columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in sorted((folder / "dataset" / "runs").rglob("*.parquet")):
        if file.name.startswith("."):
            continue
        try:
            if not set(_MEMORY_COLUMNS) <= set(pq.read_schema(file).names):
                continue
            records = pq.read_table(file, columns=list(_MEMORY_COLUMNS), partitioning=None).to_pylist()
        except (OSError, pa.ArrowException):
            continue
        for record in records:
            for name in ("requested_hyperparameters", "background_hyperparameters"):
                record[name] = {key: json.loads(text) for key, text in dict(record[name] or {}).items()}
            yield record
