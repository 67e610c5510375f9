"""CPU counters that are read before the run's start and after its end: what lies outside is taken off, and how sure."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from statistics import median

import pytest

from profiler.energy.account import EnergyAccount, account
from profiler.energy.counters import CounterInfo
from profiler.energy.sources import Sources
from tests.energy.test_account import bench
from tests.fakes.virtual import DRAM, PACKAGE, SECOND, Profile, VirtualCounter, VirtualTime

MS = 1_000_000


def run(
    seconds: float, idle_w: float, busy_w: float, gap_ms: float, info: CounterInfo = PACKAGE, seed: int = 0
) -> tuple[EnergyAccount, float]:
    """A run of `seconds` between two reads that lie `gap_ms` outside of it, and its true energy."""
    rng = Random(seed)
    clock = VirtualTime(start_ns=rng.randrange(SECOND, 10**12))
    began_ns = clock.now_ns
    counter = VirtualCounter(Profile((idle_w,), (1.0,), began_ns), info, clock, start_units=10**9)
    machine = bench(counter, clock=clock)
    machine.sampler.drive(began_ns + SECOND + rng.randrange(SECOND))
    start = machine.sources.boundary(edge="start", clock_ns=clock.monotonic_ns)
    t0_ns = clock.now_ns + round(gap_ms * MS)
    t1_ns = t0_ns + round(seconds * SECOND)
    counter.profile = Profile((idle_w, busy_w, idle_w), ((t0_ns - began_ns) / SECOND, seconds, 1.0), began_ns)
    machine.sampler.drive(t1_ns + round(gap_ms * MS))
    clock.now_ns = max(clock.now_ns, t1_ns + round(gap_ms * MS))
    end = machine.sources.boundary(edge="end", clock_ns=clock.monotonic_ns)
    machine.sampler.drive(clock.now_ns + SECOND // 5)
    rows = machine.sampler.window(start.t_ns, end.t_ns)
    result = account(start, end, rows, machine.sources, None, t0_ns, t1_ns)
    return result, counter.profile.energy_j(t1_ns) - counter.profile.energy_j(t0_ns)


def test_reads_far_outside_cost_no_accuracy() -> None:
    errors, held = [], 0
    for seed in range(200):
        rng = Random(seed)
        result, truth_j = run(
            rng.uniform(0.5, 10), rng.uniform(20, 80), rng.uniform(60, 350), rng.uniform(1, 100), seed=seed
        )
        assert result.cpu_package_energy_j is not None
        error_j = abs(result.cpu_package_energy_j - truth_j)
        errors.append(error_j / truth_j)
        held += error_j <= result.uncertainty_j["cpu_package_energy_j"]
    assert median(errors) < 0.002
    assert max(errors) < 0.08
    assert held >= 190


def test_the_plus_minus_is_made_of_its_parts() -> None:
    result, _ = run(2.0, 40.0, 200.0, 80.0)
    parts = {name.partition(".")[2]: j for name, j in result.uncertainty_parts_j.items() if "package" in name}
    assert set(parts) == {"start", "end", "resolution"}
    total_j = result.uncertainty_j["cpu_package_energy_j"]
    assert total_j == pytest.approx(sum(part**2 for part in parts.values()) ** 0.5)
    assert parts["start"] == pytest.approx((200 - 40) * 0.08 * 2 / 12**0.5, rel=0.1)
    text = result.energy_sources["cpu_package_energy_j"]
    assert "read 80.0 ms before the start and 80.0 ms after the end" in text


def test_perf_counters_have_their_own_scale_and_the_same_edges() -> None:
    info = replace(PACKAGE, source="perf", wrap_units=None)
    result, truth_j = run(3.0, 40.0, 200.0, 60.0, info)
    assert result.cpu_package_energy_j == pytest.approx(truth_j, rel=0.01)


def test_several_counters_add_up_with_their_parts() -> None:
    clock = VirtualTime()
    sources = [VirtualCounter(Profile((50.0,), (1.0,)), info, clock) for info in (PACKAGE, DRAM)]
    result = bench(*sources, clock=clock).measure(2.0)
    assert result.cpu_energy_total_j == pytest.approx(200.0)
    assert result.uncertainty_j["cpu_energy_total_j"] >= result.uncertainty_j["cpu_package_energy_j"]


def test_without_a_trace_the_edges_take_the_runs_own_power_and_say_more() -> None:
    clock = VirtualTime()
    counter = VirtualCounter(Profile((100.0,), (1.0,)), PACKAGE, clock)
    sources = Sources((counter,))
    start = sources.boundary(edge="start", clock_ns=clock.monotonic_ns)
    clock.pass_s(2.2)
    end = sources.boundary(edge="end", clock_ns=clock.monotonic_ns)
    result = account(start, end, [], sources, None, start.t_ns + 100 * MS, end.t_ns - 100 * MS)
    assert result.cpu_package_energy_j == pytest.approx(200.0, rel=0.001)
    assert result.uncertainty_j["cpu_package_energy_j"] == pytest.approx(2**0.5 * 10 * 2 / 12**0.5, rel=0.05)
