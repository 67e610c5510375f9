"""Reads the foreground and the background of an item: model, values, what mutates, shares. Knows no campaign.

A value is looked up on the lowest level that says it: section, then item, then campaign; mappings of hyperparameters
name by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.checkouts import problem, with_checkout
from profiler.config import parameters
from profiler.config.faults import Faults
from profiler.config.model import BackgroundSpec, ForegroundSpec, RunMode
from profiler.config.mutating import Mutation, MutationReader, by_name, place_of, section_with
from profiler.config.paths import absolute_path
from profiler.config.sections import Section
from profiler.mutation import Scalar
from profiler.workloads import Catalog, ModelSpec, UnknownWorkloadError

_MUTATION_KEYS = ("mutate", "values", "ranges", "multipliers", "fixed_hyperparameters")


def lookup(name: str, levels: Sequence[Section]) -> Any:
    """The value of `name` on the first of `levels` that has it, else None."""
    section = section_with(name, levels)
    return None if section is None else section.get(name)


class TrainingReader:
    """Reads one training. `levels`: its own section, then those above it."""

    def __init__(self, levels: Sequence[Section], catalog: Catalog, faults: Faults) -> None:
        self.levels, self.catalog, self.faults = levels, catalog, faults
        self.own = levels[0]
        # The item speaks for its foreground, never for the background: those are two different models.
        self.speaking = levels[:1] if self.own.level == "B" else levels[:-1]
        self.model = self._resolve()

    def foreground(self, mode: RunMode | None) -> ForegroundSpec | None:
        """The measured training, or None if its model is unknown. Where the mode is not known (None, a fault was
        recorded), what is written is checked all the same."""
        if self.model is None:
            return None
        values = self._hyperparameters(self.model)
        mutation = Mutation()
        if mode == "default":
            self._refuse_mutation()
        elif mode == "mutation" or any(section_with(key, self.speaking) for key in _MUTATION_KEYS):
            mutation = MutationReader(self.model, self.speaking, values, self.faults).read()
        if "size" not in mutation.mutate:
            values = self._with_size(self.model, values)
        return ForegroundSpec(
            **self._common(self.model, values),
            mode=mode or "mutation",
            mutate=mutation.mutate,
            values=mutation.values,
            ranges=mutation.ranges,
        )

    def background(self) -> BackgroundSpec | None:
        """The training that loads the device, or None if its model is unknown."""
        if self.model is None:
            return None
        own = self.own
        common = self._common(self.model, self._with_size(self.model, self._hyperparameters(self.model)))
        # A time limit of the campaign is meant for its runs: the load starts earlier and must outlast them.
        common["timeout_seconds"] = own.get("timeout_seconds")
        return BackgroundSpec(
            **common,
            mode=own.get("mode", "loop"),
            startup_timeout_seconds=own.get("startup_timeout_seconds", BackgroundSpec.startup_timeout_seconds),
            startup_wait_seconds=lookup("startup_wait_seconds", self.levels),
            min_busy_share=own.get("min_busy_share"),
        )

    def _resolve(self) -> ModelSpec | None:
        repo, model = self.own.need("repo"), self.own.need("model")
        if repo is None:
            return None
        try:
            found = self.catalog.resolve(repo, model or "")
        except UnknownWorkloadError as error:
            if error.what == "repo" or model is not None:
                self.faults.add(self.own.at(error.what), error.value, str(error), error.suggestion)
            return None
        return self._from_checkout(found)

    def _from_checkout(self, model: ModelSpec) -> ModelSpec:
        """`model` as the user's own clone trains it, where one is named and is what it should be."""
        section, python = section_with("checkout", self.speaking), section_with("python", self.speaking)
        if section is None or not section.get("checkout"):
            if python is not None and python.get("python"):
                message = "is for a checkout; name one with `checkout`, or leave it out"
                self.faults.add(python.at("python"), python.get("python"), message)
            return model
        path = Path(absolute_path(section.get("checkout")))
        fault = problem(model, path)
        if fault:
            self.faults.add(section.at("checkout"), section.get("checkout"), fault)
        return model if model.checkout is None else with_checkout(model, path, None)

    def _python(self) -> str | None:
        """The interpreter for the clone; a path is made absolute, also at the beginning of a command. A bare name is
        looked up in PATH later."""
        python: str | None = lookup("python", self.speaking)
        if not python:
            return python
        program, space, rest = python.partition(" ") if not Path(absolute_path(python)).is_file() else (python, "", "")
        return (absolute_path(program) if "/" in program else program) + space + rest

    def _hyperparameters(self, model: ModelSpec) -> dict[str, Scalar | None]:
        """Explicit and fixed values together; a name in both is a fault."""
        explicit, fixed = (
            by_name(key, parameters.read_values, model, self.speaking, self.faults)
            for key in ("hyperparameters", "fixed_hyperparameters")
        )
        for name in sorted(explicit.keys() & fixed.keys()):
            path, value = place_of("fixed_hyperparameters", name, model, self.speaking)
            self.faults.add(path, value, f"`{name}` is in `hyperparameters` as well")
        return {**explicit, **fixed}

    def _refuse_mutation(self) -> None:
        for key in _MUTATION_KEYS:
            fixed = key == "fixed_hyperparameters"
            message = f"`{key}` has no effect in mode default" + ("; use `hyperparameters`" if fixed else "")
            hint = "hyperparameters" if fixed else "mode: mutation"
            for section in self.speaking:
                if section.has(key):
                    self.faults.add(section.at(key), section.get(key), message, hint)

    def _common(self, model: ModelSpec, values: dict[str, Scalar | None]) -> dict[str, Any]:
        checkout = lookup("checkout", self.speaking)
        return {
            "repo": model.repo,
            "model": model.name,
            "hyperparameters": values,
            "cpus": lookup("cpus", self.levels),
            "timeout_seconds": lookup("timeout_seconds", self.levels),
            "data": self._data(model),
            "checkout": absolute_path(checkout) if checkout else None,
            "python": self._python(),
        }

    def _with_size(self, model: ModelSpec, values: dict[str, Scalar | None]) -> dict[str, Scalar | None]:
        """`values` with the hyperparameter `size` that the key of the same name asks for."""
        section = section_with("size", self.levels)
        if section is None:
            return values
        size: str = section.get("size")
        spec = model.hyperparameters.get("size")
        if "size" in values:
            if section is self.own and values["size"] != size:
                self.faults.add(section.at("size"), size, f"`hyperparameters` say size {values['size']!r}; keep one")
            return values
        if spec is not None and (spec.choices is None or size in spec.choices):
            return {**values, "size": size}
        if size != "full":
            self.faults.add(section.at("size"), size, f"{model.repo} / {model.name} has no size {size!r}")
        return values

    def _data(self, model: ModelSpec) -> str | None:
        found = [self._data_of(section, model) for section in self.levels]
        return next((absolute_path(data) for data in found if data is not None), None)

    def _data_of(self, section: Section, model: ModelSpec) -> str | None:
        data: str | dict[str, str | None] | None = section.get("data")
        if not isinstance(data, dict):
            return data
        for name in data:
            if name not in self.catalog.repos:
                error = UnknownWorkloadError("repo", name, list(self.catalog.repos))
                self.faults.add(f"{section.at('data')}.{name}", data[name], str(error), error.suggestion)
        return data.get(model.repo)


def with_fractions(
    foreground: ForegroundSpec, background: BackgroundSpec, sections: tuple[Section, Section], faults: Faults
) -> tuple[ForegroundSpec, BackgroundSpec]:
    """Both with their shares of the GPU. `sections`: those of the two."""
    first, second = (section.get("fraction") for section in sections)
    if first is None:
        first = 0.7 if second is None else min(0.7, round(1 - second, 9))
    if second is None:
        second = min(0.3, round(1 - first, 9))
    if first + second > 1 + 1e-9 or first <= 0 or second <= 0:
        place = sections[1] if sections[1].has("fraction") else sections[0]
        message = f"the fractions of foreground and background, {first:g} + {second:g}, must each be above 0"
        faults.add(place.at("fraction"), place.get("fraction"), f"{message} and together at most 1")
    return replace(foreground, fraction=first), replace(background, fraction=second)
