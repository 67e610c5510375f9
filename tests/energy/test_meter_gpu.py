"""Windows over virtual GPUs under the real nvidia-ml-py, in real time: the truth is the profile's closed form."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest

from profiler.energy.meter import Meter, Window
from profiler.energy.sampler import Sampler
from profiler.energy.sources import Sources
from tests.fakes.nvml import NOT_SUPPORTED, FakeNvml, Segment
from tests.process.harness import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def no_cpu(tmp_path: Path) -> Path:
    """A sysfs without energy zones, so that the machine under the test does not matter."""
    return tmp_path / "sys"


def truth_j(fake: FakeNvml, window: Window, gpu: int = 0) -> float:
    return (fake.energy_mj(window.end_ns, gpu) - fake.energy_mj(window.start_ns, gpu)) / 1000


def test_aligned_windows_of_a_second_are_within_two_percent(fake_nvml_here: FakeNvml, no_cpu: Path) -> None:
    """Eight random trainings of about a second, from idle to idle."""
    rng = Random(7)
    errors, held = [], 0
    with Meter(sysfs=no_cpu) as meter:
        for _ in range(8):
            fake_nvml_here.power(72.0)
            window = meter.window(align=True)
            with window:
                fake_nvml_here.play([Segment(rng.uniform(0.2, 1.0), rng.uniform(100, 700)) for _ in range(4)])
                time.sleep(rng.uniform(0.7, 1.3))
            fake_nvml_here.power(72.0)
            truth = truth_j(fake_nvml_here, window)
            errors.append(abs(window.gpu_energy_j - truth) / truth)
            held += abs(window.gpu_energy_j - truth) <= window.uncertainty_j["gpu_energy_j"]
    assert sorted(errors)[4] <= 0.02
    assert held >= 5
    assert "2 of 2 edges at a step of the counter" in window.energy_sources["gpu_energy_j"]


def test_several_gpus_are_summed_and_both_paths_agree(fake_nvml_library: Path, tmp_path: Path, no_cpu: Path) -> None:
    fake = FakeNvml(tmp_path / "state", fake_nvml_library, gpus=2, watts=250.0)
    with fake.attached(), Meter(sysfs=no_cpu, environ={}) as meter, meter.window() as window:
        time.sleep(1.5)
    assert window.gpu_energy_integral_j == pytest.approx(500.0 * window.duration_s, rel=0.01)
    assert window.gpu_energy_j == pytest.approx(500.0 * window.duration_s, rel=0.1)
    assert window.gpu_power_max_w == pytest.approx(500.0)
    assert window.null_reasons["cpu_package_energy_j"] == "no_rapl_zones"


def test_a_frozen_counter_is_null_and_the_integral_stays(fake_nvml_here: FakeNvml, no_cpu: Path) -> None:
    """The trace asks the counter once a second. A last step before it froze is seen at the next of these readings, and
    only from there on the counter stands still for all that anybody knows."""
    with Meter(sysfs=no_cpu) as meter, meter.window() as window:
        fake_nvml_here.freeze_counter()
        frozen_ns = time.monotonic_ns()

        def read_since() -> bool:
            rows = meter.sampler.window(frozen_ns, time.monotonic_ns(), margin_ticks=0)
            return any(row.counter_units is not None for row in rows)

        wait_until(read_since)
        time.sleep(0.5)
    assert window.gpu_energy_j is None
    assert window.null_reasons["gpu_energy_j"] == "counter_not_advancing"
    assert window.gpu_energy_integral_j == pytest.approx(70.0 * window.duration_s, rel=0.02)


def test_a_reset_counter_is_null(fake_nvml_here: FakeNvml, no_cpu: Path) -> None:
    with Meter(sysfs=no_cpu) as meter, meter.window() as window:
        time.sleep(1.2)
        fake_nvml_here.reset_counter()
        time.sleep(1.2)
    assert window.gpu_energy_j is None
    assert window.null_reasons["gpu_energy_j"] in ("counter_reset", "counter_implausible")


def test_a_gpu_that_falls_off_the_bus_is_null(fake_nvml_here: FakeNvml, no_cpu: Path) -> None:
    with Meter(sysfs=no_cpu) as meter, meter.window() as window:
        time.sleep(0.5)
        fake_nvml_here.lose()
        time.sleep(0.3)
    assert window.gpu_energy_j is None
    assert window.null_reasons["gpu_energy_j"] == "nvml_gpu_lost"
    assert window.gpu_power_max_w == pytest.approx(70.0), "what was seen before it fell stays"


def test_a_board_without_a_counter_is_integrated_and_says_so(fake_nvml_here: FakeNvml, no_cpu: Path) -> None:
    fake_nvml_here.fail("nvmlDeviceGetTotalEnergyConsumption", NOT_SUPPORTED)
    fake_nvml_here.fail("field:83", NOT_SUPPORTED)  # the counter as a field value
    with Meter(sysfs=no_cpu) as meter, meter.window() as window:
        time.sleep(0.6)
    assert window.gpu_energy_j == pytest.approx(70.0 * window.duration_s, rel=0.02)
    assert window.energy_sources["gpu_energy_j"].startswith("no energy counter on this board; ")


def test_a_slow_driver_costs_gpu_ticks_and_no_others(fake_nvml_here: FakeNvml, no_cpu: Path) -> None:
    with Meter(sysfs=no_cpu) as meter, Sampler(Sources(), meter.sampler.rate_hz) as witness:
        fake_nvml_here.slow("nvmlDeviceGetUtilizationRates", 400)
        with meter.window() as window:
            time.sleep(2.0)
        assert window.samples == pytest.approx(10 * window.duration_s, abs=1)
        rows, seen = (
            sampler.window(window.start_ns, window.end_ns, margin_ticks=0) for sampler in (meter.sampler, witness)
        )
    node = [row for row in rows if row.source == "node"]
    gpu = [row for row in rows if row.scope == "gpu"]
    missed_by_all = sum(row.missed for row in seen)
    assert sum(row.missed for row in node) <= 3 + missed_by_all
    assert sum(row.missed for row in gpu) >= 5 + missed_by_all
