"""Counts which values were run and proposes those that are missing. Pure: past runs in, coverage out; writes nothing.

A value of a hyperparameter counts once for each group (model, mode, setting) if a run that counts mutated it to that
value, and it is not the default. The default itself is the default run's matter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from profiler.analysis.history import Group, Mode, Past, PastRun
from profiler.hyperparameters import HyperparameterSpec
from profiler.models import ModelSpec
from profiler.mutation import Range, Scalar, stream
from profiler.workloads import Catalog

NO_RUN = "no_counted_run_with_a_duration"
NO_ENERGY = "no_counted_run_with_this_energy"
NOTHING_MISSING = "nothing_missing"
_TRIES = 200
_ENUMERABLE = 100_000


@dataclass(frozen=True)
class Wanted:
    """What is asked for. `names`: only these hyperparameters (None: each that has a range). `modes`: only these."""

    target: int = 5
    safe: bool = False
    alone: bool = False
    modes: tuple[Mode, ...] = ()
    names: tuple[str, ...] | None = None
    all_models: bool = False


@dataclass(frozen=True)
class ParameterCoverage:
    """One hyperparameter of a group: the distinct `values` that count, and the `proposed` ones that reach `target`.
    `possible`: how many values its range has beside the default."""

    name: str
    values: tuple[Scalar, ...]
    proposed: tuple[Scalar, ...]
    target: int
    possible: int


@dataclass(frozen=True)
class Estimate:
    """What the missing runs of a group would take, by its past runs: s and J, or None with a reason."""

    seconds: float | None
    gpu_energy_j: float | None
    cpu_energy_j: float | None
    null_reasons: Mapping[str, str]


@dataclass(frozen=True)
class GroupCoverage:
    """One model in one mode and setting. `counted`: runs that count. `problem`: why its holes cannot be filled here."""

    group: Group
    counted: int
    default_runs: int
    parameters: tuple[ParameterCoverage, ...]
    estimate: Estimate
    planned: Mapping[str, Any]
    problem: str | None

    @property
    def missing_runs(self) -> int:
        return (self.default_runs == 0) + sum(len(one.proposed) for one in self.parameters)


def cover(past: Past, catalog: Catalog, wanted: Wanted) -> list[GroupCoverage]:
    """The coverage of every group, in order of repository, model, mode."""
    groups = _chosen(past, catalog, wanted)
    return [_cover(group, past, wanted) for group in sorted(groups, key=lambda group: group.key)]


def _chosen(past: Past, catalog: Catalog, wanted: Wanted) -> list[Group]:
    """The groups that were planned, and those that are asked for although nobody planned them."""
    groups = dict(past.groups)
    known = {(group.spec.repo, group.spec.name) for group in groups.values()}
    specs: Iterable[ModelSpec] = catalog.models() if wanted.all_models else (g.spec for g in past.groups.values())
    for spec in specs:
        there = {group.mode for group in past.groups.values() if (group.spec.repo, group.spec.name) == _key(spec)}
        asked: tuple[Mode, ...] = wanted.modes or (("mutation",) if _key(spec) not in known else ())
        for mode in asked:
            if mode not in there:
                group = Group(spec, mode)
                groups.setdefault(group.key, group)
    return [group for group in groups.values() if not wanted.modes or group.mode in wanted.modes]


def _key(spec: ModelSpec) -> tuple[str, str]:
    return spec.repo, spec.name


def _cover(group: Group, past: Past, wanted: Wanted) -> GroupCoverage:
    runs = past.runs.get(group.key, ())
    counted = [run for run in runs if run.values is not None and run.valid and (run.safe or not wanted.safe)]
    parameters = tuple(
        _parameter(group, parameter, counted, runs, wanted)
        for parameter in group.spec.hyperparameters.values()
        if parameter.range is not None and (wanted.names is None or parameter.name in wanted.names)
    )
    defaults = sum(_is_default(run, group.spec) for run in counted)
    proposals = _vectors(group, parameters, defaults == 0)
    planned = _representative(past.planned.get(group.key, ()))
    return GroupCoverage(
        group,
        len(counted),
        defaults,
        parameters,
        _estimate(group, counted, proposals),
        planned,
        _problem(group, planned),
    )


def _is_default(run: PastRun, spec: ModelSpec) -> bool:
    """Nothing mutated, and every hyperparameter that can be has its default."""
    values = run.values or {}
    ranged = (parameter for parameter in spec.hyperparameters.values() if parameter.range is not None)
    return not run.mutated and all(values.get(parameter.name) == parameter.default for parameter in ranged)


def _parameter(
    group: Group, parameter: HyperparameterSpec, counted: Sequence[PastRun], runs: Sequence[PastRun], wanted: Wanted
) -> ParameterCoverage:
    name = parameter.name
    drawn_from = parameter.mutation_range()
    assert drawn_from is not None  # only hyperparameters with a range come here
    default = parameter.default
    values = _distinct((run for run in counted if not wanted.alone or run.mutated == (name,)), name, default)
    tried = _distinct(runs, name, default)
    possible = drawn_from.size() - (default is not None and drawn_from.contains(default))
    free = possible - sum(drawn_from.contains(value) for value in values)
    missing = max(0, min(wanted.target - len(values), free))
    draw = _Draw(
        drawn_from, default, values, tried, (group.spec.repo, group.spec.name, group.mode, *_texts(group), name)
    )
    return ParameterCoverage(name, values, draw.take(missing), min(wanted.target, len(values) + free), possible)


def _texts(group: Group) -> tuple[str, ...]:
    return tuple(f"{name}={text}" for name, text in group.setting)


def _distinct(runs: Iterable[PastRun], name: str, default: Scalar | None) -> tuple[Scalar, ...]:
    found = {run.values[name] for run in runs if run.values is not None and name in run.mutated and name in run.values}
    return tuple(sorted(value for value in found if _is_number(value) and value != default))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Draw:
    """Draws values that nobody ran yet: the same past gives the same values. What failed is tried again only where
    nothing else is left."""

    def __init__(
        self,
        drawn_from: Range,
        default: Scalar | None,
        values: Iterable[Scalar],
        tried: Iterable[Scalar],
        key: tuple[str, ...],
    ) -> None:
        self._range, self._key = drawn_from, key
        self._taken = {default, *values}
        self._failed = set(tried) - self._taken

    def take(self, count: int) -> tuple[Scalar, ...]:
        """`count` different values in order; there must be that many. By the range's own distribution; where that keeps
        hitting what is avoided, evenly from what is left."""
        out: set[Scalar] = set()
        number = missed = 0
        while len(out) < count and missed < _TRIES:
            value = self._range.draw(stream("coverage/1", *self._key, number))
            number += 1
            if value in self._taken or value in self._failed or value in out:
                missed += 1
            else:
                out.add(value)
                missed = 0
        if len(out) < count:
            out.update(self._rest(out, count - len(out)))
        return tuple(sorted(out))

    def _rest(self, drawn: set[Scalar], count: int) -> list[Scalar]:
        """What is left, evenly; values that failed come last."""
        places = range(min(self._range.size(), _ENUMERABLE))
        free = [value for value in dict.fromkeys(map(self._range.at, places)) if value not in self._taken | drawn]
        order = stream("coverage/1", *self._key, "rest")
        ordered = sorted((value in self._failed, order.random(), value) for value in free)
        return [value for _, _, value in ordered[:count]]


def _vectors(group: Group, parameters: Sequence[ParameterCoverage], default: bool) -> list[dict[str, Any]]:
    """The complete vectors of the runs that are missing."""
    base = {**group.spec.defaults(), **group.setting_values}
    changed = [{**base, one.name: value} for one in parameters for value in one.proposed]
    return ([base] if default else []) + changed


def _estimate(group: Group, counted: Sequence[PastRun], vectors: Sequence[Mapping[str, Any]]) -> Estimate:
    """By the median time an epoch took, where the model counts epochs, and the median power."""
    if not vectors:
        return Estimate(0.0, 0.0, 0.0, {})
    epochs = group.spec.epochs_parameter
    rates = [run.duration_s / _units(run.values, epochs) for run in counted if run.duration_s]
    if not rates:
        return Estimate(None, None, None, dict.fromkeys(("seconds", "gpu_energy_j", "cpu_energy_j"), NO_RUN))
    seconds = sum(median(rates) * _units(vector, epochs) for vector in vectors)
    watts = {
        "gpu_energy_j": _mean_power_w(counted, lambda run: run.gpu_energy_j),
        "cpu_energy_j": _mean_power_w(counted, lambda run: run.cpu_energy_j),
    }
    joules = {name: None if power is None else power * seconds for name, power in watts.items()}
    nulls = {name: NO_ENERGY for name, energy in joules.items() if energy is None}
    return Estimate(seconds, joules["gpu_energy_j"], joules["cpu_energy_j"], nulls)


def _units(values: Mapping[str, Any] | None, epochs: str | None) -> float:
    """Epochs of a vector; 1 where the model does not count any."""
    count = (values or {}).get(epochs) if epochs else None
    return float(count) if isinstance(count, int | float) and count > 0 else 1.0


def _mean_power_w(runs: Sequence[PastRun], energy_of: Callable[[PastRun], float | None]) -> float | None:
    known = [energy / run.duration_s for run in runs if run.duration_s and (energy := energy_of(run)) is not None]
    return median(known) if known else None


def _representative(planned: Sequence[str]) -> Mapping[str, Any]:
    """The planned run that a new one should be like: the latest that is not an import; {} where there is none."""
    for text in reversed(planned):
        document = json.loads(text)
        if not document.get("imported"):
            return document if isinstance(document, dict) else {}
    return json.loads(planned[-1]) if planned else {}


def _problem(group: Group, planned: Mapping[str, Any]) -> str | None:
    if group.spec.command is None:
        return "no trainer here"
    if group.mode == "parallel" and not planned.get("background"):
        return "no session tells with which background"
    return None
