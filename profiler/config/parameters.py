"""Checks hyperparameters of a config against a model's manifest: explicit values, grids, ranges. Knows no sections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from profiler.config.faults import Faults
from profiler.config.kinds import names_of
from profiler.documents import nearest
from profiler.hyperparameters import HyperparameterSpec
from profiler.mutation import Range, Scalar, Vector, vector_of
from profiler.workloads import ModelSpec


def canonical_name(name: str, model: ModelSpec) -> str | None:
    """The hyperparameter that `name` (or alias) means, or None."""
    target = model.hyperparameter_aliases.get(name, name)
    return target if target in model.hyperparameters else None


def _known(name: str, value: Any, model: ModelSpec, path: str, faults: Faults) -> HyperparameterSpec | None:
    target = canonical_name(name, model)
    if target is not None:
        return model.hyperparameters[target]
    known = [*model.hyperparameters, *model.hyperparameter_aliases]
    message = f"{model.repo} / {model.name} has no hyperparameter `{name}`; it has: {names_of(known)}"
    if model.own_checkout is not None and name in model.own_checkout.withheld:
        able = names_of(known) if known else "none"
        message = f"the original of {model.repo} has no option for `{name}`; a checkout can be told: {able}"
    faults.add(path, value, message, nearest(name, known))
    return None


def canonical_keys(
    given: Mapping[str, Any], model: ModelSpec, path: str, faults: Faults
) -> dict[str, tuple[str, HyperparameterSpec, Any]]:
    """Canonical name -> (path, spec, value) of the known names in `given`; unknown and doubled ones are faults."""
    out: dict[str, tuple[str, HyperparameterSpec, Any]] = {}
    for name, value in given.items():
        spec = _known(name, value, model, f"{path}.{name}", faults)
        if spec is None:
            continue
        if spec.name in out:
            alias = name if name != spec.name else next(n for n in given if n != name and n in _aliases(spec, model))
            message = f"`{alias}` is an alias of `{spec.name}`, which is given too; keep one of them"
            faults.add(f"{path}.{alias}", given[alias], message)
            continue
        out[spec.name] = (f"{path}.{name}", spec, value)
    return out


def _aliases(spec: HyperparameterSpec, model: ModelSpec) -> list[str]:
    return [alias for alias, target in model.hyperparameter_aliases.items() if target == spec.name]


def read_values(given: Mapping[str, Any], model: ModelSpec, path: str, faults: Faults) -> dict[str, Scalar | None]:
    """Explicit values, typed, under their canonical names."""
    out: dict[str, Scalar | None] = {}
    for name, (place, spec, value) in canonical_keys(given, model, path, faults).items():
        try:
            out[name] = spec.coerce(value)
        except ValueError as error:
            faults.add(place, value, f"`{name}` {error}")
    return out


def read_names(given: Sequence[str | None], model: ModelSpec, path: str, faults: Faults) -> list[str]:
    """Names to mutate, canonical; "all" is not among them. None stands for an entry that is a fault already."""
    out: list[str] = []
    for number, name in enumerate(given):
        if name is None:
            continue
        place = f"{path}[{number}]"
        if name == "all":
            faults.add(place, name, '"all" stands alone: no other name beside it')
            continue
        spec = _known(name, name, model, place, faults)
        if spec is not None and spec.name in out:
            faults.add(place, name, f"`{spec.name}` is named twice")
        elif spec is not None:
            out.append(spec.name)
    return out


def read_grid(
    given: Mapping[str, Any], model: ModelSpec, path: str, faults: Faults
) -> dict[str, tuple[Scalar | None, ...]]:
    """The lists of a grid, typed; an empty list and a value that is listed twice are faults."""
    out: dict[str, tuple[Scalar | None, ...]] = {}
    for name, (place, spec, values) in canonical_keys(given, model, path, faults).items():
        if not isinstance(values, list) or not values:
            faults.add(place, values, "must be a list of at least one value")
            continue
        typed: list[Scalar | None] = []
        seen: set[Vector] = set()
        for number, value in enumerate(values):
            try:
                one = spec.coerce(value)
            except ValueError as error:
                faults.add(f"{place}[{number}]", value, f"`{name}` {error}")
                continue
            vector = vector_of({name: one})
            if vector in seen:
                faults.add(f"{place}[{number}]", value, "this value is listed twice")
            seen.add(vector)
            typed.append(one)
        out[name] = tuple(typed)
    return out


def read_ranges(given: Mapping[str, Any], model: ModelSpec, path: str, faults: Faults) -> dict[str, Range]:
    """Ranges that replace the manifest's; what an entry leaves out stays as there. None is a fault already."""
    out: dict[str, Range] = {}
    for name, (place, spec, entry) in canonical_keys(given, model, path, faults).items():
        if entry is None:
            continue
        low, high = spec.range or (None, None)
        low, high = entry.get("min", low), entry.get("max", high)
        if low is None or high is None:
            faults.add(place, entry, f"`{name}` has no range in the manifest, so both min and max are needed")
            continue
        try:
            out[name] = spec.make_range(low, high, entry.get("distribution"), entry.get("zero_probability"))
        except ValueError as error:
            faults.add(place, entry, f"`{name}`: {error}")
    return out


def read_multipliers(given: Mapping[str, Any], model: ModelSpec, path: str, faults: Faults) -> dict[str, Range]:
    """Ranges as multiples of the default; integers are rounded inwards. None is a fault already."""
    out: dict[str, Range] = {}
    for name, (place, spec, factors) in canonical_keys(given, model, path, faults).items():
        if factors is None:
            continue
        if len(factors) != 2:
            faults.add(place, factors, "must be a list of two numbers: [low, high]")
        elif spec.type not in ("int", "float"):
            faults.add(place, factors, f"`{name}` is no number, so it has no multiple")
        elif not spec.default:
            faults.add(place, factors, f"the default of `{name}` is {spec.default!r}: there is nothing to multiply")
        else:
            low, high = (spec.default * factor for factor in factors)
            if spec.type == "int":
                low, high = math.ceil(low), math.floor(high)
            try:
                out[name] = spec.make_range(low, high)
            except ValueError as error:
                faults.add(place, factors, f"`{name}`: default {spec.default!r} x {factors}: {error}")
    return out
