"""Edges of a window over a counter that moves in steps of 100 ms: 300 W are 30 J a step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiler.energy.counters import Reading
from profiler.energy.edges import Power, Step, catch_steps, end_edge, half_width_j, start_edge
from profiler.energy.integral import Point
from tests.fakes.virtual import BOARD, SECOND, VirtualCounter, VirtualTime, constant

MS = 1_000_000
FLAT = Power([Point(i * 100 * MS, 300.0) for i in range(100)], 300.0)


def step_at(t_ns: int, units: int = 30_000) -> Step:
    return Step(Reading(t_ns - 1 * MS, 1_000_000), Reading(t_ns + 1 * MS, 1_000_000 + units))


def test_a_step_is_caught_within_a_call() -> None:
    clock = VirtualTime()
    counter = VirtualCounter(constant(300.0), BOARD, clock, phase_ns=37 * MS, call_ns=3 * MS)
    readings, steps = catch_steps([counter], clock.monotonic_ns)
    step = steps["gpu-0"]
    off_ns = (step.t_ns - 37 * MS + 50 * MS) % (100 * MS) - 50 * MS
    assert abs(off_ns) <= 2 * MS
    assert readings["gpu-0"] == step.after
    assert step.width_s == pytest.approx(0.003)


def test_several_counters_are_watched_together() -> None:
    clock = VirtualTime()
    infos = [replace(BOARD, name=f"gpu-{i}") for i in range(4)]
    watched = [
        VirtualCounter(constant(300.0), info, clock, phase_ns=i * 20 * MS, call_ns=3 * MS)
        for i, info in enumerate(infos)
    ]
    began_ns = clock.now_ns
    _, steps = catch_steps(watched, clock.monotonic_ns)
    assert len(steps) == 4
    assert clock.now_ns - began_ns < 150 * MS


def test_a_counter_that_stands_still_is_not_waited_for_for_long() -> None:
    clock = VirtualTime()
    counter = VirtualCounter(constant(0.0), BOARD, clock, call_ns=3 * MS)
    began_ns = clock.now_ns
    readings, steps = catch_steps([counter], clock.monotonic_ns)
    assert steps == {}
    assert (readings["gpu-0"].units, readings["gpu-0"].null_reason) == (None, "counter_not_advancing")
    assert 400 * MS <= clock.now_ns - began_ns < 450 * MS


def test_nothing_to_watch_takes_no_time() -> None:
    clock = VirtualTime()
    began_ns = clock.now_ns
    assert catch_steps([], clock.monotonic_ns) == ({}, {})
    assert clock.now_ns == began_ns


def test_what_lies_between_a_caught_step_and_the_start_is_taken_off() -> None:
    edge = start_edge(BOARD, Reading(SECOND, 0), step_at(SECOND), FLAT, SECOND + 10 * MS)
    assert edge.correction_j == pytest.approx(3.0)
    assert edge.sigma_j < 1.0


@pytest.mark.parametrize(
    ("end_ms", "correction_j"),
    [(1000, 0.0), (960, -12.0), (900, -30.0), (890, -33.0)],
)
def test_what_lies_behind_the_end_is_taken_off(end_ms: int, correction_j: float) -> None:
    edge = end_edge(BOARD, Reading(SECOND, 0), step_at(SECOND), FLAT, end_ms * MS)
    assert edge.correction_j == pytest.approx(correction_j)


def test_the_part_before_the_end_is_never_more_than_the_step() -> None:
    edge = end_edge(BOARD, Reading(SECOND, 0), step_at(SECOND, units=8_000), FLAT, 950 * MS)
    assert edge.correction_j == 0.0


def test_a_reading_anywhere_is_half_a_step_behind_give_or_take_the_other_half() -> None:
    edge = end_edge(BOARD, Reading(SECOND, 0), None, FLAT, SECOND)
    assert edge.correction_j == pytest.approx(15.0)
    assert half_width_j(edge) == pytest.approx(2 * 30.0 / 12**0.5)


def test_power_at_an_edge_is_the_last_one_seen_before_it() -> None:
    power = Power([Point(0, 100.0), Point(100 * MS, 500.0)], 250.0)
    assert power.at(99 * MS) == 100.0
    assert power.at(100 * MS) == 500.0
    assert power.at(-1) == 250.0
    assert power.at(5 * SECOND) == 250.0, "a sample of long ago says nothing"
