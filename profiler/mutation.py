"""Draws mutated values: typed, seeded, unique, the same on every machine. It knows ranges, not configs or files.

How a value comes about (stable: a stored seed must give the same plan for ever). Every run has a stream of its own:
`random.Random(int(sha256(canonical JSON of ["mutation/1", *key])))`, where the key is made of the campaign's seed, the
kind of item and the run's number in it. From a stream only `random()` is used, the one method whose sequence Python
promises to keep. Logarithms and exponentials are taken with `decimal` (correctly rounded everywhere), not with the
C library's, which differ in the last bit between machines.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Literal

Scalar = int | float | str | bool
Vector = tuple[tuple[str, str], ...]
"""A complete set of values that can be compared and hashed: (name, canonical JSON text) sorted by name."""

_CONTEXT = Context(prec=25)
_TRIES = 50
_ENUMERABLE = 200_000


@dataclass(frozen=True)
class Range:
    """What a hyperparameter is drawn from. Both ends belong to it; `zero_probability` is the share of exact zeros."""

    type: Literal["int", "float"]
    low: float
    high: float
    distribution: Literal["uniform", "log_uniform"] = "uniform"
    zero_probability: float = 0.0

    def contains(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if self.zero_probability >= 1:
            return value == 0
        return self.low <= value <= self.high or (value == 0 and self.zero_probability > 0)

    def size(self) -> int:
        """How many different values can be drawn (a float range has as many as doubles lie in it)."""
        if self.zero_probability >= 1:
            return 1
        if self.type == "int":
            inside = int(self.high) - int(self.low) + 1
        else:
            inside = _ordinal(float(self.high)) - _ordinal(float(self.low)) + 1
        outside_zero = self.zero_probability > 0 and not self.low <= 0 <= self.high
        return inside + int(outside_zero)

    def at(self, index: int) -> int | float:
        """The value number `index` of the `size()` values that can be drawn; a zero outside the range comes last."""
        zero: int | float = 0 if self.type == "int" else 0.0
        if self.zero_probability >= 1 or index < 0:
            return zero
        if self.type == "int":
            value: int | float = int(self.low) + index
        else:
            value = _from_ordinal(_ordinal(float(self.low)) + index)
        return value if value <= self.high else zero

    def draw(self, stream: random.Random) -> int | float:
        """One value. Takes two numbers from the stream if there is a zero probability, else one."""
        if self.zero_probability > 0 and stream.random() < self.zero_probability:
            return 0 if self.type == "int" else 0.0
        share = stream.random()
        if self.type == "int":
            return self._draw_int(share)
        low, high = float(self.low), float(self.high)
        if self.distribution == "log_uniform":
            value = float(_log_between(low, high, share))
        else:
            value = low + (high - low) * share
        return min(max(value, low), high)

    def _draw_int(self, share: float) -> int:
        low, high = int(self.low), int(self.high)
        if self.distribution == "log_uniform":
            # k gets the share log((k+1)/k) of log((high+1)/low): every integer of the range can come, the ends too.
            value = int(_log_between(low, high + 1, share))
        else:
            value = low + math.floor((high - low + 1) * share)
        return min(max(value, low), high)


def _log_between(low: float, high: float, share: float) -> Decimal:
    log_low, log_high = _ln(low), _ln(high)
    width = _CONTEXT.subtract(log_high, log_low)
    return _CONTEXT.exp(_CONTEXT.add(log_low, _CONTEXT.multiply(width, Decimal(share))))


@lru_cache(maxsize=1024)
def _ln(value: float) -> Decimal:
    return _CONTEXT.ln(Decimal(value))


def _ordinal(value: float) -> int:
    """The position of a double among all doubles: neighbours differ by one."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value + 0.0))
    return int(bits) if bits >= 0 else -(int(bits) & 0x7FFF_FFFF_FFFF_FFFF)


def _from_ordinal(ordinal: int) -> float:
    bits = ordinal if ordinal >= 0 else (-ordinal) | (1 << 63)
    (value,) = struct.unpack("<d", struct.pack("<Q", bits & 0xFFFF_FFFF_FFFF_FFFF))
    return float(value)


def stream(*key: Scalar | Sequence[str]) -> random.Random:
    """The random stream of `key`: equal keys, equal streams; different keys, independent ones."""
    text = json.dumps(["mutation/1", *key], ensure_ascii=True, separators=(",", ":"))
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))


def vector_of(values: Mapping[str, Scalar | None]) -> Vector:
    """`values` (already typed: an int where the manifest says int) in a form in which equal means equal to the bit."""
    return tuple(sorted((name, json.dumps(value)) for name, value in values.items()))


