"""The log of who kept a GPU busy, against a driver that gives one sample a process and call, as NVIDIA's does."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from profiler.energy.nvml import NvmlDevice, NvmlReadError, ProcessUtilization, open_nvml
from profiler.gpu_activity import ActivityLog, ActivityWindow
from profiler.host import Anchor
from tests.fakes.nvml import FakeNvml

SECOND = 1_000_000_000


@pytest.fixture
def device(fake_nvml_here: FakeNvml) -> NvmlDevice:
    nvml = open_nvml()
    assert nvml is not None
    return nvml.devices[0]


def looked_at(log: ActivityLog, device: NvmlDevice, seconds: float, every_s: float) -> None:
    for _ in range(round(seconds / every_s)):
        time.sleep(every_s)
        log.look([device])


def worked_s(window: ActivityWindow, pid: int, t0_ns: int, t1_ns: int) -> float:
    """Seconds of a whole GPU."""
    return sum(item.sm_percent / 100 * item.seconds_in(t0_ns, t1_ns) for item in window.activities if item.pid == pid)


@pytest.mark.parametrize("every_s", [0.1, 1.0])
def test_what_a_process_did_is_known_however_often_one_looks(
    every_s: float, fake_nvml_here: FakeNvml, device: NvmlDevice
) -> None:
    # They work before the first look and after the last one: in what period of the driver they began and ended, and
    # how late a look was, is the matter of the tests below, which have a time of their own.
    for pid, percent in ((500, 80), (501, 20)):
        fake_nvml_here.add_process(pid, sm_percent=percent)
    log = ActivityLog()
    log.look([device])
    t0_ns = time.monotonic_ns()
    looked_at(log, device, 5.0, every_s)
    window = log.between(device.uuid, t0_ns, t0_ns + 4 * SECOND)
    assert window.null_reason is None
    for pid, percent in ((500, 80), (501, 20)):
        worked = worked_s(window, pid, t0_ns, t0_ns + 4 * SECOND)
        assert worked == pytest.approx(percent / 100 * 4, abs=0.02), "without a hole"
    spans = sorted((item.since_ns, item.t_ns) for item in window.activities if item.pid == 500)
    assert all(a[1] - b[0] < 1_000_000 for a, b in pairwise(spans)), "no time is told of twice"


class Driver:
    """The driver's rule in a time of its own: periods of a quarter of a second on the wall clock, means over whole
    periods, one sample for each process that did something. `busy`: PID -> percent at a time in s."""

    uuid = "GPU-1"
    PERIOD_US = 250_000

    def __init__(self, **busy: Callable[[float], float]) -> None:
        self.busy = {int(name.removeprefix("p")): percent for name, percent in busy.items()}
        self.now_s, self.offset_us = 100.0, 1_000_000_000_000
        self.refuses = False
        self.log = ActivityLog(lambda: Anchor(round(self.now_s * 1e9), self.wall_us * 1000, round(self.now_s * 1e9)))

    @property
    def wall_us(self) -> int:
        return round(self.now_s * 1e6) + self.offset_us

    def process_utilization(self, after_us: int = 0) -> list[ProcessUtilization]:
        if self.refuses:
            raise NvmlReadError("nvml_timeout")
        ends = [k * self.PERIOD_US for k in range(self.wall_us // self.PERIOD_US - 15, self.wall_us // self.PERIOD_US)]
        ends = [end for end in [*ends, self.wall_us // self.PERIOD_US * self.PERIOD_US] if end > after_us]
        found = []
        for pid, percent in self.busy.items():
            means = [percent((end - self.PERIOD_US / 2 - self.offset_us) / 1e6) for end in ends]
            active = [end for end, mean in zip(ends, means, strict=True) if mean > 0]
            if active:
                whole = int(sum(means) / len(means))
                found.append(ProcessUtilization(pid, (active[-1] - self.offset_us) * 1000, active[-1], whole, 0))
        return found

    def look_until(self, until_s: float, every_s: float = 1.0) -> None:
        while self.now_s < until_s:
            self.now_s += every_s
            self.log.look([self])

    def worked_s(self, pid: int, t0_s: float, t1_s: float) -> float:
        """Seconds of a whole GPU, as the log knows it."""
        window = self.log.between(self.uuid, round(t0_s * 1e9), round(t1_s * 1e9))
        assert window.null_reason is None
        return worked_s(window, pid, round(t0_s * 1e9), round(t1_s * 1e9))


@pytest.mark.parametrize("every_s", [0.3, 1.0])
@pytest.mark.parametrize("on_s", [0.25, 0.5, 1.0, 2.0])
def test_bursts_beside_a_steady_process_are_counted_as_what_they_are(on_s: float, every_s: float) -> None:
    driver = Driver(p1=lambda t: 40.0 if t % 3.1 < on_s else 0.0, p2=lambda _: 50.0)
    driver.look_until(171.0, every_s)
    truth_s = 0.4 * 60 * on_s / 3.1
    assert driver.worked_s(1, 110, 170) == pytest.approx(truth_s, rel=0.12)
    assert driver.worked_s(2, 110, 170) == pytest.approx(30, rel=0.02)


def test_the_time_before_the_last_look_is_not_part_of_what_is_new() -> None:
    driver = Driver(p1=lambda t: 50.0 if t > 130 else 0.0)
    driver.look_until(135.0)
    (first, *_) = driver.log.between(driver.uuid, 110 * SECOND, 135 * SECOND).activities
    assert first.since_ns >= 128 * SECOND, "not since the quiet log began"
    assert driver.worked_s(1, 120, 133) == pytest.approx(1.5, abs=0.15)


@pytest.mark.parametrize("step_s", [-30.0, 20.0])
def test_a_step_of_the_clock_is_a_hole_and_no_blindness(step_s: float) -> None:
    driver = Driver(p1=lambda _: 60.0)
    driver.look_until(110.0)
    driver.offset_us += round(step_s * 1e6)
    driver.look_until(130.0)
    assert driver.log.between(driver.uuid, 105 * SECOND, 115 * SECOND).null_reason == "clock_stepped"
    assert driver.worked_s(1, 113, 129) == pytest.approx(0.6 * 16, rel=0.02)
    assert driver.worked_s(1, 102, 108) == pytest.approx(0.6 * 6, rel=0.02)


def test_what_the_driver_may_have_forgotten_is_a_hole() -> None:
    driver = Driver(p1=lambda t: 60.0 if t > 118 else 0.0)
    driver.look_until(110.0)
    driver.now_s = 119.0  # whoever looks was held up
    driver.look_until(125.0)
    assert driver.log.between(driver.uuid, 108 * SECOND, 123 * SECOND).null_reason == "activity_log_hole"
    assert driver.worked_s(1, 121, 124) == pytest.approx(0.6 * 3, rel=0.03)


def test_slow_calls_of_other_gpus_are_no_step_of_the_clock() -> None:
    driver = Driver(p1=lambda _: 60.0)

    class Slow(Driver):
        uuid = "GPU-2"

        def process_utilization(self, after_us: int = 0) -> list[ProcessUtilization]:
            driver.now_s += 0.2
            return []

    slow = Slow()
    for _ in range(10):
        driver.now_s += 1
        driver.log.look([slow, driver])
        driver.log.look([driver])
    assert driver.worked_s(1, 102, 108) == pytest.approx(0.6 * 6, rel=0.02)


def test_a_refusal_is_a_hole_for_the_windows_that_it_lies_in() -> None:
    driver = Driver(p1=lambda _: 60.0)
    driver.look_until(110.0)
    driver.refuses = True
    driver.look_until(114.0)
    assert driver.log.between(driver.uuid, 108 * SECOND, 112 * SECOND).null_reason == "nvml_timeout"
    assert driver.worked_s(1, 102, 109) == pytest.approx(0.6 * 7, rel=0.02), "known before"
    driver.refuses = False
    driver.look_until(125.0)
    assert driver.log.between(driver.uuid, 108 * SECOND, 120 * SECOND).null_reason == "nvml_timeout"
    assert driver.worked_s(1, 116, 124) == pytest.approx(0.6 * 8, rel=0.02)


def test_a_refusal_has_its_reason_and_a_time_before_the_log_too(fake_nvml_here: FakeNvml, device: NvmlDevice) -> None:
    log = ActivityLog()
    assert log.between(device.uuid, 0, 1).null_reason == "not_looked_at"
    before_ns = time.monotonic_ns()
    log.look([device])
    now_ns = time.monotonic_ns()
    assert log.between(device.uuid, now_ns, now_ns + 1) == ActivityWindow(())
    assert log.between(device.uuid, before_ns - 1, now_ns).null_reason == "activity_log_too_short"

    class Refusing:
        uuid = device.uuid

        def process_utilization(self, after_us: int = 0) -> tuple[()]:
            raise NvmlReadError("nvml_no_permission")

    log.look([Refusing()])
    assert log.between(device.uuid, now_ns, now_ns + 1).null_reason == "nvml_no_permission"
