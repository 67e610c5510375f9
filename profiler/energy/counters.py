"""The ledger: turns readings of an energy counter into energy, in the counter's own integer unit.

It knows wraps, resets, torn, empty, failed and frozen reads, and answers with an exact number of units or with a
reason why there is none. It reads no hardware itself (rapl, perf, nvml do) and keeps no time of its own.

How two readings are compared: a device cannot draw more than `CounterInfo.max_power_w`, so between two readings the
counter can advance by a bounded number of units. Exactly one possible advance within the bound is taken (one that
passes the modulus is a wrap); several are `wrap_ambiguous`; none means that one of the two readings is wrong (torn) or
that the counter was reset in between. Readings around the place decide which: after a torn read the counter goes on
where it was, after a reset it does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Final, Protocol, runtime_checkable

Clock = Callable[[], int]

NOT_ADVANCING: Final = "counter_not_advancing"
WRAP_AMBIGUOUS: Final = "wrap_ambiguous"
RESET: Final = "counter_reset"
IMPLAUSIBLE: Final = "counter_implausible"
BELOW_STEP: Final = "window_below_counter_step"
NO_READING: Final = "no_reading"
EMPTY_READ: Final = "empty_read"
NOT_A_NUMBER: Final = "not_a_number"
READ_FAILED: Final = "read_failed"
PERMISSION_DENIED: Final = "permission_denied"
VANISHED: Final = "counter_vanished"

# How many readings in a row may be torn before the ledger takes the shift of level for a reset.
MAX_TORN_IN_A_ROW: Final = 3
# Powered hardware moves its counter at every update. These two say how long "no movement" must last to be a fact and
# not the jitter of a reader: 4 update periods, and never less than a quarter of a second.
FREEZE_PERIODS: Final = 4
FREEZE_FLOOR_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class CounterInfo:
    """What a counter is. One `units` step is `joules_per_unit` joules; readings live in [0, wrap_units), or grow
    without end when `wrap_units` is None. `max_power_w` is a bound that the device can never exceed, not its rating.
    `update_period_s` is how often the hardware moves the counter (None: unknown, taken as 1 ms)."""

    name: str
    source: str
    device: str
    scope: str
    joules_per_unit: Fraction
    wrap_units: int | None
    max_power_w: float
    update_period_s: float | None
    unit: str = "uJ"
    max_units_per_s: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_units_per_s", self.max_power_w / float(self.joules_per_unit))

    @property
    def period_s(self) -> float:
        return self.update_period_s if self.update_period_s is not None else 0.001

    @property
    def freeze_s(self) -> float:
        """A counter that has not moved for this long is not advancing."""
        return max(FREEZE_FLOOR_S, FREEZE_PERIODS * self.period_s)

    def max_units(self, elapsed_ns: int) -> int:
        """The most units that can pass in `elapsed_ns`, including what two late updates can carry over."""
        return int(self.max_units_per_s * (elapsed_ns / 1e9 + max(0.01, 2 * self.period_s)))

    def joules(self, units: int) -> float:
        """Exactly rounded: the quotient of two whole numbers."""
        return units * self.joules_per_unit.numerator / self.joules_per_unit.denominator


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a counter: raw `units` at CLOCK_MONOTONIC `t_ns`, or None with `null_reason`."""

    t_ns: int
    units: int | None
    null_reason: str | None = None


