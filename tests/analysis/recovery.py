"""Counts how often planted effects are inside their 95 % intervals, and how often nothing passes for something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from profiler.analysis.compare import compare_rows
from profiler.analysis.comparison import Comparison
from profiler.analysis.effects import effects
from profiler.analysis.results import Effects, GroupEffects
from tests.analysis.planted import CATALOG, TRUTH, planted_rows, run_row, values

PLANTED = (
    ("linear: epochs on energy, solo", "solo", "gpu_energy_j", "epochs", TRUTH.energy_per_epoch_j),
    (
        "linear: epochs on energy, parallel",
        "parallel",
        "gpu_energy_j",
        "epochs",
        TRUTH.energy_per_epoch_j + TRUTH.parallel_per_epoch_j,
    ),
    (
        "logarithmic: learning_rate on accuracy, solo",
        "solo",
        "accuracy",
        "learning_rate",
        TRUTH.accuracy_per_doubling,
    ),
    (
        "interaction: epochs x parallel on energy",
        "both",
        "gpu_energy_j",
        "epochs x parallel",
        TRUTH.parallel_per_epoch_j,
    ),
    ("none: dropout on energy, solo", "solo", "gpu_energy_j", "dropout", 0.0),
    ("none: learning_rate on energy, parallel", "parallel", "gpu_energy_j", "learning_rate", 0.0),
    ("none: dropout on accuracy, solo", "solo", "accuracy", "dropout", 0.0),
    ("none: dropout x parallel on energy", "both", "gpu_energy_j", "dropout x parallel", 0.0),
)
"""(what, mode, outcome, term, true slope)"""

MEDIATED = (
    ("mediated: epochs through duration on energy, solo", "epochs", TRUTH.through_duration_j),
    ("mediated, none: dropout through duration on energy, solo", "dropout", 0.0),
)
"""(what, term, true part of the slope)"""


@dataclass(frozen=True)
class Recovery:
    """Of `trials` data sets with `runs` runs a mode: for each planted effect how often its interval held the truth, how
    often it was called significant."""

    runs: int
    trials: int
    inside: dict[str, int]
    significant: dict[str, int]

    @property
    def false_share(self) -> float:
        """Of the planted effects called significant, the share that does not exist."""
        none = {what for what, *_rest, truth in PLANTED if truth == 0}
        called = sum(self.significant[what] for what, *_rest in PLANTED)
        return sum(self.significant[what] for what in none) / called


def recovery(runs: int, trials: int, seed: int) -> Recovery:
    """Analyses `trials` planted data sets."""
    inside, significant = Counter[str](), Counter[str]()
    for n in range(trials):
        rng = np.random.default_rng([seed, runs, n])
        found = effects(planted_rows(rng, runs, runs), CATALOG)
        for what, mode, outcome, term, truth in PLANTED:
            effect = next(
                e for o in _group(found, mode).outcomes if o.outcome == outcome for e in o.effects if e.term == term
            )
            inside[what] += effect.slope.low <= truth <= effect.slope.high
            significant[what] += effect.significant
        ways = [way for o in _group(found, "solo").outcomes if o.outcome == "gpu_energy_j" for way in o.mediations]
        for what, term, truth in MEDIATED:
            way = next(way for way in ways if way.term == term and way.mediator == "duration_s")
            inside[what] += way.indirect.low <= truth <= way.indirect.high
            significant[what] += way.significant
    return Recovery(runs, trials, dict(inside), dict(significant))


def _group(found: Effects, mode: str) -> GroupEffects:
    return next(group for group in found.groups if group.mode == mode)


@dataclass(frozen=True)
class Alarms:
    """Of `trials` comparisons of two campaigns (`runs` runs each): how many called any figure different, of how many
    figures that were tested, and how many of these were called different."""

    kind: str
    runs: int
    trials: int
    alarmed: int
    tests: int
    different: int


KINDS = ("paired: equal values", "repeated: one set of values", "unpaired: other values")


def alarms(kind: str, runs: int, trials: int, seed: int, *, more_energy: float = 0.0) -> Alarms:
    """Compares campaigns that differ by `more_energy` (a share; 0: A/A)."""
    found = [_compared(kind, runs, np.random.default_rng([seed, runs, n]), more_energy) for n in range(trials)]
    return Alarms(
        kind,
        runs,
        trials,
        alarmed=sum(compared.different > 0 for compared in found),
        tests=sum(compared.tests for compared in found),
        different=sum(compared.different for compared in found),
    )


def _compared(kind: str, runs: int, rng: np.random.Generator, more_energy: float) -> Comparison:
    sides = [list(_campaign(kind, runs, rng, drawn)) for drawn in _drawn(kind, runs, rng)]
    for row in sides[1]:
        row["gpu_energy_j"] *= 1 + more_energy
    return compare_rows(sides[0], sides[1], CATALOG)


def _drawn(kind: str, runs: int, rng: np.random.Generator) -> list[list[dict[str, object]]]:
    """The values of A's and B's runs."""
    first = [values(rng) for _ in range(runs)]
    if kind == KINDS[0]:
        return [first, first]
    if kind == KINDS[1]:
        return [[first[0]] * runs, [first[0]] * runs]
    return [first, [values(rng) for _ in range(runs)]]


def _campaign(
    kind: str, runs: int, rng: np.random.Generator, drawn: list[dict[str, object]]
) -> Iterator[dict[str, object]]:
    for mode in ("mutation", "parallel"):
        for n, hyperparameters in enumerate(drawn, start=1):
            yield run_row(n, mode, hyperparameters, rng)
