"""The account of a window, from virtual devices with known truth; no sleep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from profiler import host
from profiler.energy.account import EnergyAccount, account
from profiler.energy.counters import Reading, Unavailable
from profiler.energy.figures import FIGURES
from profiler.energy.sample import Sample
from profiler.energy.sampler import Sampler
from profiler.energy.sources import Boundary, Sources
from tests.energy.test_sampler import NodeStandIn
from tests.fakes.virtual import BOARD, DRAM, PACKAGE, SECOND, Profile, VirtualCounter, VirtualGpu, VirtualTime, constant


@dataclass
class Bench:
    """A virtual machine with a sampler: `measure` runs a window of it under virtual time."""

    sources: Sources
    clock: VirtualTime
    sampler: Sampler
    t0_ns: int = 0
    t1_ns: int = 0

    def measure(
        self,
        seconds: float,
        gpu: str | Sequence[str] | None = None,
        *,
        drop: tuple[float, float] | None = None,
        edit: dict[str, Boundary] | None = None,
    ) -> EnergyAccount:
        """A window of `seconds`, a second of trace before and after. drop: seconds of the window without any row."""
        self.sampler.drive(self.clock.now_ns + SECOND)
        start = self.sources.boundary(gpu, edge="start", clock_ns=self.clock.monotonic_ns)
        t0_ns = self.clock.now_ns
        t1_ns = t0_ns + round(seconds * SECOND)
        self.t0_ns, self.t1_ns = t0_ns, t1_ns
        self.sampler.drive(t1_ns - 1)
        self.clock.now_ns = max(self.clock.now_ns, t1_ns)
        end = self.sources.boundary(gpu, edge="end", clock_ns=self.clock.monotonic_ns)
        self.sampler.drive(self.clock.now_ns + SECOND)
        rows = self.sampler.window(start.t_ns, t1_ns)
        if drop:
            hole = (t0_ns + drop[0] * SECOND, t0_ns + drop[1] * SECOND)
            rows = [row for row in rows if not hole[0] <= row.t_mono_ns <= hole[1]]
        edit = edit or {}
        start, end = edit.get("start", start), edit.get("end", end)
        return account(start, end, rows, self.sources, gpu, t0_ns, t1_ns)


def bench(
    *counters: VirtualCounter,
    gpus: Sequence[VirtualGpu] = (),
    unavailable: Sequence[Unavailable] = (),
    clock: VirtualTime,
) -> Bench:
    by_uuid = {gpu.uuid: gpu.energy_counter() for gpu in gpus}
    found = Sources(tuple(counters), tuple(gpus), tuple(unavailable), by_uuid)  # type: ignore[arg-type]
    return Bench(found, clock, Sampler(found, 10.0, "node", "boot", time=clock, node_probe=NodeStandIn()))


def same(reading: Reading) -> Reading:
    return reading


def board_counter(watts: float, clock: VirtualTime, faults: Callable[[Reading], Reading] = same) -> VirtualCounter:
    """A counter that says what it likes, whatever its board draws; its calls take as long as NVML's."""
    return VirtualCounter(constant(watts), BOARD, clock, call_ns=3_000_000, faults=faults)


@pytest.fixture
def clock() -> VirtualTime:
    return VirtualTime()


def complete(result: EnergyAccount) -> None:
    """Every figure is a number or has a reason, never both, never neither."""
    for column in FIGURES:
        assert (getattr(result, column) is None) == (column in result.null_reasons), column


def reasons(result: EnergyAccount) -> list[str]:
    return [finding.reason for finding in result.findings]


def test_packages_are_summed_and_dram_is_apart(clock: VirtualTime) -> None:
    second = replace(PACKAGE, name="package-1", device="package-1")
    core = replace(PACKAGE, name="core-0", device="core-0", scope="core")
    machine = bench(
        VirtualCounter(constant(100.0), PACKAGE),
        VirtualCounter(constant(80.0), second),
        VirtualCounter(constant(90.0), core),
        VirtualCounter(constant(20.0), DRAM),
        clock=clock,
    )
    result = machine.measure(10.0)
    complete(result)
    assert result.cpu_package_energy_j == pytest.approx(1800.0)
    assert result.dram_energy_j == pytest.approx(200.0)
    assert result.cpu_energy_total_j == pytest.approx(2000.0)
    assert (result.samples, result.samples_missed) == (100, 0)
    assert result.gpu_energy_j is None
    assert result.null_reasons["gpu_energy_j"] == "no_gpu"
    assert reasons(result) == []
    text = result.energy_sources["cpu_package_energy_j"]
    assert text.startswith("powercap counter package-0, package-1, unit uJ, 10.000 s between the boundary reads, ")