@runtime_checkable
class EnergyCounter(Protocol):
    """An open counter. `read` never raises for a device fault: the fault is the reading's `null_reason`."""

    @property
    def info(self) -> CounterInfo: ...

    def read(self, clock_ns: Clock = time.monotonic_ns) -> Reading: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A source that cannot be used here: why, and the exact line that would change it ("" when nothing can)."""

    name: str
    reason: str
    fix: str = ""
    scope: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class CounterEnergy:
    """The ledger's answer. `units` and `joules` are None exactly when `null_reason` is set. `bridged` counts readings
    that failed or were torn and were spanned by their neighbours; `flat_s` is the longest time without movement."""

    units: int | None
    joules: float | None
    wraps: int
    bridged: int
    null_reason: str | None
    readings: int
    flat_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Good:
    """A reading known to hold a number."""

    t_ns: int
    units: int


@dataclass(frozen=True, slots=True)
class _Step:
    """A possible advance between two readings."""

    units: int
    wraps: int
    ambiguous: bool


def _step(info: CounterInfo, before: _Good, after: _Good) -> _Step | None:
    """The advance from `before` to `after`, or None when none fits under the power bound."""
    bound = info.max_units(after.t_ns - before.t_ns)
    difference = after.units - before.units
    modulus = info.wrap_units
    if modulus is None:
        return _Step(difference, 0, False) if 0 <= difference <= bound else None
    advance = difference % modulus
    if advance > bound:
        return None
    return _Step(advance, (advance - difference) // modulus, ambiguous=advance + modulus <= bound)


def _in_range(info: CounterInfo, reading: Reading) -> bool:
    if reading.units is None or reading.units < 0:
        return False
    return info.wrap_units is None or reading.units < info.wrap_units


def accumulate(info: CounterInfo, readings: Sequence[Reading]) -> CounterEnergy:
    """Energy from the first to the last of `readings` (in order of time), exact or null with its reason."""
    good = [_Good(r.t_ns, r.units) for r in readings if r.units is not None and _in_range(info, r)]
    if len(readings) < 2:
        return _null(NO_READING, len(good))
    for edge in (readings[0], readings[-1]):
        if not _in_range(info, edge):
            return _null(edge.null_reason or IMPLAUSIBLE, len(good))
    chain = _chain(info, good)
    if chain is None:
        return _null(_broken_reason(info, good), len(good))
    return _settle(info, [good[i] for i in chain], dropped=len(readings) - len(chain))


def _null(reason: str, readings: int, *, bridged: int = 0, flat_s: float = 0.0) -> CounterEnergy:
    return CounterEnergy(None, None, 0, bridged, reason, readings, flat_s)


def _settle(info: CounterInfo, chain: Sequence[_Good], dropped: int) -> CounterEnergy:
    """Adds up a chain of readings that follow each other, and refuses what stood still."""
    units = wraps = 0
    ambiguous = False
    flat_from = chain[0].t_ns
    longest_flat_ns = 0
    for before, after in pairwise(chain):
        step = _step(info, before, after)
        assert step is not None, "a chain holds only readings that follow each other"
        units += step.units
        wraps += step.wraps
        ambiguous = ambiguous or step.ambiguous
        if step.units:
            flat_from = after.t_ns
        longest_flat_ns = max(longest_flat_ns, after.t_ns - flat_from)
    flat_s = longest_flat_ns / 1e9
    reason = None
    if ambiguous:
        reason = WRAP_AMBIGUOUS
    elif (chain[-1].t_ns - flat_from) / 1e9 >= info.freeze_s:
        reason = NOT_ADVANCING
    elif units == 0:
        reason = BELOW_STEP
    if reason is not None:
        return _null(reason, len(chain), bridged=dropped, flat_s=flat_s)
    return CounterEnergy(units, info.joules(units), wraps, dropped, None, len(chain), flat_s)


def _chain(info: CounterInfo, good: Sequence[_Good]) -> list[int] | None:
    """Indices of the readings that follow each other from the first to the last, dropping as few as possible."""
    if all(_step(info, a, b) is not None for a, b in pairwise(good)):
        return list(range(len(good)))
    _, previous = _cheapest(info, good)
    if previous[-1] is None:
        return None
    chain = [len(good) - 1]
    while chain[-1] != 0:
        before = previous[chain[-1]]
        assert before is not None, "every link of a chain was reached from the first reading"
        chain.append(before)
    return chain[::-1]


def _cheapest(info: CounterInfo, good: Sequence[_Good]) -> tuple[list[float], list[int | None]]:
    """For each reading the cheapest way to it from the first one: its cost and the reading before it."""
    unreachable = float("inf")
    cost = [0.0] + [unreachable] * (len(good) - 1)
    previous: list[int | None] = [0] + [None] * (len(good) - 1)
    for j in range(1, len(good)):
        for i in range(j - 1, max(-1, j - 2 - MAX_TORN_IN_A_ROW), -1):
            step = _step(info, good[i], good[j]) if cost[i] < unreachable else None
            if step is None:
                continue
            # Over a wrap, a dropped reading that agrees with what follows was not torn: the counter was reset to 0.
            if step.wraps and any(_step(info, good[k], good[j]) is not None for k in range(i + 1, j)):
                continue
            total = cost[i] + (j - 1 - i) + (len(good) if step.ambiguous else 0)
            if total < cost[j]:
                cost[j], previous[j] = total, i
    return cost, previous


def _broken_reason(info: CounterInfo, good: Sequence[_Good]) -> str:
    """Why no chain spans the readings: a reset inside, or a wrong reading at an edge that nothing can confirm."""
    cost, _ = _cheapest(info, good)
    last = max(i for i, value in enumerate(cost) if value < float("inf"))
    return IMPLAUSIBLE if last == 0 or last >= len(good) - 2 else RESET


class Unwrapper:
    """The ledger in the loop: cumulative units since the first reading, one reading at a time.

    It cannot look ahead, so a doubtful reading gives None and the next one decides. After a reset it goes on from the
    new level; the units lost in the reset are not invented. The exact figure of a run comes from `accumulate`."""

    def __init__(self, info: CounterInfo) -> None:
        self._info = info
        self._anchor: _Good | None = None
        self._doubtful: _Good | None = None
        self.total_units = 0

    def push(self, reading: Reading) -> tuple[int | None, str | None]:
        """Cumulative units after `reading` and None, or None and the reason."""
        if reading.units is None or not _in_range(self._info, reading):
            return None, reading.null_reason or IMPLAUSIBLE
        now = _Good(reading.t_ns, reading.units)
        if self._anchor is None:
            return self._advance(now, 0)
        step = _step(self._info, self._anchor, now)
        if step is not None and not step.ambiguous:
            return self._advance(now, step.units)
        if step is not None:
            self._advance(now, 0)
            return None, WRAP_AMBIGUOUS
        return self._doubt(now)

    def _advance(self, now: _Good, units: int) -> tuple[int, None]:
        self._anchor, self._doubtful = now, None
        self.total_units += units
        return self.total_units, None

    def _doubt(self, now: _Good) -> tuple[int | None, str | None]:
        step = _step(self._info, self._doubtful, now) if self._doubtful is not None else None
        if step is None:
            self._doubtful = now
            return None, IMPLAUSIBLE
        self._advance(now, step.units)
        return None, RESET


def settled_read(counter: EnergyCounter, clock_ns: Clock = time.monotonic_ns, tries: int = 4) -> Reading:
    """A reading at a boundary: read until two readings in a row agree, so that no single bad read can be an edge.

    Costs two reads when all is well. When none agree the reading is None, with the last fault as its reason."""
    before = counter.read(clock_ns)
    for _ in range(tries):
        after = counter.read(clock_ns)
        if _agree(counter.info, before, after):
            return after
        before = after
    return Reading(before.t_ns, None, before.null_reason or IMPLAUSIBLE)


def _agree(info: CounterInfo, before: Reading, after: Reading) -> bool:
    if not (_in_range(info, before) and _in_range(info, after)):
        return False
    assert before.units is not None and after.units is not None, "readings in range hold numbers"
    step = _step(info, _Good(before.t_ns, before.units), _Good(after.t_ns, after.units))
    return step is not None
