"""Reads one mapping of a config (campaign, item, foreground, background) by the declared keys. Knows no models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profiler.config.faults import Faults
from profiler.config.keys import LEVEL_NAMES, key_of, levels_of, names_at, refused_hint
from profiler.config.kinds import WRONG, names_of
from profiler.documents import nearest

TEXT_KEYS = ("description", "notes", "note", "comment")


class Section:
    """The checked keys of one mapping at `level` (C, E, F or B), standing at `path` of the file ("" for the top)."""

    def __init__(self, raw: Mapping[Any, Any], level: str, path: str, faults: Faults) -> None:
        self.level, self.path, self.faults = level, path, faults
        self.wrong: set[str] = set()
        self._values: dict[str, Any] = {}
        for name, value in raw.items():
            self._take(name, value)

    def at(self, name: str) -> str:
        """The full path of the key `name` in this section."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str, default: Any = None) -> Any:
        return self._values.get(name, default)

    def said(self, name: str) -> bool:
        """Whether the key is written here, rightly or wrongly."""
        return name in self._values or name in self.wrong

    def texts(self) -> dict[str, Any]:
        """The free texts, as written."""
        return {name: self._values[name] for name in TEXT_KEYS if name in self._values}

    def need(self, name: str, why: str = "is missing") -> Any:
        """The value of a key that must be there; None after a fault."""
        if not self.said(name):
            self.faults.add(self.at(name), None, f"`{name}` {why}")
        return self._values.get(name)

    def _take(self, name: Any, value: Any) -> None:
        key = key_of(self.level, name) if isinstance(name, str) else None
        if key is None:
            self._refuse(name, value)
            return
        if value is None and key.optional:
            return
        read = key.kind.read(value, self.at(name), self.faults)
        if read is WRONG:
            self.wrong.add(name)
            return
        self._values[name] = read

    def _refuse(self, name: Any, value: Any) -> None:
        path = self.at(str(name))
        elsewhere = levels_of(name) if isinstance(name, str) else ""
        hint = refused_hint(name) if isinstance(name, str) else None
        known = names_at(self.level)
        if elsewhere:
            places = " or ".join(LEVEL_NAMES[level] for level in dict.fromkeys(elsewhere))
            self.faults.add(path, value, f"`{name}` has no place in {LEVEL_NAMES[self.level]}; it belongs to {places}")
        elif hint:
            named = hint.split()[0].rstrip(",")
            message = f"`{name}` is an old key without effect; use {hint}"
            self.faults.add(path, value, message, named if levels_of(named) else None)
        else:
            self.faults.add(path, value, f"unknown key; known here: {names_of(known, 60)}", nearest(name, known))
