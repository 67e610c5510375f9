"""Reads what many sessions planned and ran, with only the columns that coverage needs. It counts and judges nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from profiler.errors import SessionError
from profiler.models import ModelSpec
from profiler.store.layout import SessionFolder
from profiler.store.ledger import check_distinct
from profiler.store.read import damage_named, latest_rows, read_tables
from profiler.store.rows import from_arrow
from profiler.store.schema import PLAN, RUNS, Table
from profiler.workloads import Catalog, UnknownWorkloadError

Mode = Literal["mutation", "parallel"]
Setting = tuple[tuple[str, str], ...]

_RUN_COLUMNS = (
    "run_id", "attempt", "is_final", "repo", "model", "mode", "hyperparameters", "requested_hyperparameters",
    "mutated", "valid", "safe", "duration_s", "gpu_energy_j", "cpu_energy_total_j",
)  # fmt: skip
_PLAN_COLUMNS = ("run_id", "repo", "model", "mode", "requested_hyperparameters", "mutated", "planned")


@dataclass(frozen=True)
class Group:
    """Runs that are counted together: one model, alone (`mutation`) or with a background (`parallel`), in one setting.

    `setting`: values of hyperparameters that have no mutation range (such as size) where they are not the default, as
    (name, JSON text) pairs: runs of a reduced size say nothing about the full one."""

    spec: ModelSpec
    mode: Mode
    setting: Setting = ()

    @property
    def key(self) -> tuple[str, str, str, Setting]:
        return self.spec.repo, self.spec.name, self.mode, self.setting

    @property
    def setting_values(self) -> dict[str, Any]:
        return {name: json.loads(text) for name, text in self.setting}


@dataclass(frozen=True)
class PastRun:
    """A run that has its final attempt. `values`: its complete effective vector (null for what was left to the
    trainer), None where nobody knows it. Times in s, energies in J."""

    values: Mapping[str, Any] | None
    mutated: tuple[str, ...]
    valid: bool
    safe: bool
    duration_s: float | None
    gpu_energy_j: float | None
    cpu_energy_j: float | None


@dataclass(frozen=True)
class Past:
    """Everything that was planned and run, by group. `planned`: the planned runs of each group in order of the
    sessions, as JSON text. `not_run`: session -> planned runs without a final attempt. `left_out`: why rows are not
    in here -> how many."""

    groups: Mapping[tuple[str, str, str, Setting], Group]
    runs: Mapping[tuple[str, str, str, Setting], Sequence[PastRun]]
    planned: Mapping[tuple[str, str, str, Setting], Sequence[str]]
    sessions: tuple[Path, ...]
    not_run: Mapping[str, int]
    left_out: Mapping[str, int]


def find_sessions(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The session folders that `paths` are or hold, each once. SessionError for a path that is and holds none, and
    where one of them is a copy of another."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise SessionError(f"no session at {path}: there is nothing of that name")
        inner = [path] if _is_session(path) else sorted(child for child in path.glob("*") if _is_session(child))
        if not inner:
            raise SessionError(f"{path} neither is a session nor holds one; name a folder such as results")
        found.update(dict.fromkeys(child.resolve() for child in inner))
    check_distinct(map(SessionFolder, found))
    return tuple(found)


def _is_session(path: Path) -> bool:
    return (path / "dataset").is_dir()


def read_past(sessions: Sequence[Path], catalog: Catalog) -> Past:
    """What `sessions` planned and ran. A file that cannot be read is named as by `damage_named`."""
    reader = _Reader(catalog)
    for root in sessions:
        folder = SessionFolder(root)
        reader.take(folder.session_id, _rows(folder, PLAN, _PLAN_COLUMNS), _rows(folder, RUNS, _RUN_COLUMNS))
    return reader.past(sessions)


def past_of(
    root: Path, plan: Sequence[Mapping[str, Any]], attempts: Iterable[Mapping[str, Any]], catalog: Catalog
) -> Past:
    """As `read_past`, of one session whose rows of `plan` and `runs` were read already."""
    reader = _Reader(catalog)
    reader.take(SessionFolder(root).session_id, plan, attempts)
    return reader.past([root])


class _Reader:
    """Collects one session after the other."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.groups: dict[tuple[str, str, str, Setting], Group] = {}
        self.runs: dict[tuple[str, str, str, Setting], list[PastRun]] = {}
        self.planned: dict[tuple[str, str, str, Setting], list[str]] = {}
        self.not_run: dict[str, int] = {}
        self.left_out: dict[str, int] = {}

    def take(self, session_id: str, plan: Sequence[Mapping[str, Any]], attempts: Iterable[Mapping[str, Any]]) -> None:
        finals = {run_id: row for run_id, row in latest_rows(attempts).items() if row["is_final"]}
        for row in finals.values():
            self._take_run(row)
        for planned in plan:
            self._take_planned(planned)
        open_runs = sum(row["run_id"] not in finals for row in plan)
        if open_runs:
            self.not_run[session_id] = open_runs

    def past(self, sessions: Sequence[Path]) -> Past:
        return Past(self.groups, self.runs, self.planned, tuple(sessions), dict(self.not_run), dict(self.left_out))

    def _take_planned(self, row: Mapping[str, Any]) -> None:
        spec = self._spec(row)
        if spec is not None:
            values = complete_values(row["requested_hyperparameters"] or {}, spec)
            self.planned.setdefault(self._group(row, spec, values).key, []).append(row["planned"])

    def _take_run(self, row: Mapping[str, Any]) -> None:
        spec = self._spec(row)
        if spec is None:
            self._leave_out(f"no manifest here for {row['repo']} / {row['model']}")
            return
        stored = row["hyperparameters"]
        if stored is None and row["valid"]:
            self._leave_out("nobody reported the values they used")
        values = None if stored is None else complete_values(_as_asked(stored, row["requested_hyperparameters"]), spec)
        run = PastRun(
            values,
            tuple(row["mutated"] or ()),
            bool(row["valid"]),
            bool(row["safe"]),
            row["duration_s"],
            row["gpu_energy_j"],
            row["cpu_energy_total_j"],
        )
        self.runs.setdefault(self._group(row, spec, values or {}).key, []).append(run)

    def _spec(self, row: Mapping[str, Any]) -> ModelSpec | None:
        try:
            return self._catalog.resolve(row["repo"] or "", row["model"] or "")
        except UnknownWorkloadError:
            return None

    def _leave_out(self, why: str) -> None:
        self.left_out[why] = self.left_out.get(why, 0) + 1

    def _group(self, row: Mapping[str, Any], spec: ModelSpec, values: Mapping[str, Any]) -> Group:
        mode: Mode = "parallel" if row["mode"] == "parallel" else "mutation"
        group = Group(spec, mode, setting_of(spec, values, row["mutated"] or ()))
        return self.groups.setdefault(group.key, group)