def test_wraps_inside_the_window_are_seen_through_the_trace(clock: VirtualTime) -> None:
    small = replace(PACKAGE, wrap_units=500_000_001)
    result = bench(VirtualCounter(constant(100.0), small), clock=clock).measure(20.0)
    assert result.cpu_package_energy_j == pytest.approx(2000.0)
    assert "4 wraps" in result.energy_sources["cpu_package_energy_j"]


def test_a_hole_in_the_trace_is_bridged_by_a_counter_that_cannot_have_wrapped(clock: VirtualTime) -> None:
    result = bench(VirtualCounter(constant(100.0), PACKAGE), clock=clock).measure(60.0, drop=(10.0, 50.0))
    assert result.cpu_package_energy_j == pytest.approx(6000.0)
    assert result.samples == pytest.approx(600, abs=1)
    assert reasons(result) == []


def test_a_hole_that_could_hide_a_wrap_is_null_and_unsafe(clock: VirtualTime) -> None:
    result = bench(VirtualCounter(constant(100.0), PACKAGE), clock=clock).measure(300.0, drop=(10.0, 290.0))
    complete(result)
    assert result.cpu_package_energy_j is None
    assert result.null_reasons["cpu_package_energy_j"] == "wrap_ambiguous"
    assert "sampler_gap" in reasons(result)


def test_half_of_the_packages_is_no_sum(clock: VirtualTime) -> None:
    missing = Unavailable("package-1", "permission_denied", "", "cpu_package", "powercap")
    result = bench(VirtualCounter(constant(100.0), PACKAGE), unavailable=[missing], clock=clock).measure(2.0)
    assert result.null_reasons["cpu_package_energy_j"] == "permission_denied"
    assert result.null_reasons["cpu_energy_total_j"] == "permission_denied"


def test_no_source_at_all_is_null_everywhere_and_noted(clock: VirtualTime) -> None:
    missing = [
        Unavailable("powercap", "no_rapl_zones", "", "cpu_package", "powercap"),
        Unavailable("nvml", "nvml_library_missing", "", "gpu", "nvml"),
    ]
    result = bench(unavailable=missing, clock=clock).measure(2.0)
    complete(result)
    assert all(getattr(result, column) is None for column in FIGURES)
    assert reasons(result) == ["no_energy_source"]
    assert result.null_reasons["gpu_power_max_w"] == "nvml_library_missing"
    assert (result.samples, result.samples_missed) == (20, 0)


def test_a_gpu_has_both_paths_and_its_indicators(clock: VirtualTime) -> None:
    profile = Profile((100.0, 400.0, 200.0), (5.0, 10.0, 60.0), clock.now_ns)
    gpu = VirtualGpu(profile, clock)
    machine = bench(gpus=[gpu], clock=clock)
    result = machine.measure(30.0, gpu.uuid)
    complete(result)
    truth = profile.energy_j(machine.t1_ns) - profile.energy_j(machine.t0_ns)
    assert result.gpu_energy_j == pytest.approx(truth, rel=0.01)
    assert result.gpu_energy_integral_j == pytest.approx(truth, rel=0.01)
    assert result.gpu_power_mean_w == pytest.approx(truth / 30, rel=0.01)
    assert [result.gpu_power_min_w, result.gpu_power_max_w] == pytest.approx([100.0, 400.0])
    assert (result.gpu_temp_mean_c, result.gpu_temp_max_c) == (40.0, 40.0)
    assert (result.gpu_util_mean_percent, result.gpu_util_max_percent) == (90.0, 90.0)
    assert result.gpu_memory_peak_mib == 1000.0
    assert reasons(result) == []
    assert result.energy_sources["gpu_energy_integral_j"].startswith("nvml instant power, trapezoids over ")
    assert abs(result.gpu_energy_j - truth) <= result.uncertainty_j["gpu_energy_j"]  # type: ignore[operator]


