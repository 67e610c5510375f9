"""The NVML reader on virtual GPUs, through real nvidia-ml-py."""

from __future__ import annotations

import os
import time
from itertools import pairwise

import pytest

from profiler.energy.counters import EnergyCounter, Unavailable, accumulate
from profiler.energy.nvml import (
    GPU_LOST,
    GpuProcess,
    Nvml,
    NvmlDevice,
    NvmlReadError,
    describe_throttle_reasons,
    is_throttled,
    open_nvml,
)
from tests.fakes import nvml as fake
from tests.fakes.nvml import FakeNvml, Segment

VALUES = {
    "power_w": "field:186",
    "temp_c": "nvmlDeviceGetTemperatureV",
    "util_percent": "nvmlDeviceGetUtilizationRates",
    "memory_mib": "nvmlDeviceGetMemoryInfo_v2",
    "clock_mhz": "nvmlDeviceGetClockInfo",
    "throttle_reasons": "nvmlDeviceGetCurrentClocksEventReasons",
}


def opened() -> Nvml:
    nvml = open_nvml()
    assert isinstance(nvml, Nvml), nvml
    return nvml


@pytest.fixture
def device(fake_nvml_here: FakeNvml) -> NvmlDevice:
    return opened().devices[0]


def test_lists_every_gpu_with_identity(fake_nvml_library, tmp_path):
    fakes = FakeNvml(tmp_path / "state", fake_nvml_library, gpus=3)
    with fakes.attached(), opened() as nvml:
        assert [(d.index, d.uuid) for d in nvml.devices] == [(i, fake.fake_uuid(i)) for i in range(3)]
        assert nvml.devices[0].name == "NVIDIA H100 80GB HBM3"
        assert nvml.driver_version == "580.159.03"
        assert nvml.unavailable == ()


def test_reads_every_value_with_its_unit(fake_nvml_here: FakeNvml, device: NvmlDevice):
    fake_nvml_here.play([Segment(1, 250.0)], start_ns=time.monotonic_ns() - 5 * 10**9)
    fake_nvml_here.set(
        temp_c=61,
        util_percent=97,
        memory_util_percent=41,
        memory_used_mib=2048.0,
        sm_clock_mhz=1980,
        throttle_reasons=0x44,
    )
    before = time.monotonic_ns()
    reading = device.read()
    assert before <= reading.t_ns <= time.monotonic_ns()
    assert (reading.power_w, reading.power_kind) == (250.0, "instant")
    assert (reading.temp_c, reading.util_percent, reading.memory_util_percent) == (61, 97, 41)
    assert (reading.memory_mib, reading.clock_mhz, reading.throttle_reasons) == (2048, 1980, 0x44)
    assert reading.null_reasons == {}


@pytest.mark.parametrize("field", VALUES)
def test_a_value_that_fails_is_null_alone(fake_nvml_here: FakeNvml, device: NvmlDevice, field: str):
    fake_nvml_here.fail(VALUES[field], fake.UNKNOWN)
    reading = device.read()
    together = {"power_w": ["power_w", "power_kind"], "util_percent": ["util_percent", "memory_util_percent"]}
    nulls = together.get(field, [field])
    assert reading.null_reasons == dict.fromkeys(nulls, "nvml_error_999")
    for name in [*VALUES, "power_kind", "memory_util_percent"]:
        assert (getattr(reading, name) is None) == (name in nulls)
    fake_nvml_here.heal()
    assert device.read().null_reasons == {}


def test_power_falls_back_in_order_and_says_so(fake_nvml_here: FakeNvml):
    fake_nvml_here.play([Segment(1, 400.0)], start_ns=time.monotonic_ns() - 500_000_000)
    fake_nvml_here.fail("field:186", fake.NOT_SUPPORTED)
    device = opened().devices[0]
    averaged = device.read()
    assert averaged.power_kind == "average"
    assert averaged.power_w is not None and 70 < averaged.power_w <= 400  # the mean of 1 s, half of it at 70 W
    fake_nvml_here.fail("field:185", fake.NOT_SUPPORTED)
    assert device.read().power_kind == "average"
    fake_nvml_here.fail("nvmlDeviceGetPowerUsage", fake.NOT_SUPPORTED)
    reading = device.read()
    assert reading.power_w is None and reading.power_kind is None
    assert reading.null_reasons["power_w"] == "nvml_not_supported"