class TooFewValuesError(ValueError):
    """More runs were asked for than unique values exist. `wanted`, `exist` (without the default) and `used` count."""

    def __init__(self, names: Sequence[str], wanted: int, exist: int, used: int) -> None:
        self.names, self.wanted, self.exist, self.used = tuple(names), wanted, exist, used
        message = f"{wanted} runs need as many unique values of {' x '.join(names)}; beside the default {exist} exist"
        if used:
            message += f", of which {used} are taken by other runs of this plan or by history: {exist - used} are left"
        super().__init__(message)


def draw_unique(
    ranges: Mapping[str, Range],
    count: int,
    *,
    base: Mapping[str, Scalar | None],
    defaults: Iterable[Vector],
    taken: set[Vector],
    streams: Callable[[int], random.Random],
) -> list[dict[str, Scalar]]:
    """`count` settings of the names in `ranges`, all different, none equal to `defaults` or in `taken`.

    `base` holds the other values of the complete vector. `streams(n)` gives the stream of the n-th draw. What is drawn
    is added to `taken`. Raises TooFewValuesError, before anything is drawn, if there are not that many.
    """
    space = _Space(ranges, base)
    forbidden = {vector for vector in defaults if space.reaches(vector)}
    exist = space.size - len(forbidden)
    if exist - len(taken) < count:
        used = sum(1 for vector in taken if vector not in forbidden and space.reaches(vector))
        if exist - used < count:
            raise TooFewValuesError(space.names, count, exist, used)
    drawn: list[dict[str, Scalar]] = []
    for number in range(count):
        values = space.draw(streams(number), forbidden, taken)
        taken.add(space.vector(values))
        drawn.append(values)
    return drawn


class _Space:
    """All settings of some names, the others fixed. Remembers what is left of it once that is little."""

    def __init__(self, ranges: Mapping[str, Range], base: Mapping[str, Scalar | None]) -> None:
        self.ranges = ranges
        self.names = sorted(ranges)
        self.size = math.prod(ranges[name].size() for name in self.names)
        self._fixed = {name: json.dumps(value) for name, value in base.items() if name not in ranges}
        self._order = sorted({*self._fixed, *ranges})
        self._left: list[dict[str, Scalar]] | None = None

    def vector(self, values: Mapping[str, Scalar]) -> Vector:
        """The complete vector, as `vector_of` makes it."""
        fixed = self._fixed
        return tuple((name, fixed[name] if name in fixed else _number_text(values[name])) for name in self._order)

    def reaches(self, vector: Vector) -> bool:
        """Whether `vector` is one of this space."""
        texts = dict(vector)
        if texts.keys() != self._fixed.keys() | self.ranges.keys():
            return False
        if any(texts[name] != text for name, text in self._fixed.items()):
            return False
        return all(self.ranges[name].contains(json.loads(texts[name])) for name in self.names)

    def draw(self, stream: random.Random, *refused: Set[Vector]) -> dict[str, Scalar]:
        """One setting that is in none of the sets `refused`: drawn by the ranges' distributions, and where those keep
        hitting what is taken (little is left), evenly from what is left."""
        for _ in range(_TRIES):
            values: dict[str, Scalar] = {name: self.ranges[name].draw(stream) for name in self.names}
            if self._is_free(values, refused):
                return values
        if self.size > _ENUMERABLE:
            return self._draw_evenly(stream, refused)
        if self._left is None:
            self._left = list(map(self._at, range(self.size)))
        self._left = [values for values in self._left if self._is_free(values, refused)]
        return self._left[math.floor(len(self._left) * stream.random())]

    def _draw_evenly(self, stream: random.Random, refused: Sequence[Set[Vector]]) -> dict[str, Scalar]:
        while True:  # a space too large to list is never nearly used up, so this ends soon
            values = self._at(math.floor(self.size * Fraction(stream.random())))
            if self._is_free(values, refused):
                return values

    def _is_free(self, values: Mapping[str, Scalar], refused: Sequence[Set[Vector]]) -> bool:
        vector = self.vector(values)
        return not any(vector in some for some in refused)

    def _at(self, index: int) -> dict[str, Scalar]:
        values: dict[str, Scalar] = {}
        for name in self.names:
            index, position = divmod(index, self.ranges[name].size())
            values[name] = self.ranges[name].at(position)
        return values


def _number_text(value: Scalar) -> str:
    """What json.dumps writes for a drawn number, faster."""
    return repr(value)
