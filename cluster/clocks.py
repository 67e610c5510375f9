"""How far a node's wall clock is from the driver's, by round trips. It sets no clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

ROUNDS = 10


@dataclass(frozen=True)
class ClockOffset:
    """`offset_ns`: the node's UTC minus the driver's; true to within `uncertainty_ns` either way."""

    offset_ns: int
    uncertainty_ns: int


def clock_offset(
    ask_utc_ns: Callable[[], int], rounds: int = ROUNDS, here_utc_ns: Callable[[], int] = time.time_ns
) -> ClockOffset:
    """Ask the other clock `rounds` times. The answer was given at some moment of its round trip, so the shortest trip
    bounds the offset best: its middle, plus or minus its half."""
    trips = []
    for _ in range(rounds):
        before_ns = here_utc_ns()
        there_ns = ask_utc_ns()
        after_ns = here_utc_ns()
        trips.append((after_ns - before_ns, there_ns - (before_ns + after_ns) // 2))
    length_ns, offset_ns = min(trips)
    return ClockOffset(offset_ns, (length_ns + 1) // 2)