def test_two_paths_that_disagree_are_noted_on_a_long_run_only(clock: VirtualTime) -> None:
    lying = VirtualGpu(constant(300.0), clock, counter=board_counter(330.0, clock))
    machine = bench(gpus=[lying], clock=clock)
    assert reasons(machine.measure(5.0, lying.uuid)) == []
    (finding,) = machine.measure(20.0, lying.uuid).findings
    assert finding.reason == "counter_integral_gap"
    assert "-9.1 %" in finding.evidence


def test_average_power_is_used_only_where_there_is_no_other_and_says_so(clock: VirtualTime) -> None:
    gpu = VirtualGpu(constant(300.0), clock, power_kind="average")
    result = bench(gpus=[gpu], clock=clock).measure(12.0, gpu.uuid)
    assert result.gpu_energy_integral_j == pytest.approx(3600.0)
    assert "nvml average power" in result.energy_sources["gpu_energy_integral_j"]


def unsupported(reading: Reading) -> Reading:
    return Reading(reading.t_ns, None, "nvml_not_supported")


def test_a_board_without_counter_falls_back_to_the_integral_and_says_so(clock: VirtualTime) -> None:
    gpu = VirtualGpu(constant(300.0), clock, counter=board_counter(300.0, clock, unsupported))
    machine = bench(gpus=[gpu], clock=clock)
    result = machine.measure(12.0, gpu.uuid)
    assert result.gpu_energy_j == pytest.approx(3600.0)
    assert result.energy_sources["gpu_energy_j"].startswith("no energy counter on this board; nvml instant power")
    hole = machine.measure(12.0, gpu.uuid, drop=(3.0, 8.0))
    complete(hole)
    assert (hole.gpu_energy_j, hole.null_reasons["gpu_energy_j"]) == (None, "trace_gap")
    assert "sampler_gap" in reasons(hole)


def test_a_board_without_power_has_its_counter(clock: VirtualTime) -> None:
    gpu = VirtualGpu(constant(300.0), clock, power_kind=None)
    result = bench(gpus=[gpu], clock=clock).measure(12.0, gpu.uuid)
    complete(result)
    assert result.gpu_energy_j == pytest.approx(3600.0, rel=0.02)
    for column in ("gpu_energy_integral_j", "gpu_power_mean_w", "gpu_power_min_w", "gpu_power_max_w"):
        assert result.null_reasons[column] == "nvml_not_supported"


def test_a_gpu_that_falls_off_the_bus_is_null(clock: VirtualTime) -> None:
    start_ns = clock.now_ns

    def lost(reading: Reading) -> Reading:
        return Reading(reading.t_ns, None, "nvml_gpu_lost") if reading.t_ns > start_ns + 5 * SECOND else reading

    gpu = VirtualGpu(constant(300.0), clock, counter=board_counter(300.0, clock, lost))
    result = bench(gpus=[gpu], clock=clock).measure(10.0, gpu.uuid)
    assert result.null_reasons["gpu_energy_j"] == "nvml_gpu_lost"


def test_a_frozen_gpu_counter_is_null(clock: VirtualTime) -> None:
    gpu = VirtualGpu(constant(300.0), clock, counter=board_counter(0.0, clock))
    result = bench(gpus=[gpu], clock=clock).measure(10.0, gpu.uuid)
    assert result.null_reasons["gpu_energy_j"] == "counter_not_advancing"


def test_several_gpus_add_up(clock: VirtualTime) -> None:
    gpus = [VirtualGpu(constant(100.0 * (i + 1)), clock, index=i) for i in range(3)]
    result = bench(gpus=gpus, clock=clock).measure(12.0, ["GPU-0", "GPU-2"])
    complete(result)
    assert result.gpu_energy_j == pytest.approx(4800.0, rel=0.01)
    assert result.gpu_power_mean_w == pytest.approx(400.0, rel=0.01)
    assert result.gpu_power_max_w == pytest.approx(400.0, rel=0.01)
    assert result.gpu_memory_peak_mib == 2000.0
    assert result.gpu_temp_mean_c == 40.0