def test_power_usage_of_an_old_board_is_instant(fake_nvml_here: FakeNvml):
    fake_nvml_here.set(compute_major=7, compute_minor=0)
    for call in ("field:186", "field:185"):
        fake_nvml_here.fail(call, fake.NOT_SUPPORTED)
    assert opened().devices[0].read().power_kind == "instant"


def test_a_passing_fault_does_not_change_the_kind_of_power(fake_nvml_here: FakeNvml, device: NvmlDevice):
    fake_nvml_here.fail("field:186", fake.UNKNOWN)
    assert device.read().power_w is None
    fake_nvml_here.heal()
    assert device.read().power_kind == "instant"


def test_old_drivers_older_calls(fake_nvml_here: FakeNvml):
    for call in (
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetTotalEnergyConsumption",
    ):
        fake_nvml_here.fail(call, fake.FUNCTION_NOT_FOUND)
    device = opened().devices[0]
    reading = device.read()
    assert reading.null_reasons == {} and reading.temp_c == 35 and reading.throttle_reasons == 1
    assert reading.memory_mib == 4 + 480  # version 1 counts the driver's reservation
    assert device.energy_counter().read().units is not None


def test_counter_gives_the_exact_energy_of_a_profile(fake_nvml_here: FakeNvml, device: NvmlDevice):
    counter = device.energy_counter()
    assert isinstance(counter, EnergyCounter)
    assert (counter.info.source, counter.info.device, counter.info.scope) == ("nvml", device.uuid, "gpu")
    assert counter.info.wrap_units is None and counter.info.max_power_w == 1400
    fake_nvml_here.set(counter_period_ns=0)
    start = fake_nvml_here.bursts(650.0, 90.0, period_s=0.2)
    readings, true_mj = [], []
    while time.monotonic_ns() < start + 900_000_000:
        before_mj = fake_nvml_here.energy_mj(time.monotonic_ns())
        readings.append(counter.read())
        true_mj.append((before_mj, fake_nvml_here.energy_mj(time.monotonic_ns())))
        time.sleep(0.1)
    energy = accumulate(counter.info, readings)
    assert energy.units is not None
    assert true_mj[-1][0] - true_mj[0][1] - 1 <= energy.units <= true_mj[-1][1] - true_mj[0][0] + 1
    assert energy.joules == pytest.approx(energy.units / 1000)


def test_counter_faults_are_null_with_a_reason(fake_nvml_here: FakeNvml, device: NvmlDevice):
    counter = device.energy_counter()
    fake_nvml_here.fail("nvmlDeviceGetTotalEnergyConsumption", fake.NOT_SUPPORTED)
    fake_nvml_here.fail("field:83", fake.NOT_SUPPORTED)
    reading = counter.read()
    assert reading.units is None and reading.null_reason == "nvml_not_supported"
    problem = device.energy_problem()
    assert problem is not None and problem.reason == "nvml_not_supported" and problem.fix


def test_a_frozen_counter_stands_still(fake_nvml_here: FakeNvml, device: NvmlDevice):
    counter = device.energy_counter()
    fake_nvml_here.freeze_counter()
    first = counter.read()
    time.sleep(0.6)
    energy = accumulate(counter.info, [first, counter.read()])
    assert energy.joules is None and energy.null_reason == "counter_not_advancing"


def test_a_lost_gpu_is_null_everywhere_and_comes_back(fake_nvml_here: FakeNvml, device: NvmlDevice):
    fake_nvml_here.lose()
    reading = device.read()
    assert set(reading.null_reasons.values()) == {GPU_LOST}
    for name in reading.null_reasons:
        assert getattr(reading, name) is None
    assert len(reading.null_reasons) == 8
    assert device.energy_counter().read().null_reason == GPU_LOST
    for read in (device.processes, device.process_utilization, device.power_samples):
        with pytest.raises(NvmlReadError) as caught:
            read()
        assert caught.value.reason == GPU_LOST
    fake_nvml_here.lose(found_again=True)
    assert device.read().null_reasons == {}


