"""The kind of value of the key `thresholds`: limits of reasons, in the unit and range that each reason declares."""

from __future__ import annotations

from typing import Any

from profiler.config.faults import Faults
from profiler.config.kinds import WRONG, AnyMapping, Number
from profiler.documents import nearest
from profiler.reasons import REASONS, THRESHOLDS


class Limits(AnyMapping):
    """A mapping from reasons that have a threshold to limits; null is the default."""

    def __init__(self) -> None:
        super().__init__("mapping reason -> number, see [verdicts](verdicts.md)")

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        mapping = super().read(value, path, faults)
        if mapping is WRONG:
            return WRONG
        known = {name: limit for name, limit in mapping.items() if limit is not None}
        out = {name: _limit(name, limit, f"{path}.{name}", faults) for name, limit in known.items()}
        return WRONG if WRONG in out.values() else out


def _limit(name: str, limit: Any, path: str, faults: Faults) -> Any:
    threshold = THRESHOLDS.get(name)
    if threshold is None:
        what = f"the reason `{name}` has no threshold" if name in REASONS else "there is no such reason"
        suggestion = None if name in REASONS else nearest(name, list(THRESHOLDS))
        faults.add(path, limit, f"{what}; these have one: {', '.join(THRESHOLDS)}", suggestion)
        return WRONG
    number = Number(low=0, high=threshold.high)
    number.words += f" ({threshold.unit}: {threshold.quantity})"
    return number.read(limit, path, faults)
