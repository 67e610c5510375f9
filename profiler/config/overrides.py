"""Applies `--set KEY=VALUE` options to a document. It knows paths, not which keys there are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from profiler.config.faults import Faults
from profiler.documents import parse_yaml, type_name

_MAX_SHOWN = 200
_PART = re.compile(r"^[^.\[\]=\s][^.\[\]=]*$|^\[[0-9]+\]$")


def apply_overrides(document: Mapping[Any, Any], overrides: Sequence[str], faults: Faults) -> dict[Any, Any]:
    """A copy of `document` with the options applied in order; what cannot be applied is a fault.

    A key is a path of names and list positions: `seed`, `cooling.seconds`, `experiments.0.runs_per_config` (also
    `experiments[0]...`). The value is read as YAML. Missing mappings on the way are made, list items are not.
    """
    out: dict[Any, Any] = _copy(document)
    for option in overrides:
        key, equals, text = option.partition("=")
        parts = _split(key.strip())
        label = f"--set {key.strip()}" if equals else f"--set {option}"
        if not equals or not parts:
            faults.add(label, option, "must read KEY=VALUE, such as seed=7 or experiments.0.runs_per_config=3")
            continue
        try:
            value = parse_yaml(text) if text.strip() else None
        except (yaml.YAMLError, ValueError, RecursionError):
            faults.add(label, text, "the value is not YAML; put it in quotes if it is a text")
            continue
        path, problem = _assign(out, parts, value)
        if problem:
            faults.add(label, value, problem)
        else:
            faults.overridden[path] = f"--set {option if len(option) <= _MAX_SHOWN else option[:_MAX_SHOWN] + '...'}"
    return out


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _split(key: str) -> list[str]:
    parts = re.split(r"\.|(?=\[)", key)
    return [part.strip("[]") for part in parts] if key and all(_PART.match(part) for part in parts) else []


def _assign(document: dict[Any, Any], parts: Sequence[str], value: Any) -> tuple[str, str]:
    """Put `value` at `parts`. Gives the path as messages write it, and what is wrong ("" if nothing)."""
    here: Any = document
    path = ""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if isinstance(here, list):
            if not part.isdecimal() or int(part) >= len(here):
                return path, f"`{path}` is a list of {len(here)}: {part!r} is no position in it (they count from 0)"
            slot: Any = int(part)
            path = f"{path}[{slot}]"
        elif isinstance(here, dict):
            slot = part
            path = f"{path}.{part}" if path else part
            if not last and here.get(slot) is None:
                here[slot] = {}
        else:
            return path, f"`{path}` is {type_name(here)}: it has no {part!r} in it"
        if last:
            here[slot] = value
        else:
            here = here[slot]
    return path, ""
