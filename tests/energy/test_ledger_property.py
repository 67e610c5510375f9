"""The ledger on generated histories whose truth is known: error 0 units, or null with the right reason.

PROFILER_LEDGER_EXAMPLES sets how many (1,000 by default), PROFILER_LEDGER_SEED which: `python -m
tests.energy.ledger_histories` runs 100,000 in parts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from random import Random
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st

from profiler.energy import counters
from profiler.energy.counters import CounterInfo, Reading, Unwrapper, accumulate

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("PROFILER_LEDGER_EXAMPLES", "1000"))
MILLISECOND = 1_000_000
SECOND = 1_000_000_000

SEED = os.environ.get("PROFILER_LEDGER_SEED")
Test = TypeVar("Test", bound=Callable[..., None])


def examples(count: int) -> Callable[[Test], Test]:
    """Runs a test on so many histories; with a seed on the same ones each time, and without remembering any."""
    plain = {"max_examples": max(1, count), "deadline": None, "suppress_health_check": list(HealthCheck)}
    if SEED is None:
        return settings(**plain)
    return lambda test: seed(int(SEED))(settings(**plain, database=None)(test))


many = examples(EXAMPLES)
some = examples(EXAMPLES // 4)


@dataclass(frozen=True)
class History:
    """What a counter really did: its times and the units that really passed up to each of them."""

    info: CounterInfo
    times: tuple[int, ...]
    passed: tuple[int, ...]
    start: int

    def raw(self, index: int) -> int:
        value = self.start + self.passed[index]
        return value if self.info.wrap_units is None else value % self.info.wrap_units

    def readings(self) -> list[Reading]:
        return [Reading(t_ns, self.raw(i)) for i, t_ns in enumerate(self.times)]

    @property
    def truth(self) -> int:
        return self.passed[-1]


COUNTERS = (
    (Fraction(1, 10**6), 262_143_328_911),
    (Fraction(1, 10**6), 65_532_610_988),
    (Fraction(1, 10**6), 10**10),
    (Fraction(1, 10**3), None),
    (Fraction(1, 2**32), None),
)


def histories(longest_ns: int, smallest: int = 0) -> st.SearchStrategy[History]:
    """A counter with any power between nothing and its bound, read at any distance up to `longest_ns`.

    Drawn from a seed: ten times as fast as letting hypothesis draw each number, and as reproducible."""
    return st.builds(partial(_history, longest_ns, smallest), st.integers(0, 2**64), st.integers(1, 25))


def _history(longest_ns: int, smallest: int, seed: int, steps: int) -> History:
    rng = Random(seed)
    scale, modulus = rng.choice(COUNTERS)
    period_s, power_w = rng.choice([0.001, 0.02, 0.1]), rng.choice([300.0, 2000.0])
    info = CounterInfo("c", "test", "c", "cpu_package", scale, modulus, power_w, period_s)
    times, passed = [rng.randrange(10**18)], [0]
    for _ in range(steps):
        distance = rng.choice([rng.randint(MILLISECOND, longest_ns), min(longest_ns, 100 * MILLISECOND)])
        most = int(power_w * distance / 1e9 / float(scale))
        times.append(times[-1] + distance)
        passed.append(passed[-1] + max(min(smallest, most), rng.choice([0, most, rng.randint(0, most)])))
    top = modulus or 2**50
    start = rng.choice([rng.randrange(top), rng.randrange(top - 10**9, top), rng.randrange(10**9)])
    return History(info, tuple(times), tuple(passed), start)


def expected_reason(history: History, readings: list[Reading]) -> str | None:
    """The reason a careful person would give for readings that are true or failed, never wrong."""
    for edge in (readings[0], readings[-1]):
        if edge.units is None:
            return edge.null_reason
    good = [i for i, reading in enumerate(readings) if reading.units is not None]
    info = history.info
    if info.wrap_units is not None:
        for i, j in pairwise(good):
            really = history.passed[j] - history.passed[i]
            most = info.max_units(history.times[j] - history.times[i])
            possible = {really % info.wrap_units + k * info.wrap_units for k in range(most // info.wrap_units + 2)}
            if len([units for units in possible if units <= most]) > 1:
                return counters.WRAP_AMBIGUOUS
    last_move = max((j for i, j in pairwise(good) if history.passed[j] != history.passed[i]), default=good[0])
    if (history.times[good[-1]] - history.times[last_move]) / 1e9 >= info.freeze_s:
        return counters.NOT_ADVANCING
    return counters.BELOW_STEP if history.truth == 0 else None


def fail(readings: list[Reading], failed: set[int]) -> list[Reading]:
    return [Reading(r.t_ns, None, "empty_read") if i in failed else r for i, r in enumerate(readings)]


places = st.integers(0, 2**64).map(lambda seed: {i for i in range(26) if Random(seed + i).random() < 0.15})
shares = st.integers(0, 2**64).map(
    lambda seed: {i: Random(~seed + i).choice([0.0, 1.1 * Random(seed - i).random()]) for i in _some_of(seed)}
)


def _some_of(seed: int) -> list[int]:
    rng = Random(seed)
    return [i for i in range(1, 26) if rng.random() < 0.2]


@many
@given(histories(longest_ns=200 * SECOND), places)
def test_true_and_failed_readings_give_the_truth_or_its_reason(history: History, failed: set[int]) -> None:
    readings = fail(history.readings(), failed)
    result = accumulate(history.info, readings)
    reason = expected_reason(history, readings)
    assert (result.units, result.null_reason) == (None if reason else history.truth, reason)


@many
@given(histories(longest_ns=SECOND, smallest=1), shares, places)
def test_torn_readings_inside_change_nothing(history: History, torn: dict[int, float], failed: set[int]) -> None:
    readings = history.readings()
    inside = range(1, len(readings) - 1)
    torn = {i: share for i, share in torn.items() if i in inside}
    failed &= set(inside)
    runs = "".join("t" if i in torn else "." for i in range(len(readings)) if i not in failed)
    assume("t" * (counters.MAX_TORN_IN_A_ROW + 1) not in runs)
    for i, share in torn.items():
        readings[i] = Reading(readings[i].t_ns, int(share * (history.info.wrap_units or 2**50)))
    result = accumulate(history.info, fail(readings, failed))
    if result.units is None and _wraps(history):
        # A wrong reading beside a wrap can look like a reset. Null is then the honest answer.
        assert torn and result.null_reason in (counters.RESET, counters.IMPLAUSIBLE)
    else:
        assert result.units == history.truth


def _wraps(history: History) -> bool:
    return history.info.wrap_units is not None and history.start + history.truth >= history.info.wrap_units


@some
@given(histories(longest_ns=SECOND, smallest=1), st.integers(1, 25), st.integers(0, 10**6))
def test_a_reset_is_null_and_never_joules(history: History, reset_at: int, level: int) -> None:
    assume(len(history.times) >= 3)
    reset_at = min(reset_at, len(history.times) - 1)
    after = replace(history, start=level, passed=tuple(max(0, p - history.passed[reset_at]) for p in history.passed))
    readings = [*history.readings()[:reset_at], *after.readings()[reset_at:]]
    assume(not _could_be_an_advance(history, reset_at, readings))
    result = accumulate(history.info, readings)
    near_edge = reset_at == 1 or reset_at == len(readings) - 1
    assert result.units is None
    assert result.null_reason in ({counters.IMPLAUSIBLE, counters.RESET} if near_edge else {counters.RESET})


def _could_be_an_advance(history: History, reset_at: int, readings: list[Reading]) -> bool:
    """A reset right where the counter would have wrapped, or from a value near 0: no reader can tell these apart."""
    reach = 2 + counters.MAX_TORN_IN_A_ROW
    for before in readings[max(0, reset_at - reach) : reset_at]:
        for after in readings[reset_at : reset_at + reach]:
            assert before.units is not None and after.units is not None
            advance = after.units - before.units
            if history.info.wrap_units is not None:
                advance %= history.info.wrap_units
            if 0 <= advance <= history.info.max_units(after.t_ns - before.t_ns):
                return True
    return False


@some
@given(histories(longest_ns=SECOND, smallest=1), st.integers(0, 25))
def test_a_counter_that_stops_for_good_is_never_joules(history: History, stops_at: int) -> None:
    stops_at = min(stops_at, len(history.times) - 1)
    readings = [
        reading if i <= stops_at else Reading(reading.t_ns, history.raw(stops_at))
        for i, reading in enumerate(history.readings())
    ]
    last_ns = max(history.times[-1], history.times[stops_at] + int(history.info.freeze_s * 1e9) + 1)
    readings.append(Reading(last_ns, history.raw(stops_at)))
    result = accumulate(history.info, readings)
    assert (result.units, result.null_reason) == (None, counters.NOT_ADVANCING)


@some
@given(histories(longest_ns=SECOND), st.integers(0, 25))
def test_a_counter_that_vanishes_is_null(history: History, gone_at: int) -> None:
    gone_at = min(gone_at, len(history.times) - 1)
    readings = [
        reading if i < gone_at else Reading(reading.t_ns, None, counters.VANISHED)
        for i, reading in enumerate(history.readings())
    ]
    assert accumulate(history.info, readings).null_reason == counters.VANISHED


@some
@given(histories(longest_ns=SECOND, smallest=1), places)
def test_the_ledger_in_the_loop_agrees_with_the_ledger_of_the_whole(history: History, failed: set[int]) -> None:
    readings = history.readings()
    readings = fail(readings, failed & set(range(1, len(readings) - 1)))
    unwrapper = Unwrapper(history.info)
    last = [unwrapper.push(reading) for reading in readings][-1]
    assert last == (history.truth, None)
    assert accumulate(history.info, readings).units in (history.truth, None)
