"""The kinds of value that config keys have: each checks one value and says what is allowed. No key names here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from profiler.config.faults import Faults
from profiler.documents import as_number, described, nearest

LARGEST = 1e18
"""No number of a config may be further from zero."""


class _Wrong:
    """What `read` gives back for a value that is wrong; the fault is recorded."""


WRONG = _Wrong()


class Kind(Protocol):
    """One kind of value. `words` says in the documentation what is allowed."""

    @property
    def words(self) -> str: ...

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        """The typed value, or WRONG after a fault was recorded under `path`."""


def refuse(path: str, value: Any, wanted: str, faults: Faults, suggestion: str | None = None) -> _Wrong:
    """Record that the value at `path` must be `wanted`."""
    faults.add(path, value, f"must be {wanted}, not {described(value)}", suggestion)
    return WRONG


class Text:
    words = "text"

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if isinstance(value, str) and value.strip():
            return value
        hint = f'"{value}"' if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        return refuse(path, value, "a text", faults, hint)


class FreeText:
    """A text or a list of texts; may be empty."""

    words = "text, or a list of texts"

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if isinstance(value, str) or (isinstance(value, list) and all(isinstance(part, str) for part in value)):
            return value
        return refuse(path, value, "a text or a list of texts", faults)


class Flag:
    words = "true or false"

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        return value if isinstance(value, bool) else refuse(path, value, "true or false", faults)


class Integer:
    def __init__(self, low: int, high: int | None = None) -> None:
        self.low, self.high = low, high
        self.words = f"integer, {low} or more" if high is None else f"integer, {low} to {high}"

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < self.low or (self.high is not None and value > self.high):
            return refuse(path, value, self.words.replace("integer", "an integer"), faults)
        return value


class Number:
    """A finite number from `low` (or above `above`) to `high`."""

    def __init__(self, low: float | None = None, high: float | None = None, above: float | None = None) -> None:
        self.low, self.high, self.above = low, high, above
        parts = [f"above {above:g}" if above is not None else f"{low:g} or more" if low is not None else ""]
        parts.append(f"at most {high:g}" if high is not None else "")
        self.words = ", ".join(["number", *filter(None, parts)])

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        number = as_number(value)
        if number is None or self._outside(number):
            return refuse(path, value, "a " + self.words, faults)
        if abs(number) > LARGEST:
            return refuse(path, value, f"a {self.words}, at most {LARGEST:g} away from zero", faults)
        return float(number)

    def _outside(self, number: int | float) -> bool:
        return (
            (self.low is not None and number < self.low)
            or (self.high is not None and number > self.high)
            or (self.above is not None and number <= self.above)
        )


class Choice:
    def __init__(self, *names: str) -> None:
        self.names = names
        self.words = " / ".join(names)

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if isinstance(value, str) and value in self.names:
            return value
        wanted = self.names[0] if len(self.names) == 1 else f"one of {', '.join(self.names)}"
        return refuse(path, value, wanted, faults, nearest(value, self.names))


class ListOf:
    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.words = f"list of: {kind.words}"

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if not isinstance(value, list):
            return refuse(path, value, "a list", faults)
        items = [self.kind.read(item, f"{path}[{n}]", faults) for n, item in enumerate(value)]
        return WRONG if WRONG in items else items


class Names:
    """A list of names, or the word "all" (also as the list's only entry). Read as a list, a wrong entry as None: the
    others are checked too."""

    words = 'list of hyperparameters, or "all"'

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if value == "all":
            return ["all"]
        if isinstance(value, str):
            return refuse(path, value, 'a list of hyperparameters or "all"', faults, f"[{value}]")
        if not isinstance(value, list) or not value:
            return refuse(path, value, 'a list of at least one hyperparameter or "all"', faults)
        names = [Text().read(item, f"{path}[{n}]", faults) for n, item in enumerate(value)]
        return [None if name is WRONG else name for name in names]


class AnyMapping:
    """A mapping with text keys whose content somebody else checks. What is read leaves out keys that are no text."""

    def __init__(self, words: str) -> None:
        self.words = words

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if not isinstance(value, Mapping):
            return refuse(path, value, "a mapping", faults)
        wrong = [key for key in value if not isinstance(key, str)]
        for key in wrong:
            faults.add(f"{path}.{key}", value[key], f"the key {key!r} must be a text")
        return {key: item for key, item in value.items() if isinstance(key, str)}


class MapOf(AnyMapping):
    """A mapping from names to values of one kind. A wrong value is None in what is read, so that its name and the other
    entries are checked too."""

    def __init__(self, words: str, kind: Kind) -> None:
        super().__init__(words)
        self.kind = kind

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        mapping = super().read(value, path, faults)
        if mapping is WRONG:
            return WRONG
        out = {key: self.kind.read(item, f"{path}.{key}", faults) for key, item in mapping.items()}
        return {key: None if item is WRONG else item for key, item in out.items()}


class Group(AnyMapping):
    """A mapping with known keys, all optional; null is the same as leaving out."""

    def __init__(self, words: str, fields: Mapping[str, Kind]) -> None:
        super().__init__(words)
        self.fields = fields

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        mapping = super().read(value, path, faults)
        if mapping is WRONG:
            return WRONG
        out: dict[str, Any] = {}
        for key, item in mapping.items():
            if key not in self.fields:
                known = ", ".join(self.fields)
                faults.add(f"{path}.{key}", item, f"unknown key; known: {known}", nearest(key, self.fields))
                out[key] = WRONG
            elif item is not None:
                out[key] = self.fields[key].read(item, f"{path}.{key}", faults)
        return WRONG if WRONG in out.values() or len(mapping) < len(value) else out


class Items:
    """A list of at least one mapping. A wrong entry is None in what is read, so that the others are checked too."""

    words = "list of items"

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if not isinstance(value, list) or not value:
            return refuse(path, value, "a list of at least one item", faults)
        items = [AnyMapping("mapping").read(item, f"{path}[{n}]", faults) for n, item in enumerate(value)]
        return [None if item is WRONG else item for item in items]


def names_of(values: Sequence[str], limit: int = 30) -> str:
    """`values` as a list in a message, shortened."""
    shown = ", ".join(values[:limit])
    return shown if len(values) <= limit else f"{shown} and {len(values) - limit} more"
