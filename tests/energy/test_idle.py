"""Idle power from a trace whose truth is known."""

from __future__ import annotations

from random import Random

import pytest

from profiler.energy.idle import idle_power, node_idle
from profiler.energy.sample import Sample
from tests.fakes.virtual import SECOND


def rows(power_w: list[float], util: float | None = 0.0, kind: str = "instant", source: str = "nvml") -> list[Sample]:
    return [
        Sample(i * SECOND // 10, 0, "boot", i, 0, False, source, "GPU-0", "gpu",
               power_w=watts, power_kind=kind, util_percent=util)
        for i, watts in enumerate(power_w)
    ]  # fmt: skip


def test_the_mean_and_its_interval_hold_the_truth() -> None:
    held = 0
    for seed in range(200):
        rng = Random(seed)
        found = idle_power(rows([rng.gauss(72.0, 1.5) for _ in range(50)]), 0, 5 * SECOND)
        assert found.power_w == pytest.approx(72.0, abs=1.5)
        assert (found.samples, found.null_reason) == (50, None)
        assert found.power_w is not None
        held += abs(found.power_w - 72.0) <= found.uncertainty_w
    assert held >= 190


def test_only_the_time_asked_for_counts() -> None:
    found = idle_power(rows([300.0] * 20 + [70.0] * 30 + [400.0] * 10), 2 * SECOND, 5 * SECOND - 1)
    assert (found.power_w, found.samples) == (70.0, 30)


def test_a_busy_device_has_no_baseline() -> None:
    busy = [*rows([70.0] * 20), *rows([70.0] * 20, util=3.0)]
    assert idle_power(busy, 0, 5 * SECOND).null_reason == "not_idle"


def test_a_power_that_still_falls_is_none() -> None:
    found = idle_power(rows([100.0 - i for i in range(30)]), 0, 3 * SECOND)
    assert (found.power_w, found.null_reason) == (None, "idle_power_not_steady")


@pytest.mark.parametrize("count", [0, 5, 9])
def test_a_few_samples_are_none(count: int) -> None:
    found = idle_power(rows([70.0] * count), 0, 5 * SECOND)
    assert (found.power_w, found.null_reason) == (None, "no_idle_samples")


def test_missed_ticks_are_no_samples() -> None:
    missed = [Sample(i * SECOND // 10, 0, "boot", i, 0, True, "nvml", "GPU-0", "gpu") for i in range(50)]
    assert idle_power(missed, 0, 5 * SECOND).null_reason == "no_idle_samples"


def test_the_first_second_of_an_average_is_about_the_time_before() -> None:
    found = idle_power(rows([200.0] * 9 + [70.0] * 30, kind="average"), 0, 5 * SECOND)
    assert found.power_w == 70.0


@pytest.mark.parametrize(("util", "idle"), [(2.0, True), (40.0, False), (None, False)])
def test_the_node_rests_or_not(util: float | None, idle: bool) -> None:
    assert node_idle(rows([0.0] * 30, util=util, source="node"), 0, 3 * SECOND) is idle
