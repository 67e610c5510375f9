"""One model as a manifest declares it: metrics, data, command line. It reads no files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from profiler.checkouts import CheckoutSpec, OwnCheckout
from profiler.hyperparameters import BUILT_IN_PLACEHOLDERS, Frozen, HyperparameterSpec, argument_text
from profiler.mutation import Scalar
from profiler.patterns import checked_pattern

NAME_PATTERN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class MetricSpec(Frozen):
    """One figure a trainer reports. Outside `minimum`..`maximum` it is an error, not a result.

    The first group of `pattern` is the number in the log; with groups named `part` and `whole` it is their quotient.
    `scale` times that number plus `offset` is the metric (0.01 for a percentage; -1 and 1 for an error rate).
    """

    name: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    direction: Literal["maximize", "minimize"]
    pattern: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    select: Literal["first", "last", "max", "min"] = "last"
    description: str = ""

    @field_validator("pattern")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        return checked_pattern(pattern, groups=1)

    @model_validator(mode="after")
    def _consistent(self) -> MetricSpec:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is above maximum {self.maximum:g}")
        return self


class DataNeed(Frozen):
    """A data set that a model reads: its layout under the data root, and where to get it."""

    name: str
    layout: str
    source: str
    optional: bool = False


class Measured(Frozen):
    """What one run at full size needed on the GPU that the manifest names, power and utilisation as means over the run.

    For people; planning goes by the estimates of ModelSpec.
    """

    gpu_memory_peak_mib: float | None = Field(default=None, gt=0)
    seconds_per_epoch: float | None = Field(default=None, gt=0)
    gpu_power_mean_w: float | None = Field(default=None, gt=0)
    gpu_util_mean_percent: float | None = Field(default=None, ge=0, le=100)


class ModelSpec(Frozen):
    """One model of one repository, as its manifest declares it.

    `memory_mib`: GPU memory at full size, an estimate. `seconds_per_epoch` and `mean_gpu_power_w`: estimates at full
    size for planning only; None where nobody measured. `can_repeat`: asked to by PROFILER_BACKGROUND_REPEAT=1, the
    trainer trains again and again in one process. `multi_gpu`: it can be started by torchrun as one process a GPU.
    """

    repo: str
    name: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    command: tuple[str, ...] | None = None
    hyperparameters: dict[str, HyperparameterSpec]
    hyperparameter_aliases: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, MetricSpec]
    primary_metric: str
    memory_mib: float = Field(default=0.0, ge=0)
    uses_gpu: bool = True
    can_repeat: bool = False
    multi_gpu: Literal["torchrun"] | None = None
    seconds_per_epoch: float | None = Field(default=None, gt=0)
    mean_gpu_power_w: float | None = Field(default=None, gt=0)
    measured: Measured | None = None
    data: tuple[DataNeed, ...] = ()
    ready_pattern: str | None = None
    completion_pattern: str | None = None
    completion_count: int = Field(default=1, ge=1)
    epoch_pattern: str | None = None
    effective_patterns: dict[str, str] = Field(default_factory=dict)
    trust_argv: bool = False
    checkout: CheckoutSpec | None = None
    folder: Path
    own_checkout: OwnCheckout | None = None

    @field_validator("ready_pattern", "completion_pattern", "epoch_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return checked_pattern(pattern, groups=0)

    @field_validator("effective_patterns")
    @classmethod
    def _compile(cls, patterns: dict[str, str]) -> dict[str, str]:
        for pattern in patterns.values():
            checked_pattern(pattern, groups=1)
        return patterns

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        for name in (self.repo, self.name, *self.aliases):
            if not NAME_PATTERN.match(name):
                raise ValueError(f"{name!r} cannot be a name: letters, digits and . _ + - only")
        if self.primary_metric not in self.metrics:
            raise ValueError(f"primary_metric {self.primary_metric!r} is not among the metrics {list(self.metrics)}")
        for alias, target in self.hyperparameter_aliases.items():
            if target not in self.hyperparameters or alias in self.hyperparameters:
                raise ValueError(f"hyperparameter_aliases: {alias!r} must stand for an existing hyperparameter")
        for name in self.effective_patterns:
            if name not in self.hyperparameters:
                raise ValueError(f"effective_patterns: {name!r} is no hyperparameter")
        if self.command is not None:
            self._check_command(self.command)
        if self.checkout is not None:
            self._check_checkout(self.checkout)
        return self

    def _check_checkout(self, checkout: CheckoutSpec) -> None:
        for key, names, known in (
            ("flags", checkout.flags, self.hyperparameters),
            ("minimum", checkout.minimum, checkout.flags),
            ("effective_patterns", checkout.effective_patterns, checkout.flags),
            ("metrics", checkout.metrics, self.metrics),
        ):
            unknown = [name for name in names if name not in known]
            if unknown:
                raise ValueError(f"checkout: {key}: {unknown[0]!r} is not declared; known: {', '.join(known)}")
        if self.primary_metric not in checkout.metrics:
            raise ValueError(f"checkout: metrics need the primary metric {self.primary_metric!r}")
        for name, own in checkout.metrics.items():
            MetricSpec.model_validate({**self.metrics[name].model_dump(), **own})
        if checkout.flags and "{hyperparameters}" not in checkout.command:
            raise ValueError("checkout: command needs {hyperparameters}, an element of its own")
        unknown = sorted(set(_PLACEHOLDER.findall(" ".join(checkout.command))) - {*BUILT_IN_PLACEHOLDERS})
        if unknown:
            raise ValueError(f"checkout: command: unknown placeholder {{{unknown[0]}}}")

    def _check_command(self, command: tuple[str, ...]) -> None:
        if not command or not command[0]:
            raise ValueError("command must name a program")
        if self.multi_gpu and (command[0] != "{python}" or len(command) < 2 or command[1].startswith("-")):
            raise ValueError("multi_gpu: torchrun needs a command that begins with {python} and the trainer's file")
        placed = set(_PLACEHOLDER.findall(" ".join(command)))
        unknown = placed - {*BUILT_IN_PLACEHOLDERS, *self.hyperparameters} | placed & {"checkout"}
        if unknown:
            raise ValueError(f"command: unknown placeholder {{{sorted(unknown)[0]}}}")
        if any("{hyperparameters}" in part and part != "{hyperparameters}" for part in command):
            raise ValueError("command: {hyperparameters} must be an element of its own")
        for spec in self.hyperparameters.values():
            if spec.name in placed and (spec.type == "bool" or spec.default is None):
                raise ValueError(
                    f"command: {{{spec.name}}} may be absent, so give it a flag and use {{hyperparameters}}"
                )
            if spec.name not in placed and (spec.flag is None or "hyperparameters" not in placed):
                raise ValueError(f"command: the hyperparameter {spec.name!r} would never reach the trainer")

    @property
    def epochs_parameter(self) -> str | None:
        """The hyperparameter that counts epochs (`epochs`, or what that is an alias of), or None."""
        name = self.hyperparameter_aliases.get("epochs", "epochs")
        return name if name in self.hyperparameters else None

    @property
    def has_open_end(self) -> bool:
        """Whether the manifest reads the log, or trusts the command line, but knows no line that ends a training: then
        only the event `done` says that one is complete."""
        by_log = self.metrics[self.primary_metric].pattern or self.effective_patterns or self.epoch_pattern
        return self.completion_pattern is None and bool(by_log or self.trust_argv)

    def defaults(self) -> dict[str, Scalar | None]:
        """The complete default vector, in declared order."""
        return {name: spec.default for name, spec in self.hyperparameters.items()}

    def argv(self, hyperparameters: Mapping[str, Scalar | None], *, python: str) -> tuple[str, ...]:
        """The command line of a training with these values. Floats keep every bit (`repr`); a None is left out.

        `python` is the interpreter for `{python}`. Raises ValueError where there is no command, a value is missing,
        or a name is unknown.
        """
        if self.command is None:
            raise ValueError(f"{self.repo} / {self.name} has no trainer yet")
        unknown = [name for name in hyperparameters if name not in self.hyperparameters]
        if unknown:
            raise ValueError(f"{self.repo} / {self.name} has no hyperparameter {unknown[0]!r}")
        texts = {name: argument_text(value) for name, value in hyperparameters.items() if value is not None}
        known = {**texts, "python": python, "folder": str(self.folder), "model": self.name}
        if self.own_checkout is not None:
            known["checkout"] = str(self.own_checkout.path)
        placed = set(_PLACEHOLDER.findall(" ".join(self.command)))
        out: list[str] = []
        for part in self.command:
            if part == "{hyperparameters}":
                out.extend(self._flags(hyperparameters, placed))
            else:
                out.append(_PLACEHOLDER.sub(lambda match: _lookup(known, match.group(1)), part))
        return tuple(out)

    def _flags(self, values: Mapping[str, Scalar | None], placed: set[str]) -> Iterator[str]:
        for name, spec in self.hyperparameters.items():
            value = values.get(name)
            if value is None or name in placed or spec.flag is None:
                continue
            if spec.type != "bool":
                yield from (spec.flag, argument_text(value))
            elif value:
                yield spec.flag


def _lookup(known: Mapping[str, str], name: str) -> str:
    if name not in known:
        raise ValueError(f"the command needs a value for {{{name}}}")
    return known[name]
