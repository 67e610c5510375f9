"""Facts of the machine, read from given places."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from profiler import host

SECOND = 1_000_000_000


def test_boot_id_and_cpu_model_come_from_proc(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("c0ffee\n")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert host.boot_id(tmp_path) == "c0ffee"
    assert host.cpu_model(tmp_path) == "Some CPU @ 2 GHz"


def test_what_the_kernel_does_not_tell_is_empty(tmp_path: Path) -> None:
    assert host.boot_id(tmp_path) == ""
    assert host.cpu_model(tmp_path) == ""


def test_cpus_are_those_that_may_be_used() -> None:
    assert host.cpu_count() == len(os.sched_getaffinity(0))


def test_the_clocks_of_an_anchor_belong_to_one_moment() -> None:
    before, after = host.anchor(), host.anchor()
    assert before.monotonic_ns <= after.monotonic_ns
    moved = host.shift(before, after)
    assert abs(moved.suspended_s) < 0.5
    assert abs(moved.stepped_s) < 0.5
    assert before.utc_ns - before.utc_offset_ns == before.monotonic_ns


def test_a_cpu_that_is_taken_away_between_two_clocks_shifts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(1000))
    wall_ns = time.time_ns

    def held_up_at_first() -> int:
        now_ns = wall_ns()
        if next(calls) == 0:
            time.sleep(0.3)
        return now_ns

    monkeypatch.setattr(time, "time_ns", held_up_at_first)
    held_up, free = host.anchor(), host.anchor()
    assert abs(held_up.utc_offset_ns - free.utc_offset_ns) < 0.1 * SECOND
    assert next(calls) > 1


@pytest.mark.parametrize(("utc_s", "boottime_s"), [(0.0, 0.0), (-3600.0, 0.0), (100.0, 100.0), (110.0, 100.0)])
def test_shift_tells_sleep_from_a_set_clock(utc_s: float, boottime_s: float) -> None:
    before = host.Anchor(5 * SECOND, 100 * SECOND, 7 * SECOND)
    after = host.Anchor(15 * SECOND, round((110 + utc_s) * SECOND), round((17 + boottime_s) * SECOND))
    moved = host.shift(before, after)
    assert moved.suspended_s == pytest.approx(boottime_s)
    assert moved.stepped_s == pytest.approx(utc_s - boottime_s)
