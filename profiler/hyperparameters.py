"""One hyperparameter as a manifest declares it: its type, bounds, range, and how a value is checked and written.

It knows neither models nor configs.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from profiler.documents import as_number, described, show
from profiler.mutation import Range, Scalar

BUILT_IN_PLACEHOLDERS = ("python", "folder", "model", "checkout", "hyperparameters")


class Frozen(BaseModel):
    """A value read from a manifest: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class HyperparameterSpec(Frozen):
    """One hyperparameter of a model. `minimum` and `maximum` bind every value; `range` only what mutation draws."""

    name: str
    flag: str | None = None
    type: Literal["int", "float", "str", "bool"]
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    range: tuple[float, float] | None = None
    distribution: Literal["uniform", "log_uniform"] = "uniform"
    zero_probability: float = Field(default=0.0, ge=0, le=1)
    unit: str = ""
    choices: tuple[Any, ...] | None = None
    description: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> HyperparameterSpec:
        if not re.match(r"^[A-Za-z_][A-Za-z0-9_]*$", self.name) or self.name in BUILT_IN_PLACEHOLDERS:
            raise ValueError(f"{self.name!r} cannot be the name of a hyperparameter")
        if self.choices is not None:
            for choice in self.choices:
                self._typed(choice)
        if self.default is not None:
            object.__setattr__(self, "default", self.coerce(self.default))
        elif self.type == "bool":
            raise ValueError("a bool needs a default, true or false")
        if self.range is not None:
            self.make_range(*self.range)
        elif self.zero_probability:
            raise ValueError("zero_probability needs a range")
        return self

    def coerce(self, value: Any) -> Scalar | None:
        """`value` in this hyperparameter's type. Raises ValueError that says what is allowed.

        A bool is no integer, 3.0 is none either; an integer is fine where a float is wanted. None is allowed only where
        the default is None (it means: leave it to the trainer).
        """
        if value is None and self.default is None:
            return None
        typed = self._typed(value)
        if self.choices is not None and typed not in self.choices:
            raise ValueError(f"must be one of {', '.join(map(show, self.choices))}, not {show(value)}")
        if isinstance(typed, (int, float)) and not isinstance(typed, bool):
            self._check_bounds(typed)
        return typed

    def _typed(self, value: Any) -> Scalar:
        if self.type == "str" and isinstance(value, str):
            return value
        if self.type == "bool" and isinstance(value, bool):
            return value
        if self.type == "int" and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            return value
        if self.type == "float":
            number = as_number(value)
            if number is not None and abs(number) < 1e300:
                return float(number) + 0.0  # no negative zero: it is equal to zero but written differently
        names = {
            "int": "an integer (at most 64 bits)" if isinstance(value, int) else "an integer",
            "float": "a number",
            "str": "a text",
            "bool": "true or false",
        }
        raise ValueError(f"must be {names[self.type]}, not {described(value)}")

    def _check_bounds(self, value: float) -> None:
        if self.minimum is not None and value < self.minimum:
            raise ValueError(f"must be at least {self.minimum:g}, not {value!r}")
        if self.maximum is not None and value > self.maximum:
            raise ValueError(f"must be at most {self.maximum:g}, not {value!r}")

    def from_text(self, text: str) -> Scalar | None:
        """The value that an old CSV cell means ("7", "7.000000" and 7 are the same integer). Raises ValueError."""
        text = text.strip()
        if self.type == "str":
            return text
        if self.type == "bool":
            if text.lower() in {"true", "false"}:
                return text.lower() == "true"
            raise ValueError(f"{text!r} is not true or false")
        if self.type == "int":
            try:
                return int(text)
            except ValueError:
                number = float(text)
                if number.is_integer() and abs(number) < 2**53:
                    return int(number)
                raise ValueError(f"{text!r} is not an integer") from None
        return float(text) + 0.0

    def mutation_range(self) -> Range | None:
        """What this hyperparameter is drawn from, or None if it is not mutated."""
        return self.make_range(*self.range) if self.range is not None else None

    def make_range(
        self, low: float, high: float, distribution: str | None = None, zero_probability: float | None = None
    ) -> Range:
        """A mutation range for this hyperparameter, checked. Raises ValueError that says what is wrong."""
        if self.type not in ("int", "float"):
            raise ValueError(f"a hyperparameter of type {self.type} has no range; give its values under `values`")
        kind = distribution or self.distribution
        zero = self.zero_probability if zero_probability is None else zero_probability
        if low > high:
            raise ValueError(f"the lower end {low:g} is above the upper end {high:g}")
        if kind == "log_uniform" and low <= 0:
            raise ValueError(f"log_uniform needs a lower end above 0, not {low:g} (zero_probability draws exact zeros)")
        if self.type == "int" and not (float(low).is_integer() and float(high).is_integer()):
            raise ValueError(f"the ends must be integers, not {low!r} and {high!r}")
        self._check_bounds(low)
        self._check_bounds(high)
        if zero > 0:
            self._check_bounds(0)
        as_type = int if self.type == "int" else float
        return Range(
            type="int" if self.type == "int" else "float",
            low=as_type(low),
            high=as_type(high),
            distribution="log_uniform" if kind == "log_uniform" else "uniform",
            zero_probability=float(zero),
        )


def argument_text(value: Scalar) -> str:
    """`value` as a command-line argument from which the same value comes back, to the bit."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)
