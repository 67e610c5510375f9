"""How much GPU memory a training needs: what earlier runs were seen to take, else the manifest's estimate. Pure.

Measured peaks count for the same model with the same values of whatever can change memory. A run that ended for lack
of memory raises the estimate above what it had by then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from profiler.models import ModelSpec
from profiler.planned import TrainingKey, training_key

# What is looked at ten times a second misses short peaks, and allocators keep a little more from one run to the next.
MARGIN: Final = 0.05
BEYOND_FAILURE: Final = 0.10  # how much more than at its failure a training that ran out of memory is taken to need
NO_EFFECT: Final = frozenset(
    {"epochs", "max_iter", "learning_rate", "seed", "dropout", "weight_decay", "alpha", "kfold"}
)

Source = Literal["manifest", "measured", "ran out of memory"]


@dataclass(frozen=True)
class Estimate:
    """`mib` with its margin, where it comes from, and from how many runs."""

    mib: float
    source: Source
    runs: int = 0

    def unknown_for(self, model: ModelSpec) -> bool:
        """Whether nobody knows: `model` uses a GPU, no run of it was seen, and its manifest says nothing."""
        return model.uses_gpu and self.source == "manifest" and not self.mib

    def text(self, name: str) -> str:
        """For example ``resnet20 735 MiB (measured in 3 runs)``."""
        known = (
            self.source if self.source != "measured" else f"measured in {self.runs} run{'s' if self.runs > 1 else ''}"
        )
        return f"{name} {self.mib:.0f} MiB ({known})"


class MemoryHistory:
    """Peaks of earlier runs; empty without any."""

    def __init__(self) -> None:
        self._peaks: defaultdict[TrainingKey, list[float]] = defaultdict(list)
        self._failed_at: defaultdict[TrainingKey, list[float]] = defaultdict(list)

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]]) -> MemoryHistory:
        """From rows of `runs`, typed as the session's reader gives them."""
        found = cls()
        for row in rows:
            found._take(row)
        return found

    def _take(self, row: Mapping[str, Any]) -> None:
        reasons = row["reasons"] or []
        front = _key(row["repo"], row["model"], row["requested_hyperparameters"])
        if "oom" in reasons:
            _put(self._failed_at[front], row["gpu_memory_foreground_mib"])
        elif row["valid"]:
            _put(self._peaks[front], row["gpu_memory_foreground_mib"])
        if row["background_repo"] is None:
            return
        back = _key(row["background_repo"], row["background_model"], row["background_hyperparameters"])
        if "background_oom" in reasons:
            _put(self._failed_at[back], row["gpu_memory_background_mib"])
        elif row["valid"]:
            _put(self._peaks[back], row["gpu_memory_background_mib"])

    def estimate(self, model: ModelSpec, values: Mapping[str, Any]) -> Estimate:
        """What a training of `model` with these complete values needs."""
        key = _key(model.repo, model.name, values)
        peaks, failed_at = self._peaks.get(key, []), self._failed_at.get(key, [])
        known = max(peaks, default=None)
        if failed_at and (known is None or max(failed_at) > known):
            least = (1 + BEYOND_FAILURE) * max(failed_at)
            return Estimate(max(least, model.memory_mib), "ran out of memory", len(failed_at))
        if known is not None:
            return Estimate((1 + MARGIN) * known, "measured", len(peaks))
        return Estimate(model.memory_mib, "manifest")


def _key(repo: str, model: str, values: Mapping[str, Any] | None) -> TrainingKey:
    return training_key(repo, model, values or {}, but=NO_EFFECT)


def _put(values: list[float], value: float | None) -> None:
    if value is not None:
        values.append(value)