def setting_of(spec: ModelSpec, values: Mapping[str, Any], mutated: Iterable[str]) -> Setting:
    """The part of a vector that tells groups apart."""
    changed = set(mutated)
    return tuple(
        (name, json.dumps(values[name]))
        for name, parameter in sorted(spec.hyperparameters.items())
        if parameter.range is None and name not in changed and name in values and values[name] != parameter.default
    )


def _as_asked(stored: Mapping[str, Any], asked: Mapping[str, Any] | None) -> dict[str, Any]:
    """Effective values, but null for what was left to the trainer, whatever it chose: the plan knows it as null."""
    left = {name for name, value in (asked or {}).items() if value is None}
    return {name: None if name in left else value for name, value in stored.items()}


def complete_values(stored: Mapping[str, Any], spec: ModelSpec) -> dict[str, Any]:
    """A stored vector under canonical names and in the manifest's types; what it leaves out has the default."""
    values: dict[str, Any] = dict(spec.defaults())
    for name, value in stored.items():
        target = spec.hyperparameter_aliases.get(name, name)
        parameter = spec.hyperparameters.get(target)
        is_whole = parameter is not None and parameter.type == "float" and type(value) is int
        values[target] = float(value) if is_whole else value
    return values


def _rows(folder: SessionFolder, table: Table, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a dataset with only some columns: the others take most of the time to decode."""
    part = Table(table.name, table.meaning, tuple(table.column(name) for name in columns))

    def read(path: Path) -> pa.Table:
        with damage_named(path):
            return pq.ParquetFile(path).read(columns=list(columns), use_threads=False)

    tables = read_tables(folder.dataset(table.name), read)
    return from_arrow(part, pa.concat_tables(tables, promote_options="permissive")) if tables else []
