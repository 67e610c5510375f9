"""The ledger on hand-made histories: each fault by itself, and the inputs on which other tools report wrong joules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest

from profiler.energy import counters
from profiler.energy.counters import CounterInfo, Reading, Unwrapper, accumulate, settled_read

SECOND = 1_000_000_000
RANGE_UJ = 262_143_328_850
PACKAGE = CounterInfo(
    name="package-0",
    source="powercap",
    device="package-0",
    scope="cpu_package",
    joules_per_unit=Fraction(1, 1_000_000),
    wrap_units=RANGE_UJ + 1,
    max_power_w=2000.0,
    update_period_s=0.001,
)
BOARD = replace(
    PACKAGE,
    name="gpu-0",
    source="nvml",
    scope="gpu",
    joules_per_unit=Fraction(1, 1000),
    wrap_units=None,
    update_period_s=0.1,
)


def readings(values: Sequence[int | None], step_s: float = 0.1, reason: str = "read_failed") -> list[Reading]:
    return [
        Reading(int(i * step_s * SECOND), value, None if value is not None else reason)
        for i, value in enumerate(values)
    ]


def steady(watts: float, seconds: float, start: int = 5_000_000, step_s: float = 0.1) -> list[int]:
    """Counter values in uJ of a constant power, wrapped at the range."""
    ticks = round(seconds / step_s)
    return [(start + round(watts * i * step_s * 1e6)) % (RANGE_UJ + 1) for i in range(ticks + 1)]


def test_difference_is_exact_in_units_and_converted_once() -> None:
    result = accumulate(PACKAGE, readings([1, 10_000_001, 20_000_003]))
    assert (result.units, result.joules, result.wraps, result.bridged) == (20_000_002, 20.000002, 0, 0)
    assert result.null_reason is None


def test_wrap_adds_the_modulus_range_plus_one_unit() -> None:
    result = accumulate(PACKAGE, readings([RANGE_UJ - 5_000_000, 4_999_999]))
    assert (result.units, result.wraps) == (10_000_000, 1)


def test_many_wraps_in_a_long_trace_are_all_counted() -> None:
    values = steady(350.0, 3600.0, step_s=10.0)
    result = accumulate(PACKAGE, readings(values, step_s=10.0))
    assert (result.units, result.wraps) == (350 * 3600 * 1_000_000, 4)


def test_a_hole_that_could_hide_a_wrap_is_ambiguous() -> None:
    hole_s = RANGE_UJ / 1e6 / PACKAGE.max_power_w + 30
    result = accumulate(PACKAGE, [Reading(0, 1_000_000), Reading(int(hole_s * SECOND), 9_000_000)])
    assert (result.units, result.joules, result.null_reason) == (None, None, counters.WRAP_AMBIGUOUS)


def test_a_long_hole_too_short_for_a_wrap_is_bridged() -> None:
    result = accumulate(PACKAGE, [Reading(0, 1_000_000), Reading(100 * SECOND, 9_000_000)])
    assert result.units == 8_000_000


def test_a_counter_that_never_wraps_bridges_any_hole() -> None:
    result = accumulate(BOARD, [Reading(0, 1_000), Reading(86_400 * SECOND, 9_000)])
    assert (result.units, result.joules) == (8_000, 8.0)


@pytest.mark.parametrize("reason", ["read_failed", "empty_read", "counter_vanished"])
def test_failed_reads_inside_are_bridged_by_the_next_good_one(reason: str) -> None:
    values: list[int | None] = list(steady(100.0, 10.0))
    values[3:7] = [None] * 4
    result = accumulate(PACKAGE, readings(values, reason=reason))
    assert (result.units, result.bridged) == (1_000_000_000, 4)


@pytest.mark.parametrize("place", [0, -1])
def test_a_failed_boundary_gives_its_own_reason(place: int) -> None:
    values: list[int | None] = list(steady(100.0, 1.0))
    values[place] = None
    result = accumulate(PACKAGE, readings(values, reason="empty_read"))
    assert (result.units, result.null_reason) == (None, "empty_read")


@pytest.mark.parametrize("wrong", [0, 7, RANGE_UJ, RANGE_UJ + 999, -5, 5_000_000 + 2**32])
@pytest.mark.parametrize("places", [(4,), (4, 5), (3, 4, 5), (2, 6)])
def test_torn_reads_inside_are_left_out(wrong: int, places: tuple[int, ...]) -> None:
    values = steady(100.0, 2.0)
    for place in places:
        values[place] = wrong + place if wrong == 0 else wrong
    result = accumulate(PACKAGE, readings(values))
    assert (result.units, result.wraps, result.null_reason) == (200_000_000, 0, None)


def test_a_torn_read_that_is_too_high_by_a_little_is_left_out() -> None:
    values = steady(100.0, 2.0)
    values[5] += 150_000_000
    assert accumulate(PACKAGE, readings(values)).units == 200_000_000


@pytest.mark.parametrize("place", [0, -1])
def test_a_wrong_number_at_a_boundary_is_null_not_a_guess(place: int) -> None:
    values = steady(100.0, 2.0)
    values[place] += 9_000_000_000
    assert accumulate(PACKAGE, readings(values)).null_reason == counters.IMPLAUSIBLE


def test_a_reset_inside_is_null() -> None:
    before, after = steady(100.0, 1.0, start=50_000_000_000), steady(100.0, 1.0, start=0)
    result = accumulate(PACKAGE, readings([*before, *after]))
    assert (result.units, result.null_reason) == (None, counters.RESET)


def test_a_reset_of_a_counter_without_wrap_is_null() -> None:
    values = [100_000, 110_000, 120_000, 0, 10_000, 20_000]
    assert accumulate(BOARD, readings(values, step_s=1.0)).null_reason == counters.RESET


def test_a_constant_counter_is_not_advancing_and_not_zero() -> None:
    result = accumulate(PACKAGE, readings([0] * 20))
    assert (result.units, result.joules, result.null_reason) == (None, None, counters.NOT_ADVANCING)


def test_a_counter_that_stops_before_the_end_is_not_advancing() -> None:
    values = steady(100.0, 1.0)
    assert accumulate(PACKAGE, readings(values + [values[-1]] * 3)).null_reason == counters.NOT_ADVANCING


def test_a_window_within_one_update_is_null_not_zero() -> None:
    result = accumulate(BOARD, [Reading(0, 5_000), Reading(SECOND // 20, 5_000)])
    assert (result.joules, result.null_reason) == (None, counters.BELOW_STEP)


def test_the_steps_of_a_gpu_counter_between_updates_are_no_freeze() -> None:
    values = [72_000 + 7_200 * (i // 2) for i in range(40)]
    result = accumulate(BOARD, readings(values, step_s=0.05))
    assert result.units == values[-1] - values[0]


def test_fewer_than_two_readings_are_no_energy() -> None:
    assert accumulate(PACKAGE, []).null_reason == counters.NO_READING
    assert accumulate(PACKAGE, [Reading(0, 5)]).null_reason == counters.NO_READING


def test_longest_time_without_movement_is_told() -> None:
    result = accumulate(PACKAGE, readings([0, 0, 0, 0, 50_000_000, 60_000_000]))
    assert result.flat_s == pytest.approx(0.3)


# --- inputs on which other tools were seen to be wrong -------------------------------------------------------------


def test_constant_300_w_for_10_s_is_3000_j() -> None:
    assert accumulate(PACKAGE, readings(steady(300.0, 10.0))).joules == 3000.0


def test_flat_100_w_with_a_spike_of_a_tenth_of_a_second_at_the_end_is_1020_j() -> None:
    values = steady(100.0, 10.0)
    values[-1] += 20_000_000
    assert accumulate(PACKAGE, readings(values)).joules == 1020.0


def test_one_empty_read_costs_nothing_and_adds_nothing() -> None:
    values: list[int | None] = [162_140_000_000, None, 162_142_000_000]
    assert accumulate(PACKAGE, readings(values, step_s=1.0, reason="empty_read")).joules == 2.0


def test_nine_idle_seconds_then_one_at_1000_w_are_1000_j() -> None:
    values = [5_000_000] * 91 + [5_000_000 + 100_000_000 * i for i in range(1, 11)]
    assert accumulate(PACKAGE, readings(values)).joules == 1000.0


def test_one_failed_read_in_ten_seconds_at_100_w_is_1000_j() -> None:
    values: list[int | None] = list(steady(100.0, 10.0))
    values[50] = None
    assert accumulate(PACKAGE, readings(values)).joules == 1000.0


def test_a_wrap_between_two_reads_is_100_w_and_never_negative() -> None:
    values = steady(100.0, 10.0, start=RANGE_UJ - 500_000_000)
    result = accumulate(PACKAGE, readings(values))
    assert (result.joules, result.wraps) == (1000.0, 1)


# --- the ledger in the loop ----------------------------------------------------------------------------------------


def test_unwrapper_follows_a_wrap_and_skips_a_failed_read() -> None:
    unwrapper = Unwrapper(PACKAGE)
    pushed = [unwrapper.push(r) for r in readings([RANGE_UJ - 1_000_000, None, 999_999])]
    assert pushed == [(0, None), (None, "read_failed"), (2_000_000, None)]


def test_unwrapper_doubts_a_torn_read_and_goes_on() -> None:
    unwrapper = Unwrapper(PACKAGE)
    values = [5_000_000, 10_000_000, 5_000_000 + 2**32, 20_000_000]
    pushed = [unwrapper.push(r) for r in readings(values)]
    assert pushed == [(0, None), (5_000_000, None), (None, counters.IMPLAUSIBLE), (15_000_000, None)]


def test_unwrapper_goes_on_from_the_new_level_after_a_reset() -> None:
    unwrapper = Unwrapper(PACKAGE)
    values = [50_000_000_000, 50_010_000_000, 0, 10_000_000, 20_000_000]
    pushed = [unwrapper.push(r) for r in readings(values)]
    assert [reason for _, reason in pushed] == [None, None, counters.IMPLAUSIBLE, counters.RESET, None]
    assert pushed[-1][0] == 30_000_000


class _Script:
    """A counter that plays a list of readings."""

    def __init__(self, values: Sequence[int | None]) -> None:
        self.info = PACKAGE
        self._values = list(values)

    def read(self, clock_ns: counters.Clock = lambda: 0) -> Reading:
        value = self._values.pop(0)
        return Reading(clock_ns(), value, None if value is not None else "empty_read")

    def close(self) -> None:
        self._values.clear()


def test_settled_read_needs_two_readings_that_agree() -> None:
    assert settled_read(_Script([5, 6, 7]), lambda: 0).units == 6
    assert settled_read(_Script([None, 5, 6]), lambda: 0).units == 6
    assert settled_read(_Script([2**32, 5, 6]), lambda: 0).units == 6


def test_settled_read_without_agreement_is_null_with_the_last_fault() -> None:
    assert settled_read(_Script([None] * 5), lambda: 0).null_reason == "empty_read"
    assert settled_read(_Script([9 << 33, 5, 7 << 33, 1, 5 << 33]), lambda: 0).null_reason == counters.IMPLAUSIBLE
