"""Old metrics in the units of the manifests; what cannot be one is left out and named. It reads no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from profiler.legacy.findings import Seen
from profiler.legacy.identity import Identity
from profiler.legacy.knowledge import COUNTED
from profiler.legacy.sources import OldRun
from profiler.models import MetricSpec

_LAST_NOT_BEST = "best_val_accuracy"


@dataclass(frozen=True)
class Scores:
    """Metrics that can be trusted in unit and range, the primary one, and why others are missing."""

    metrics: Mapping[str, float]
    primary: str | None
    primary_value: float | None
    nulls: Mapping[str, str]


def read_scores(run: OldRun, identity: Identity) -> tuple[Scores, list[Seen]]:
    """The metrics of a run, and what was wrong with them."""
    metrics: dict[str, float] = {}
    nulls: dict[str, str] = {}
    seen: list[Seen] = []
    for name, value in run.record.metrics.items():
        number, found, why = _score(name, value, identity)
        seen += found
        if number is not None:
            metrics[name] = number
        else:
            nulls[f"metrics.{name}"] = why
    primary = identity.spec.primary_metric if identity.spec else None
    found_value = metrics.get(primary) if primary else None
    if found_value is None:
        nulls["primary_metric_value"] = nulls.get(f"metrics.{primary}", "missing")
    return Scores(metrics, primary, found_value, nulls), seen


def _score(name: str, value: float, identity: Identity) -> tuple[float | None, list[Seen], str]:
    """(value in the manifest's unit or None, what was wrong, why None)."""
    spec = identity.spec.metrics.get(name) if identity.spec else None
    if name == _LAST_NOT_BEST:
        return None, [Seen("best_is_last_epoch", f"{name} = {value!r}")], "last_epoch_not_best"
    if value == 0 and "loss" in name:
        return None, [Seen("loss_printed_as_zero", f"{name} = {value!r}")], "printed_as_zero"
    if spec is None:
        return value, [], ""
    if value > 1 and name in COUNTED.get(identity.key, frozenset()):
        return None, [Seen("metric_is_a_count", f"{name} = {value!r}, a ratio is at most 1")], "count_not_ratio"
    if spec.unit == "ratio" and 1 < value <= 100:
        rounded = ", a whole percent: good to +-0.005 at best" if value == int(value) else ""
        text = f"{name} = {value!r} %, stored as {value / 100!r}{rounded}"
        return value / 100, [Seen("metric_in_percent", text)], ""
    if not _within(value, spec):
        if spec.unit == "ratio" and value == int(value):
            return None, [Seen("metric_is_a_count", f"{name} = {value!r}, a ratio is at most 1")], "count_not_ratio"
        text = f"{name} = {value!r}, allowed {spec.minimum} to {spec.maximum}"
        return None, [Seen("metric_out_of_range", text)], "out_of_range"
    return value, [], ""


def _within(value: float, spec: MetricSpec) -> bool:
    return (spec.minimum is None or value >= spec.minimum) and (spec.maximum is None or value <= spec.maximum)
