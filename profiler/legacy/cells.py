"""Reads single values of old files: numbers, truth values, times. A text that is none is None, never a guess."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

ABSENT = {"", "n/a", "na", "[n/a]", "[not supported]", "not supported", "none", "null", "-"}
"""Words that old files write where a sensor gave nothing."""


def is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in ABSENT)


def number(value: Any) -> float | None:
    """A finite number, also from text such as "4,481.52"; else None. A truth value is none."""
    if isinstance(value, str):
        try:
            value = float(value.replace(",", ""))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def scalar(value: Any) -> Any:
    """A value of a CSV cell in its narrowest type: truth value, integer, float, else the text."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        parsed = number(text)
        return text if parsed is None else parsed


def truth(value: Any) -> bool | None:
    """True or false, also as text; None for anything else."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(str(value).strip().lower())


def moment(value: Any) -> datetime | None:
    """An ISO 8601 time as it stands (old files name no zone); None for anything else."""
    try:
        return datetime.fromisoformat(value.strip()) if isinstance(value, str) else None
    except ValueError:
        return None


def epoch_ns(text: str) -> int | None:
    """Epoch seconds, whole or with decimals, in ns; None for anything else."""
    seconds, _, decimals = text.strip().partition(".")
    if not seconds.isdecimal() or not (decimals or "0").isdecimal():
        return None
    return int(seconds) * 1_000_000_000 + int(decimals.ljust(9, "0")[:9])
