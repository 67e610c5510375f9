"""Reads what mutates in a training: names, grids, ranges, multipliers, and how they go together. Draws nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from profiler.config import parameters
from profiler.config.faults import Faults
from profiler.config.sections import Section
from profiler.mutation import Range, Scalar
from profiler.workloads import ModelSpec

T = TypeVar("T")
Reader = Callable[[Mapping[str, Any], ModelSpec, str, Faults], dict[str, T]]
_MAPPINGS = ("values", "ranges", "multipliers")


def section_with(key: str, sections: Sequence[Section]) -> Section | None:
    """The first of `sections` (lowest level first) that has `key`."""
    return next((section for section in sections if section.has(key)), None)


def by_name(key: str, read: Reader[T], model: ModelSpec, sections: Sequence[Section], faults: Faults) -> dict[str, T]:
    """What the mapping `key` of `sections` (lowest level first) says of each hyperparameter: the lowest level that has
    the name wins, and what that hides is checked all the same."""
    out: dict[str, T] = {}
    for section in reversed(sections):
        if section.has(key):
            out.update(read(section.get(key), model, section.at(key), faults))
    return out


def place_of(key: str, name: str, model: ModelSpec, sections: Sequence[Section]) -> tuple[str, Any]:
    """Path and value, for a fault, of the hyperparameter `name` in the mapping or list `key`: on the lowest level that
    names it, under the spelling that the config has."""
    for section in sections:
        written = section.get(key)
        for spelled in written if isinstance(written, dict) else {}:
            if parameters.canonical_name(spelled, model) == name:
                return f"{section.at(key)}.{spelled}", written[spelled]
    return (section_with(key, sections) or sections[0]).at(key), name


@dataclass(frozen=True)
class Mutation:
    """`mutate` names what changes; each name has its list in `values` or its range in `ranges`."""

    mutate: tuple[str, ...] = ()
    values: dict[str, tuple[Scalar | None, ...]] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)


class MutationReader:
    """`sections` are those that may speak, lowest level first; `pinned` the names with fixed values."""

    def __init__(self, model: ModelSpec, sections: Sequence[Section], pinned: Collection[str], faults: Faults) -> None:
        self.model, self.sections, self.pinned, self.faults = model, sections, pinned, faults

    def read(self) -> Mutation:
        grid = self._mapping("values", parameters.read_grid)
        ranges = self._mapping("ranges", parameters.read_ranges)
        multiplied = self._mapping("multipliers", parameters.read_multipliers)
        self._refuse_doubles()
        chosen = {**multiplied, **ranges}
        mutate = self._names()
        drawn: dict[str, Range] = {}
        for name in mutate:
            if self._is_written(name):
                if name in chosen:
                    drawn[name] = chosen[name]
                continue
            default = self.model.hyperparameters[name].mutation_range()
            if default is None:
                message = f"`{name}` has no range to draw from; give one under `ranges`, or list its `values`"
                self._fault("mutate", name, message)
            else:
                drawn[name] = default
        return Mutation(mutate, grid, drawn)

    def _mapping(self, key: str, read: Reader[T]) -> dict[str, T]:
        return by_name(key, read, self.model, self.sections, self.faults)

    def _written(self, key: str) -> list[str]:
        """The canonical names that the mapping `key` speaks of, whether rightly or not."""
        given = (name for section in self.sections for name in section.get(key, {}))
        names = (parameters.canonical_name(name, self.model) for name in given)
        return [name for name in dict.fromkeys(names) if name is not None]

    def _is_written(self, name: str) -> bool:
        return any(name in self._written(key) for key in _MAPPINGS)

    def _refuse_doubles(self) -> None:
        for number, key in enumerate(_MAPPINGS):
            for earlier in _MAPPINGS[:number]:
                for name in self._written(key):
                    if name in self._written(earlier):
                        self._fault(key, name, f"`{name}` is in `{earlier}` as well; keep one of them")

    def _names(self) -> tuple[str, ...]:
        """What mutates. Without `mutate` it is what has values or ranges here; without any of these, all that can."""
        saying = [section for section in self.sections if section.has("mutate")]
        section = saying[0] if saying else None
        given: list[str | None] = section.get("mutate") if section is not None else []
        for hidden in saying[1:]:
            self._named(hidden)
        every = [spec.name for spec in self.model.hyperparameters.values() if spec.range or self._is_written(spec.name)]
        written = [name for name in every if self._is_written(name)]
        if given and given != ["all"] and section is not None:
            names = self._named(section)
            self._refuse_unnamed(written, names)
        elif written and not given:
            names = written
        else:
            names = [name for name in every if name not in self.pinned or name in written]
        for name in names:
            if name in self.pinned:
                self._fault(self._key_naming(name), name, f"`{name}` is fixed and mutated as well")
        if not names and given in ([], ["all"]):  # of wrong names the faults are told already
            place = section or self.sections[0]
            self.faults.add(place.at("mutate"), given or None, "nothing is left to mutate")
        return tuple(names)

    def _named(self, section: Section) -> list[str]:
        """The names under `mutate` of `section`, checked; of "all" none."""
        given: list[str | None] = section.get("mutate")
        return [] if given == ["all"] else parameters.read_names(given, self.model, section.at("mutate"), self.faults)

    def _refuse_unnamed(self, written: Sequence[str], names: Sequence[str]) -> None:
        for name in written:
            if name not in names:
                self._fault(
                    self._key_naming(name), name, f"`{name}` is not named under `mutate`, so this has no effect"
                )

    def _key_naming(self, name: str) -> str:
        return next((key for key in _MAPPINGS if name in self._written(key)), "mutate")

    def _fault(self, key: str, name: str, message: str) -> None:
        path, value = place_of(key, name, self.model, self.sections)
        self.faults.add(path, value, message)
