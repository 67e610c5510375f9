"""The power buffer against aliasing: bursts of 90 to 110 ms under sensors that see a part of the time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from typing import overload

import pytest

from profiler.energy import integral, power_buffer
from profiler.energy.account import EnergyAccount, account
from profiler.energy.gpu_account import power_points
from profiler.energy.integral import Point
from profiler.energy.meter import Meter
from profiler.energy.nvml_values import PowerStamps
from profiler.energy.power_buffer import GAP, BufferProbe, Piece, device_of, pieces, refine
from profiler.energy.probes import Look
from profiler.energy.sample import Sample, Seen
from profiler.energy.sources import Boundary, Sources
from profiler.host import Anchor
from tests.energy.test_account import bench
from tests.fakes.nvml import NOT_SUPPORTED, FakeNvml
from tests.fakes.virtual import SECOND, Profile, VirtualGpu, VirtualTime

MS = 1_000_000


def bursts(seed: int, buffer_s: float | None) -> tuple[EnergyAccount, float]:
    """Ten seconds of bursts under a sensor that sees 25 ms in 100 ms; the account and the true energy."""
    rng = Random(seed)
    clock = VirtualTime(start_ns=rng.randrange(SECOND, 10**13))
    half_s = rng.uniform(0.09, 0.11) / 2
    high_w, low_w = rng.uniform(400, 700), rng.uniform(80, 200)
    profile = Profile((high_w, low_w) * 200, (half_s,) * 400, clock.now_ns)
    gpu = VirtualGpu(
        profile, clock, phase_ns=rng.randrange(SECOND // 10), window_s=0.025, buffer_s=buffer_s, call_ns=50_000
    )
    machine = bench(gpus=[gpu], clock=clock)
    result = machine.measure(10.0, gpu.uuid)
    return result, profile.energy_j(machine.t1_ns) - profile.energy_j(machine.t0_ns)


def errors(buffer_s: float | None) -> list[float]:
    found = []
    for seed in range(40):
        result, truth_j = bursts(seed, buffer_s)
        assert result.gpu_energy_integral_j is not None
        found.append(abs(result.gpu_energy_integral_j - truth_j) / truth_j)
    return sorted(found)


def test_the_buffer_is_the_better_path_on_bursts_that_keep_step_with_the_ticks() -> None:
    ticks, buffered = errors(None), errors(0.02)
    assert median(ticks) > 0.015, "the test must hold bursts that alias"
    assert median(buffered) < median(ticks) / 3
    assert buffered[-4] < ticks[-4] / 2
    result, _ = bursts(1, 0.02)
    assert "from the driver's power buffer (20 ms)" in result.energy_sources["gpu_energy_integral_j"]
    plain, _ = bursts(1, None)
    assert "buffer" not in plain.energy_sources["gpu_energy_integral_j"]


def test_the_trace_has_five_rows_a_second_and_none_where_there_is_no_buffer() -> None:
    clock = VirtualTime()
    gpus = [VirtualGpu(Profile((300.0,), (1.0,)), clock, index=i, buffer_s=[0.02, None][i]) for i in range(2)]
    machine = bench(gpus=gpus, clock=clock)
    machine.sampler.drive(clock.now_ns + 5 * SECOND)
    rows = [row for row in machine.sampler.rows(0)[0] if row.scope == power_buffer.SCOPE]
    known = [row for row in rows if row.device == device_of("GPU-0")]
    assert 5 * 4 < len(known) <= 5 * 6 + 12
    assert not any(row.power_w for row in known)
    found = pieces(known, "GPU-0")
    assert [p.energy_j for p in found] == pytest.approx([300.0 * (p.end_ns - p.start_ns) / SECOND for p in found])
    assert sum(p.end_ns - p.start_ns for p in found) > 4 * SECOND
    (refused,) = [row for row in rows if row.device == device_of("GPU-1")]
    assert refused.null_reason == "nvml_not_supported"


def seen(probe: BufferProbe, clock: VirtualTime) -> Look | None:
    shown = probe.read(clock.monotonic_ns)
    assert shown is not None
    return probe.look(shown)


def test_lost_samples_break_the_chain() -> None:
    clock = VirtualTime()
    gpu = VirtualGpu(Profile((300.0,), (1.0,)), clock, buffer_s=0.02)
    probe = BufferProbe(gpu, 1)  # type: ignore[arg-type]
    seen(probe, clock)
    clock.pass_s(5.0)  # the buffer holds 2.4 s
    looks = [seen(probe, clock)]
    clock.pass_s(1.0)
    looks.append(seen(probe, clock))
    rows = [row for look in looks if look is not None for row in (*look.earlier, look)]
    lost, first, *others = rows
    assert lost.seen == Seen(null_reason=GAP)
    assert clock.now_ns - 6 * SECOND < lost.t_ns < first.t_ns < clock.now_ns - 3 * SECOND
    assert first.seen.energy_j == pytest.approx(300 * 2.36), "what came before the gap, and nothing of it"
    for row in others:
        assert row.seen.energy_j == pytest.approx(300 * (2.36 + (row.t_ns - first.t_ns) / SECOND))
    assert rows[-1].t_ns - first.t_ns == pytest.approx(3.36 * SECOND, abs=0.02 * SECOND)


class Stamping:
    """A GPU that draws 100 W and 700 W in turn, a second each, and stamps by a clock that is set."""

    uuid = "GPU-0"

    def __init__(self) -> None:
        self.now_ns, self.offset_ns = 1000 * SECOND, 10**9 * SECOND
        self._kept: list[tuple[int, float]] = []

    @staticmethod
    def power_w(t_ns: int) -> float:
        return 700.0 if t_ns // SECOND % 2 else 100.0

    def play(self, samples: int) -> None:
        for _ in range(samples):
            self.now_ns += 20 * MS
            self._kept.append(((self.now_ns + self.offset_ns) // 1000, 1000 * self.power_w(self.now_ns)))
        del self._kept[:-120]

    def power_stamps(self, after_us: int) -> PowerStamps:
        return PowerStamps(self.offset_ns, [one for one in self._kept if one[0] > after_us])


@pytest.mark.parametrize("set_by_ms", [-3600_000, -1500, -500, -150, -90, 60, 500, 3600_000])
@pytest.mark.parametrize("played", [5, 45, 95])
def test_no_sample_counts_at_another_time_when_the_clock_of_its_stamp_was_set(set_by_ms: int, played: int) -> None:
    gpu = Stamping()
    probe = BufferProbe(gpu, 1)  # type: ignore[arg-type]
    rows: list[Sample] = []
    for fetch in range(8):
        gpu.play(played)
        gpu.offset_ns += set_by_ms * MS if fetch == 3 else 0
        gpu.play(100 - played)
        shown = probe.read(lambda: gpu.now_ns)
        assert shown is not None
        look = probe.look(shown)
        rows += [
            Sample(row.t_ns, 0, "", fetch, 0, False, "nvml", device_of(gpu.uuid), power_buffer.SCOPE, *row.seen)
            for row in (() if look is None else (*look.earlier, look))
        ]
    assert [row.t_mono_ns for row in rows] == sorted({row.t_mono_ns for row in rows}), "in order, no two at one time"
    assert rows[-1].t_mono_ns <= gpu.now_ns
    found = pieces(rows, gpu.uuid)
    assert sum(piece.end_ns - piece.start_ns for piece in found) > (5.5 if set_by_ms < -2000 else 11) * SECOND
    for piece in found:
        times_ns = range(piece.start_ns, piece.end_ns, 20 * MS)
        truth_j = sum((gpu.power_w(t_ns) + gpu.power_w(t_ns + 20 * MS)) / 2 * 0.02 for t_ns in times_ns)
        assert piece.energy_j == pytest.approx(truth_j)


@pytest.mark.parametrize("set_by_ms", [0, -500, -1000])
def test_nor_at_the_end_of_a_window_in_which_it_was_set(set_by_ms: int) -> None:
    """Where there is nothing but the buffer of the end, and the ticks tell all: they see 100 and 700 W in turn."""
    gpu = Stamping()
    gpu.play(1)
    t0_ns, before = gpu.now_ns, Anchor(gpu.now_ns, gpu.now_ns + gpu.offset_ns, gpu.now_ns)
    gpu.play(90)
    gpu.offset_ns += set_by_ms * MS
    gpu.play(29)
    t1_ns, after = gpu.now_ns, Anchor(gpu.now_ns, gpu.now_ns + gpu.offset_ns, gpu.now_ns)
    ticks = [
        Sample(t_ns, 0, "", 0, 0, False, "nvml", gpu.uuid, "gpu", power_w=gpu.power_w(t_ns), power_kind="instant")
        for t_ns in range(t0_ns, t1_ns + 1, 20 * MS)
    ]
    end = Boundary(t1_ns, {}, after, power={gpu.uuid: gpu.power_stamps(0).samples()})
    result = account(Boundary(t0_ns, {}, before), end, ticks, Sources(gpus=(gpu,)), gpu.uuid, t0_ns, t1_ns)  # type: ignore[arg-type]
    truth_j = sum((gpu.power_w(t_ns) + gpu.power_w(t_ns + 20 * MS)) / 2 * 0.02 for t_ns in range(t0_ns, t1_ns, 20 * MS))
    assert result.gpu_energy_integral_j == pytest.approx(truth_j)
    assert ("power buffer" in result.energy_sources["gpu_energy_integral_j"]) == (set_by_ms == 0)


def test_a_buffer_that_is_not_denser_than_the_ticks_is_not_used() -> None:
    clock = VirtualTime()
    probe = BufferProbe(VirtualGpu(Profile((300.0,), (1.0,)), clock, buffer_s=0.1), 1)  # type: ignore[arg-type]
    look = seen(probe, clock)
    assert look is not None and look.seen == Seen(null_reason=power_buffer.BELOW_DENSITY)


def test_parts_add_up_to_the_whole() -> None:
    curve = [integral.Point(i * 100 * MS, 100.0 + 10 * (i % 7)) for i in range(60)]
    known = [Piece(500 * MS, 1500 * MS, 150.0), Piece(1500 * MS, 2500 * MS, 90.0)]

    def refined(t0: int, t1: int) -> float:
        found = refine(integral.integrate(curve, t0 * MS, t1 * MS), curve, known, t0 * MS, t1 * MS).energy_j
        assert found is not None
        return found

    assert refined(200, 1234) + refined(1234, 1777) + refined(1777, 4000) == pytest.approx(refined(200, 4000))
    assert refined(500, 2500) == pytest.approx(240.0)


class Watched(Sequence[Point]):
    """Points that count how many of them were looked at."""

    def __init__(self, points: Iterable[Point]) -> None:
        self._points = list(points)
        self.looks = 0

    def __len__(self) -> int:
        return len(self._points)

    @overload
    def __getitem__(self, place: int) -> Point: ...

    @overload
    def __getitem__(self, place: slice) -> list[Point]: ...

    def __getitem__(self, place: int | slice) -> Point | list[Point]:
        found = self._points[place]
        self.looks += len(found) if isinstance(found, list) else 1
        return found


def test_a_long_run_costs_no_more_for_each_second_of_it() -> None:
    """Every piece once looked at every point: a run of one hour took minutes to account for."""

    def looks(seconds: int) -> int:
        points = Watched(Point(tick * 100 * MS, 300.0) for tick in range(10 * seconds))
        known = [Piece(number * 200 * MS, (number + 1) * 200 * MS, 60.0) for number in range(5 * seconds - 1)]
        end_ns = (10 * seconds - 1) * 100 * MS
        refined = refine(integral.integrate(points, 0, end_ns), points, known, 0, end_ns)
        assert refined.energy_j == pytest.approx(300.0 * end_ns / SECOND)
        return points.looks

    # Four times the run: four times the pieces, and each is found among the points in two more looks.
    assert 4 * looks(300) <= looks(1200) < 5 * looks(300)


@pytest.mark.slow
def test_on_the_virtual_driver_in_real_time(fake_nvml_here: FakeNvml, tmp_path: Path) -> None:
    fake_nvml_here.set(instant_window_ns=25_000_000)
    # Of every 100 ms the sensor sees the last 25: the bursts keep step with it, and it sees their low part only.
    fake_nvml_here.bursts(600.0, 100.0, 0.1, in_step=True)
    with Meter(sysfs=tmp_path) as meter, meter.window() as window:
        time.sleep(6.0)
    truth_j = (fake_nvml_here.energy_mj(window.end_ns) - fake_nvml_here.energy_mj(window.start_ns)) / 1000
    rows: list[Sample] = meter.sampler.window(window.start_ns, window.end_ns)
    points, _ = power_points(row for row in rows if row.scope == "gpu")
    ticks_j = integral.integrate(points, window.start_ns, window.end_ns).energy_j
    assert ticks_j is not None
    # The buffer spans 2.4 s and is fetched every 2 s: who is held up for longer loses samples, and has the ticks there.
    ticked_ns = sorted({row.t_mono_ns for row in rows if row.scope == "gpu"})
    held_up_s = sum((b - a) / SECOND for a, b in pairwise(ticked_ns) if b - a > 0.3 * SECOND)
    assert ticks_j < 0.5 * truth_j or held_up_s
    assert window.gpu_energy_integral_j == pytest.approx(truth_j, abs=0.05 * truth_j + (350 - 100) * held_up_s)
    fake_nvml_here.fail("nvmlDeviceGetSamples", NOT_SUPPORTED)
    with Meter(sysfs=tmp_path) as meter, meter.window() as without:
        time.sleep(1.5)
    assert "buffer" not in without.energy_sources["gpu_energy_integral_j"]
