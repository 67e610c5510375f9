"""What a pair costs and saves against its two trainings one after the other. Pure; it reads rows and runs nothing.

A pair is compared with solo runs of both partners with the same values (`baseline_runs` plans them). The background is
counted in epochs: those that it finished within the foreground's window, against the time and the energy that an epoch
takes alone, between its first step and its own end. Intervals come from resampling the runs of each kind (percentiles
of 1,000 draws with a fixed seed).
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any, Final

from profiler.analysis.identity import by_gpu, sm_percents

RESAMPLES: Final = 1000
LEVEL: Final = 0.95

Row = Mapping[str, Any]
Training = tuple[str, str, str]
"""Repository, model, complete values as JSON."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; both limits None where of one of the kinds of run that it is made of there is one
    only. `value` None with `null_reason` where something is not known."""

    value: float | None
    low: float | None = None
    high: float | None = None
    null_reason: str | None = None


@dataclass(frozen=True)
class Pair:
    """What runs together, and how; runs that differ in any of it are never averaged. `sm_percents`: the share of
    the SMs that each may use under MPS. `gpu`: the GPU model of all these runs, "" where the session has one only.
    `checkouts`: the user's own clones that trained instead of the trainers here, if any did."""

    foreground: Training
    background: Training
    sharing: str
    sm_percents: tuple[float | None, float | None]
    background_mode: str
    gpu: str
    checkouts: tuple[str | None, str | None]

    @property
    def partners(self) -> tuple[tuple[Training, str | None], tuple[Training, str | None]]:
        """Both trainings, each with its clone."""
        return (self.foreground, self.checkouts[0]), (self.background, self.checkouts[1])


@dataclass(frozen=True)
class PairCost(Pair):
    """One pair against one after the other. `runs`: how many pairs, solo foregrounds, solo backgrounds.

    Slowdowns are times (1: none). `energy_saved_j` and `time_saved_s` are what the two trainings, the background's
    epochs as many as it worked, parts of one too, would take more one after the other; negative: together costs more.
    `energy_saved_share` is the first of these as a share of what they would take. The background's first start is left
    out on both sides; what it starts again within the window (mode loop) is the pair's."""

    runs: tuple[int, int, int]
    slowdown_foreground: Estimate
    slowdown_background: Estimate
    energy_saved_j: Estimate
    energy_saved_share: Estimate
    time_saved_s: Estimate


@dataclass(frozen=True)
class _Kinds:
    """The runs of a pair and of both partners alone."""

    pairs: Sequence[Row]
    fronts: Sequence[Row]
    backs: Sequence[Row]

    def drawn(self, draw: random.Random) -> _Kinds:
        return _Kinds(*(draw.choices(rows, k=len(rows)) for rows in (self.pairs, self.fronts, self.backs)))


def pair_costs(rows: Iterable[Row]) -> list[PairCost]:
    """Every pair among the safe ones of `rows` (of `runs`), each GPU model apart; energy is that of the whole GPU."""
    safe = [row for row in rows if row.get("safe") and len(row.get("gpu_uuids") or ()) <= 1]
    return [cost for gpu, here in by_gpu(safe).items() for cost in _costs(here, gpu)]


def _costs(rows: Iterable[Row], gpu: str) -> list[PairCost]:
    """Every pair among runs on GPUs of one kind."""
    solos: defaultdict[tuple[Training, str | None], list[Row]] = defaultdict(list)
    pairs: defaultdict[Pair, list[Row]] = defaultdict(list)
    for row in rows:
        front = _training(row["repo"], row["model"], row["requested_hyperparameters"])
        if row.get("background_repo") is None:
            solos[front, row.get("checkout")].append(row)
        else:
            values = row["background_hyperparameters"]
            back = _training(row["background_repo"], row["background_model"], values)
            how = row["sharing"] or "", sm_percents(row), row["background_mode"] or ""
            clones = row.get("checkout"), row.get("background_checkout")
            pairs[Pair(front, back, *how, gpu, clones)].append(row)
    return [
        _cost(which, _Kinds(both, *(solos.get(one, []) for one in which.partners))) for which, both in pairs.items()
    ]


