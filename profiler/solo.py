"""What models took alone in the runs of this session so far: the yardstick for splitting a pair's energy. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any, Final

from profiler.energy.attribution import Role, SoloPower
from profiler.planned import Background, PlannedRun, TrainingKey, training_key

SoloKey = tuple[TrainingKey, str | None]
"""A training, and the user's own clone of the original that it is, if it is one: another program."""

LEAST_S: Final = 5.0
"""A shorter training's share of the SMs is not known: the driver tells means over a second."""


class SoloRuns:
    """Mean power above idle of valid solo runs, by model, clone, complete values and kind of GPU. Only trainings that
    are part of one of the `planned` pairs are remembered."""

    def __init__(self, planned: Iterable[PlannedRun]) -> None:
        pairs = [(run, run.background) for run in planned if run.background is not None]
        partners: list[PlannedRun | Background] = [training for pair in pairs for training in pair]
        self._wanted = set(map(solo_key, partners))
        self._seen: defaultdict[tuple[SoloKey, str | None], list[SoloPower]] = defaultdict(list)

    def take(self, row: Mapping[str, Any]) -> None:
        """Remember the run of this row of `runs`, if it was one of those and its figures are clean."""
        alone = row.get("background_repo") is None and len(row.get("gpu_uuids") or ()) <= 1
        if not row.get("safe") or not alone:
            return
        power_w, idle_w = row.get("gpu_power_mean_w"), row.get("gpu_idle_power_w")
        key = _key(row["repo"], row["model"], row["requested_hyperparameters"], row.get("checkout"))
        if power_w is not None and idle_w is not None and key in self._wanted:
            trained_w = _training_power_w(row)
            self._seen[key, row.get("gpu_name")].append(
                SoloPower(
                    max(0.0, power_w - idle_w),
                    None if trained_w is None else max(0.0, trained_w - idle_w),
                    row.get("gpu_sm_training_percent") if (row.get("training_s") or 0.0) >= LEAST_S else None,
                )
            )

    def of(self, run: PlannedRun, gpu_name: str | None) -> dict[Role, SoloPower]:
        """What both partners of a pair took alone on a GPU of that model; empty unless both are known."""
        if run.background is None:
            return {}
        found = {"foreground": self._mean(run, gpu_name), "background": self._mean(run.background, gpu_name)}
        known: dict[Role, SoloPower] = {role: power for role, power in found.items() if power is not None}  # type: ignore[misc]
        return known if len(known) == 2 else {}

    def _mean(self, training: PlannedRun | Background, gpu_name: str | None) -> SoloPower | None:
        seen = self._seen.get((solo_key(training), gpu_name))
        if not seen:
            return None
        shares = [power.training_sm_percent for power in seen if power.training_sm_percent is not None]
        trained = [power.training_w for power in seen if power.training_w is not None]
        return SoloPower(
            mean(power.above_idle_w for power in seen),
            mean(trained) if trained else None,
            mean(shares) if shares else None,
        )


def _training_power_w(row: Mapping[str, Any]) -> float | None:
    """Mean W from the first optimiser step to the trainer's own end; None where that is not known."""
    joules, seconds = row.get("gpu_energy_training_j"), row.get("training_s")
    return joules / seconds if joules is not None and seconds else None


def solo_key(training: PlannedRun | Background) -> SoloKey:
    """Equal for a run alone and the partner of a pair for which it is a yardstick."""
    return _key(training.repo, training.model, training.hyperparameters, training.checkout)


def _key(repo: str, model: str, values: Mapping[str, Any], checkout: str | None) -> SoloKey:
    """Values that cannot change the power of a training are left out: how long it is, and where its draws start."""
    return training_key(repo, model, values, but=("epochs", "max_iter", "seed")), checkout
