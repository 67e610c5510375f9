"""The cells of the campaign matrix: which victim, signal, phase and surroundings go together. Strikes nothing."""

from __future__ import annotations

import itertools
import random
import signal
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

PHASES = ("starting", "training", "stopping", "cooling")
KILL, TERM, INT = (number.name for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
# victim -> signals that make sense, phases in which it exists
VICTIMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "driver": ((KILL, TERM, INT), PHASES),
    "worker": ((KILL, TERM), PHASES),
    "background worker": ((KILL, TERM), ("training", "stopping")),
    "waiting half": ((KILL, TERM, INT), ("starting", "training", "stopping")),
    "PID 1": ((KILL, TERM, INT), ("starting", "training", "stopping")),
    "trainer": ((KILL,), ("training", "stopping")),
    "EnergyActor": ((KILL, TERM), ("training", "stopping", "cooling")),
    "raylet": ((KILL, TERM), PHASES),
    "gcs": ((KILL, TERM), PHASES),
    "driver+raylet": ((KILL,), PHASES),
    "everything": ((KILL,), PHASES),
}
# struck, these end one attempt or nothing at all, and the campaign goes on: one campaign serves many of them
PASSING = ("worker", "background worker", "waiting half", "PID 1", "trainer", "EnergyActor")


@dataclass(frozen=True)
class Cell:
    """One combination. `ray`: embedded or cluster; `layout`: solo or parallel; `user`: root or user."""

    victim: str
    signal: str
    phase: str
    ray: str
    layout: str
    user: str

    @property
    def passing(self) -> bool:
        return self.victim in PASSING

    @property
    def surroundings(self) -> tuple[str, str]:
        return self.ray, self.user

    @property
    def limit_s(self) -> float:
        """By when nothing may be left: two seconds after a KILL. Ten seconds where a grace of five is in force (what is
        asked to end, and the rest of a trainer that is being stopped), and where gcs or raylet is struck."""
        in_grace = self.signal != KILL or (self.victim == "trainer" and self.phase == "stopping")
        return 10.0 if in_grace or self.victim in ("raylet", "gcs") else 2.0


def all_cells(users: Sequence[str]) -> list[Cell]:
    return [
        Cell(victim, number, phase, ray, layout, user)
        for victim, (numbers, phases) in VICTIMS.items()
        for number, phase, ray, layout, user in itertools.product(
            numbers, phases, ("embedded", "cluster"), ("solo", "parallel"), users
        )
        if not (victim == "background worker" and layout == "solo")
    ]


def pairs(cell: Cell) -> set[tuple[tuple[int, Any], ...]]:
    return set(itertools.combinations(enumerate(astuple(cell)), 2))


def in_order(cells: Iterable[Cell], done: Iterable[Cell], chance: random.Random) -> list[Cell]:
    """All `cells` once: first those that bring pairs of factor values that `done` has not seen, most new ones first."""
    left, seen = list(cells), set().union(*map(pairs, done))
    chance.shuffle(left)
    ordered = []
    while left:
        best = max(left, key=lambda cell: len(pairs(cell) - seen))
        if not pairs(best) - seen:
            break
        left.remove(best)
        ordered.append(best)
        seen |= pairs(best)
    return ordered + left