def test_processes_are_merged_by_pid(fake_nvml_here: FakeNvml, device: NvmlDevice):
    assert device.processes() == ()
    fake_nvml_here.add_process(500, 1024.0)
    fake_nvml_here.add_process(500, 1024.0, kind="graphic")
    fake_nvml_here.add_process(400, 256.0, kind="mps")
    fake_nvml_here.add_process(600, None)
    expected = (GpuProcess(400, 256.0), GpuProcess(500, 1024.0), GpuProcess(600, None))
    assert device.processes() == expected
    assert device.read().memory_mib == 4 + 1024 + 256
    fake_nvml_here.remove_process(500)
    assert [p.pid for p in device.processes()] == [400, 600]


def test_processes_without_graphics_or_mps_support(fake_nvml_here: FakeNvml, device: NvmlDevice):
    fake_nvml_here.add_process(500, 10.0)
    fake_nvml_here.fail("nvmlDeviceGetGraphicsRunningProcesses", fake.NOT_SUPPORTED)
    fake_nvml_here.fail("nvmlDeviceGetMPSComputeRunningProcesses", fake.FUNCTION_NOT_FOUND)
    assert device.processes() == (GpuProcess(500, 10.0),)
    fake_nvml_here.fail("nvmlDeviceGetComputeRunningProcesses", fake.NO_PERMISSION)
    with pytest.raises(NvmlReadError, match="nvml_no_permission"):
        device.processes()


def test_process_utilization_since_the_last_stamp(fake_nvml_here: FakeNvml, device: NvmlDevice):
    assert device.process_utilization() == ()
    begun_us = time.time_ns() // 1000
    fake_nvml_here.add_process(500, sm_percent=60, memory_percent=30)
    fake_nvml_here.add_process(501, sm_percent=20, memory_percent=10)
    samples = device.process_utilization()
    assert {(s.pid, s.sm_percent, s.memory_percent) for s in samples} == {(500, 60, 30), (501, 20, 10)}, "one of each"
    assert 0 <= time.monotonic_ns() - samples[-1].t_ns < 1_000_000_000
    newest_us = samples[-1].stamp_us
    while not (newer := device.process_utilization(newest_us)):
        assert time.time_ns() // 1000 < begun_us + 5_000_000
        time.sleep(0.02)
    steps, left = divmod(newer[-1].stamp_us - newest_us, 250_000)
    assert [(s.pid, s.stamp_us) for s in newer] == [(pid, newer[-1].stamp_us) for pid in (500, 501)]
    assert steps >= 1 and left == 0, "one step of the driver's, or more where this process was stopped in between"


def test_power_buffer_holds_the_profile(fake_nvml_here: FakeNvml, device: NvmlDevice):
    start = fake_nvml_here.play([Segment(1, 500.0)], start_ns=time.monotonic_ns() - 10**9)
    samples = device.power_samples()
    assert len(samples) == 119
    assert all(b.stamp_us - a.stamp_us == 20_000 for a, b in pairwise(samples))
    for sample in samples:
        if abs(sample.t_ns - start) > 25_000_000:
            assert sample.power_w == (500.0 if sample.t_ns > start else 70.0)
    newer = device.power_samples(samples[-1].stamp_us)
    assert all(s.stamp_us > samples[-1].stamp_us for s in newer)


def test_a_slow_call_delays_only_itself(fake_nvml_here: FakeNvml, device: NvmlDevice):
    fake_nvml_here.slow("nvmlDeviceGetTotalEnergyConsumption", 50)
    before = time.monotonic_ns()
    reading = device.energy_counter().read()
    after = time.monotonic_ns()
    assert after - before > 50_000_000
    assert before + 20_000_000 < reading.t_ns < after - 20_000_000  # stamped in the middle of the call