def test_a_gpu_that_nobody_used_or_sees_says_which(clock: VirtualTime) -> None:
    machine = bench(gpus=[VirtualGpu(constant(100.0), clock)], clock=clock)
    assert machine.measure(1.0).null_reasons["gpu_energy_j"] == "no_gpu_used"
    assert machine.measure(1.0, "GPU-9").null_reasons["gpu_energy_j"] == "gpu_not_visible"


def test_a_run_of_less_than_five_updates_is_too_short(clock: VirtualTime) -> None:
    gpu = VirtualGpu(constant(300.0), clock)
    result = bench(gpus=[gpu], clock=clock).measure(0.4, gpu.uuid)
    assert reasons(result) == ["too_short"]
    assert result.gpu_energy_j is not None


@pytest.mark.parametrize(
    ("utc_s", "boottime_s", "expected"),
    [
        (0.0, 0.0, []),
        (3600.0, 0.0, ["clock_stepped"]),
        (-3600.0, 0.0, ["clock_stepped"]),
        (1800.0, 1800.0, ["suspended"]),
        (0.2, 0.2, []),
    ],
)
def test_clocks_that_moved_are_found_and_change_no_figure(
    clock: VirtualTime, utc_s: float, boottime_s: float, expected: list[str]
) -> None:
    counter = VirtualCounter(constant(100.0), PACKAGE)
    machine = bench(counter, clock=clock)
    plain = machine.measure(10.0)
    t_ns = clock.now_ns
    start = Boundary(t_ns, {"package-0": Reading(t_ns, 0)}, host.Anchor(t_ns, 5 * t_ns, t_ns))
    end_ns = t_ns + 10 * SECOND
    anchor = host.Anchor(end_ns, 5 * t_ns + round((10 + utc_s) * SECOND), end_ns + round(boottime_s * SECOND))
    end = Boundary(end_ns, {"package-0": Reading(end_ns, 1_000_000_000)}, anchor)
    result = account(start, end, [], machine.sources, None, t_ns, end_ns)
    assert [reason for reason in reasons(result) if reason != "no_energy_source"] == expected
    assert result.cpu_package_energy_j == 1000.0 == plain.cpu_package_energy_j


def test_a_sampler_killed_in_mid_run_costs_ticks_and_no_joule(clock: VirtualTime) -> None:
    counter = VirtualCounter(constant(100.0), PACKAGE)
    machine = bench(counter, clock=clock)
    machine.sampler.drive(clock.now_ns + SECOND)
    start = machine.sources.boundary(clock_ns=clock.monotonic_ns)
    t0_ns = clock.now_ns
    machine.sampler.drive(t0_ns + 5 * SECOND)
    rows: list[Sample] = machine.sampler.window(t0_ns, clock.now_ns)
    clock.pass_s(3.0)
    restarted = Sampler(machine.sources, 10.0, time=clock, node_probe=NodeStandIn())
    restarted.drive(clock.now_ns + 4 * SECOND)
    end = machine.sources.boundary(edge="end", clock_ns=clock.monotonic_ns)
    rows += restarted.rows(0)[0]
    result = account(start, end, rows, machine.sources, None, t0_ns, clock.now_ns)
    assert result.cpu_package_energy_j == pytest.approx(1200.0)
    assert result.samples == pytest.approx(120, abs=1)
    assert result.samples_missed == pytest.approx(29, abs=1)


def test_perf_events_of_the_trace_are_on_another_scale(clock: VirtualTime) -> None:
    info = replace(PACKAGE, source="perf", wrap_units=None)
    traced = VirtualCounter(constant(100.0), info, start_units=77)
    machine = bench(traced, clock=clock)
    machine.sampler.drive(clock.now_ns + SECOND)
    own = Sources((VirtualCounter(constant(100.0), info, start_units=10**12),))
    start = own.boundary(clock_ns=clock.monotonic_ns)
    t0_ns = clock.now_ns
    machine.sampler.drive(t0_ns + 10 * SECOND)
    end = own.boundary(edge="end", clock_ns=clock.monotonic_ns)
    rows = machine.sampler.window(t0_ns, clock.now_ns)
    result = account(start, end, rows, own, None, t0_ns, clock.now_ns)
    assert result.cpu_package_energy_j == pytest.approx(1000.0)