def _training(repo: str, model: str, values: Mapping[str, Any] | None) -> Training:
    return repo, model, json.dumps(dict(values or {}), sort_keys=True)


def _cost(which: Pair, kinds: _Kinds) -> PairCost:
    need_front = _needed("solo_foreground", kinds.fronts, ("duration_s",))
    need_back = _needed("solo_background", kinds.backs, ("training_s", "epochs_done"))
    need_pair = _needed("pair", kinds.pairs, ("background_epochs_worked",))
    need_energy = [
        *_needed("pair", kinds.pairs, ("gpu_energy_j",)),
        *_needed("solo_foreground", kinds.fronts, ("gpu_energy_j",)),
        *_needed("solo_background", kinds.backs, ("gpu_energy_training_j", "epochs_done")),
        *need_pair,
    ]
    return PairCost(
        **vars(which),
        runs=(len(kinds.pairs), len(kinds.fronts), len(kinds.backs)),
        slowdown_foreground=_estimate(_slowdown_foreground, replace(kinds, backs=()), need_front),
        slowdown_background=_estimate(_slowdown_background, replace(kinds, fronts=()), [*need_back, *need_pair]),
        energy_saved_j=_estimate(_saved_j, kinds, need_energy),
        energy_saved_share=_estimate(lambda some: _saved_j(some) / _alone_j(some), kinds, need_energy),
        time_saved_s=_estimate(_time_saved_s, kinds, [*need_front, *need_back, *need_pair]),
    )


def _epochs(kinds: _Kinds) -> float:
    return _mean(row["background_epochs_worked"] for row in kinds.pairs)


def _epoch_s(kinds: _Kinds) -> float:
    """Seconds that an epoch of the background takes alone."""
    return _mean(row["training_s"] / row["epochs_done"] for row in kinds.backs)


def _alone_j(kinds: _Kinds) -> float:
    """J of one after the other."""
    epoch_j = _mean(row["gpu_energy_training_j"] / row["epochs_done"] for row in kinds.backs)
    return _mean(row["gpu_energy_j"] for row in kinds.fronts) + _epochs(kinds) * epoch_j


def _saved_j(kinds: _Kinds) -> float:
    return _alone_j(kinds) - _mean(row["gpu_energy_j"] for row in kinds.pairs)


def _slowdown_foreground(kinds: _Kinds) -> float:
    return _mean(row["duration_s"] for row in kinds.pairs) / _mean(row["duration_s"] for row in kinds.fronts)


def _slowdown_background(kinds: _Kinds) -> float:
    return _mean(row["duration_s"] for row in kinds.pairs) / (_epochs(kinds) * _epoch_s(kinds))


def _time_saved_s(kinds: _Kinds) -> float:
    alone_s = _mean(row["duration_s"] for row in kinds.fronts) + _epochs(kinds) * _epoch_s(kinds)
    return alone_s - _mean(row["duration_s"] for row in kinds.pairs)


def _needed(kind: str, rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """What is missing of `rows` for a figure made of these columns."""
    if not rows:
        return [f"no_{kind}_run"]
    unknown = [f"{column}_unknown" for column in columns if any(row.get(column) is None for row in rows)]
    return unknown + [f"{column}_is_zero" for column in columns if any(row.get(column) == 0 for row in rows)]


def _estimate(figure: Callable[[_Kinds], float], kinds: _Kinds, missing: Sequence[str]) -> Estimate:
    if missing:
        return Estimate(None, null_reason=missing[0])
    value = figure(kinds)
    if min(len(kinds.pairs), len(kinds.fronts) or 2, len(kinds.backs) or 2) < 2:
        return Estimate(value)
    draw = random.Random(0)
    values = sorted(figure(kinds.drawn(draw)) for _ in range(RESAMPLES))
    edge = round(RESAMPLES * (1 - LEVEL) / 2)
    return Estimate(value, values[edge], values[-1 - edge])


def _mean(values: Iterable[float]) -> float:
    return float(mean(values))
