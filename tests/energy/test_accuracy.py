"""How near an account comes to the truth on random power profiles, and how often its stated interval holds the truth.

Virtual time, virtual GPU: counter and power move every 100 ms at phases of their own, calls take their real time.
PROFILER_PROFILES sets how many (200 by default, 1,000 for the full figure).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from random import Random
from statistics import median

import pytest

from profiler.energy.account import account
from tests.energy.test_account import bench
from tests.fakes.virtual import SECOND, Profile, VirtualGpu, VirtualTime

PROFILES = int(os.environ.get("PROFILER_PROFILES", "200"))
IDLE_W = 72.0


Load = tuple[list[float], list[float]]  # watts, and for how long each


@dataclass(frozen=True)
class Outcome:
    """One window: its length, the relative error of the counter's figure, whether its interval held the truth."""

    seconds: float
    error: float
    held: bool


def steps(rng: Random, seconds: float) -> Load:
    """A training: a level for each phase, from a tenth of a second to the whole run."""
    watts: list[float] = []
    lengths: list[float] = []
    while sum(lengths) < seconds:
        watts.append(rng.uniform(100, 700))
        lengths.append(rng.uniform(0.1, max(0.2, seconds / rng.choice([1, 3, 10]))))
    return watts, lengths


def bursts(rng: Random, seconds: float) -> Load:
    """Load and pause in turn, 0.5 to 5 times a second."""
    half_s = 0.5 / rng.uniform(0.5, 5)
    high, low = rng.uniform(300, 700), rng.uniform(80, 250)
    count = int(seconds / half_s) + 1
    return [high if i % 2 == 0 else low for i in range(count)], [half_s] * count


def ramp(rng: Random, seconds: float) -> Load:
    first, last = rng.uniform(100, 700), rng.uniform(100, 700)
    return [first + (last - first) * i / 100 for i in range(100)], [seconds / 100] * 100


def steady(rng: Random, seconds: float) -> Load:
    return [rng.uniform(100, 700)], [seconds]


def run_one(rng: Random, align: bool) -> Outcome:
    """One training on a GPU that is idle before and after; the window is the training."""
    seconds = rng.choice([1.0, 10.0, 1.0, 10.0, 60.0 ** rng.random()])
    load = cut(rng.choice([steps, bursts, ramp, steady])(rng, seconds), seconds)
    clock = VirtualTime(start_ns=rng.randrange(SECOND, 10**14))
    began_ns = clock.now_ns
    gpu = VirtualGpu(Profile((IDLE_W,), (1.0,), began_ns), clock, phase_ns=rng.randrange(SECOND // 10), call_ns=50_000)
    machine = bench(gpus=[gpu], clock=clock)
    boundary = partial(machine.sources.boundary, gpu.uuid, align=align, clock_ns=clock.monotonic_ns)

    machine.sampler.drive(began_ns + rng.randrange(SECOND, 2 * SECOND))
    start = boundary(edge="start")
    clock.now_ns += rng.randrange(1_000_000, 8_000_000)
    t0_ns, t1_ns = clock.now_ns, clock.now_ns + round(seconds * SECOND)
    # Where the load begins is known only now: the boundary's reading took its time.
    profile = Profile((IDLE_W, *load[0], IDLE_W), ((t0_ns - began_ns) / SECOND, *load[1], 100.0), began_ns)
    gpu.profile = gpu.energy_counter().profile = profile
    machine.sampler.drive(t1_ns - 1)
    clock.now_ns = max(clock.now_ns, t1_ns) + rng.randrange(1_000_000, 8_000_000)
    end = boundary(edge="end")

    rows = machine.sampler.window(start.t_ns, end.t_ns)
    result = account(start, end, rows, machine.sources, gpu.uuid, t0_ns, t1_ns)
    truth_j = profile.energy_j(t1_ns) - profile.energy_j(t0_ns)
    assert result.gpu_energy_j is not None
    error_j = abs(result.gpu_energy_j - truth_j)
    return Outcome(seconds, error_j / truth_j, error_j <= result.uncertainty_j["gpu_energy_j"])


def cut(load: Load, seconds: float) -> Load:
    """The load over exactly `seconds`: its last phases cut off, or the last one made longer."""
    watts, lengths = list(load[0]), list(load[1])
    while sum(lengths[:-1]) >= seconds:
        watts.pop()
        lengths.pop()
    lengths[-1] = seconds - sum(lengths[:-1])
    return watts, lengths


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    rng = Random(20260101)
    return [run_one(rng, align=True) for _ in range(PROFILES)]


@pytest.mark.parametrize(("seconds", "limit"), [(1.0, 0.02), (10.0, 0.005)])
def test_the_median_error_is_small(outcomes: list[Outcome], seconds: float, limit: float) -> None:
    errors = [outcome.error for outcome in outcomes if outcome.seconds == seconds]
    assert len(errors) > PROFILES // 4
    assert median(errors) <= limit


def test_the_stated_interval_holds_the_truth_as_often_as_it_says(outcomes: list[Outcome]) -> None:
    held = sum(outcome.held for outcome in outcomes) / len(outcomes)
    # 93 to 97 %, give or take what chance does to this many profiles.
    chance = 2 * (0.95 * 0.05 / len(outcomes)) ** 0.5
    assert 0.93 - chance <= held <= 0.97 + chance


def test_without_waiting_for_a_step_the_interval_is_wider_and_still_holds() -> None:
    rng = Random(20260102)
    found = [run_one(rng, align=False) for _ in range(PROFILES)]
    assert sum(outcome.held for outcome in found) / len(found) >= 0.9
    assert median(outcome.error for outcome in found if outcome.seconds == 10.0) <= 0.01