def test_a_gpu_that_cannot_be_opened_leaves_the_others(fake_nvml_library, tmp_path):
    fakes = FakeNvml(tmp_path / "state", fake_nvml_library, gpus=2)
    fakes.lose(0)
    with fakes.attached(), opened() as nvml:
        assert [d.index for d in nvml.devices] == [1]
        assert [(u.name, u.reason) for u in nvml.unavailable] == [("gpu-0", GPU_LOST)]
        assert "xid" in nvml.unavailable[0].fix


def test_mig_is_named_as_not_measured(fake_nvml_here: FakeNvml):
    fake_nvml_here.set(mig_mode=1)
    with opened() as nvml:
        assert nvml.devices[0].mig_enabled
        assert [u.reason for u in nvml.unavailable] == ["mig_instances_not_measured"]
        reading = nvml.devices[0].read()
        assert reading.null_reasons == dict.fromkeys(("util_percent", "memory_util_percent"), "nvml_not_supported")


@pytest.mark.parametrize(
    ("code", "reason", "word"),
    [
        (fake.DRIVER_NOT_LOADED, "nvml_driver_not_loaded", "modprobe"),
        (fake.NO_PERMISSION, "nvml_no_permission", "/dev/nvidia"),
        (fake.VERSION_MISMATCH, "nvml_version_mismatch", "reboot"),
        (fake.UNKNOWN, "nvml_error_999", "nvidia-smi"),
    ],
)
def test_what_stops_nvml_is_said_with_a_fix(fake_nvml_here: FakeNvml, code: int, reason: str, word: str):
    fake_nvml_here.fail("nvmlInit", code)
    refused = open_nvml()
    assert isinstance(refused, Unavailable)
    assert refused.reason == reason and word in refused.fix


def test_no_device_and_all_devices_forbidden(fake_nvml_library, tmp_path):
    with FakeNvml(tmp_path / "none", fake_nvml_library, gpus=0).attached():
        none = open_nvml()
        assert isinstance(none, Unavailable) and none.reason == "no_device"
    forbidden = FakeNvml(tmp_path / "forbidden", fake_nvml_library, gpus=2)
    forbidden.fail("nvmlDeviceGetHandleByIndex", fake.NO_PERMISSION)
    with forbidden.attached():
        refused = open_nvml()
        assert isinstance(refused, Unavailable) and refused.reason == "nvml_no_permission"


def test_no_library_in_a_child_process(fake_nvml: FakeNvml, tmp_path):
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    source = "import json; from profiler.energy.nvml import open_nvml; print(json.dumps(open_nvml().reason))"
    assert fake_nvml.run(source, env={"LD_LIBRARY_PATH": str(tmp_path)}) == "nvml_library_missing"


def test_a_closed_library_is_a_reason_too(fake_nvml_here: FakeNvml):
    nvml = opened()
    nvml.close()
    nvml.close()
    assert set(nvml.devices[0].read().null_reasons.values()) == {"nvml_closed"}


def test_read_is_cheap(device: NvmlDevice):
    rounds = 300
    before = time.process_time_ns()
    for _ in range(rounds):
        device.read()
    assert (time.process_time_ns() - before) / rounds < 2_000_000  # 2 ms; about 50 us here, 10 a second


@pytest.mark.parametrize(
    ("mask", "names", "throttled"),
    [
        (0, [], False),
        (0x1, ["gpu_idle"], False),
        (0x2, ["application_clocks"], False),
        (0x4, ["sw_power_cap"], False),
        (0x48, ["hw_slowdown", "hw_thermal_slowdown"], True),
        (0x24, ["sw_power_cap", "sw_thermal_slowdown"], True),
        (0x80, ["hw_power_brake"], True),
        (0x1_0000_0001, ["gpu_idle", "unknown_0x100000000"], False),
    ],
)
def test_throttle_reasons(mask: int, names: list[str], throttled: bool):
    assert describe_throttle_reasons(mask) == names
    assert is_throttled(mask) is throttled


def test_attaching_leaves_no_trace(fake_nvml: FakeNvml):
    import pynvml

    before = pynvml.nvmlLib
    with fake_nvml.attached():
        assert pynvml.nvmlLib is not before
    assert pynvml.nvmlLib is before and "FAKE_NVML_STATE" not in os.environ
