"""Cooling on a GPU whose power, temperature and load are functions of a virtual time. No sleep, no device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from profiler.config import Cooling
from profiler.cooling import Clocks, CoolingGpu, CoolingResult, IdleMark, cool_until_idle, rest, settle
from profiler.energy.sample import Sample
from profiler.gpu_processes import GpuPresence
from profiler.host import Anchor
from profiler.record import NodeFacts
from profiler.run_gpus import cool

SECOND = 1_000_000_000
GPU = "GPU-0"
MARK = IdleMark(70.0, 35.0)
Course = Callable[[float], float | None]


class RestingGpu:
    """Ten rows a second of a GPU that stopped working at 0 s. `silent`: seconds in which the trace has a hole."""

    def __init__(
        self,
        power: Course = lambda s: 70.0,
        temperature: Course = lambda s: 35.0,
        utilisation: Course = lambda s: 0.0,
        silent: tuple[float, float] = (0.0, 0.0),
        company: Sequence[tuple[float, float]] = (),
    ) -> None:
        self.now = 0
        self._courses = power, temperature, utilisation
        self._silent = silent
        self._company = company
        self.gpu = CoolingGpu(GPU, self, Clocks(lambda: self.now, self._pass))

    def _pass(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)

    def window(self, t0_ns: int, t1_ns: int) -> list[Sample]:
        ticks = range(-100 if t0_ns < 0 else t0_ns // (SECOND // 10), t1_ns // (SECOND // 10) + 1)
        return [self._row(tick) for tick in ticks if not self._silent[0] < tick / 10 < self._silent[1]]

    def _row(self, tick: int) -> Sample:
        power, temperature, utilisation = (course(tick / 10) for course in self._courses)
        known = {"power_w": power, "power_kind": "instant", "temp_c": temperature, "util_percent": utilisation}
        return Sample(tick * SECOND // 10, 0, "boot", tick, 0, False, "nvml", GPU, "gpu", **known)  # type: ignore[arg-type]

    def gpu_processes(self, t0_ns: int, t1_ns: int) -> list[GpuPresence]:
        stays = [(round(start * SECOND), round(end * SECOND)) for start, end in self._company]
        return [
            GpuPresence(GPU, 99, 1, None, "stranger", 0, 100.0, start, end)
            for start, end in stays
            if end >= t0_ns and start <= t1_ns
        ]

    def cooled(self, mark: IdleMark = MARK, limit_s: float = 60) -> CoolingResult:
        return cool_until_idle(self.gpu, mark, 2.0, limit_s)


def falling(start: float, end: float, seconds: float) -> Callable[[float], float]:
    return lambda s: max(end, start - (start - end) * max(s, 0.0) / seconds)


def test_a_gpu_that_is_cool_already_needs_three_seconds() -> None:
    result = RestingGpu().cooled()
    assert (result.cooling_end, result.cooling_idle_proven, result.null_reason) == ("idle", True, None)
    assert 2.9 <= result.cooling_s <= 3.2


def test_it_waits_for_the_temperature_to_come_back() -> None:
    result = RestingGpu(temperature=falling(55, 35, 20)).cooled()  # 37 C after 18 s, for a second
    assert result.cooling_end == "idle"
    assert 18.9 <= result.cooling_s <= 20


def test_it_waits_for_the_power_too() -> None:
    result = RestingGpu(power=lambda s: 300.0 if s < 9 else 71.0).cooled()
    assert 9.9 <= result.cooling_s <= 11


def test_one_that_stays_hot_ends_at_the_limit_and_says_so() -> None:
    result = RestingGpu(temperature=lambda s: 50.0).cooled(limit_s=12)
    assert (result.cooling_end, result.cooling_idle_proven) == ("max_seconds", True)
    assert 12 <= result.cooling_s <= 12.2


def test_work_of_somebody_else_is_no_idle() -> None:
    result = RestingGpu(utilisation=lambda s: 30.0 if 6 < s < 9 else 0.0, temperature=falling(45, 35, 12)).cooled()
    assert (result.cooling_end, result.cooling_idle_proven) == ("idle", False)


def test_a_stranger_that_only_sits_there_is_no_idle_either() -> None:
    assert RestingGpu(company=[(2.5, 20)]).cooled().cooling_idle_proven is False


def test_a_trainer_that_was_just_killed_is_not_company() -> None:
    assert RestingGpu(company=[(-30, 0.2)]).cooled().cooling_idle_proven is True


def test_a_hole_in_the_trace_proves_nothing() -> None:
    result = RestingGpu(temperature=falling(45, 35, 12), silent=(4, 8)).cooled()
    assert (result.cooling_idle_proven, result.null_reason) == (None, "trace_gap")


def test_a_device_that_tells_no_temperature_is_judged_by_the_rest() -> None:
    assert RestingGpu(temperature=lambda s: 90.0).cooled(IdleMark(70.0, None)).cooling_end == "idle"


def test_one_that_tells_no_utilisation_too() -> None:
    assert RestingGpu(utilisation=lambda s: None).cooled().cooling_end == "idle"
    hot = RestingGpu(utilisation=lambda s: None, power=lambda s: 300.0)
    assert hot.cooled().cooling_end == "max_seconds"


def test_settling_waits_until_the_temperature_stands_still() -> None:
    warm = RestingGpu(temperature=falling(60, 40, 10))
    warm.now = 2 * SECOND
    mark = settle(warm.gpu, 120)
    assert 14 <= warm.now / SECOND <= 20
    assert mark == IdleMark(70.0, 40.0)


def test_the_mark_is_that_of_a_board_at_rest_though_it_falls_by_less_than_a_degree_in_five_seconds() -> None:
    """An H100 after full load, in the whole degrees that it tells: 47 at its end, 41 after 7 s, 35 after 50 s."""

    def temperature(s: float) -> float:
        return float(round(35 + 12 * 0.5 ** (max(s, 0.0) / 7)))

    for begin_s in range(2, 12):
        warm = RestingGpu(temperature=temperature, utilisation=lambda s: 100.0 if s < 0 else 0.0)
        warm.now = begin_s * SECOND
        temp_c = settle(warm.gpu, 120).temp_c
        assert temp_c is not None
        assert temp_c <= 36.5


def test_a_temperature_between_two_degrees_is_at_rest() -> None:
    rested = RestingGpu(temperature=lambda s: 35.0 + (int(s * 2) % 2))
    rested.now = 20 * SECOND
    settle(rested.gpu, 120)
    assert rested.now == 20 * SECOND


def test_settling_takes_no_time_where_the_trace_shows_rest_already() -> None:
    rested = RestingGpu()
    rested.now = 20 * SECOND
    assert settle(rested.gpu, 120) == IdleMark(70.0, 35.0)
    assert rested.now == 20 * SECOND


def test_the_fixed_way_waits_as_long_as_it_says() -> None:
    resting = RestingGpu()
    result = rest(5, GPU, resting, resting.gpu.clocks)
    assert (result.cooling_s, result.cooling_end, result.cooling_idle_proven) == (5, "seconds", True)


def test_without_a_gpu_there_is_nothing_to_prove() -> None:
    resting = RestingGpu()
    assert rest(1, None, resting, resting.gpu.clocks).null_reason == "no_gpu"
    assert rest(0, GPU, resting, resting.gpu.clocks).null_reason == "no_cooling"


class TwoGpus:
    """A trace of two GPUs at rest, the second of which works when `busy`."""

    def __init__(self, busy: bool) -> None:
        self._busy = busy

    def window(self, t0_ns: int, t1_ns: int) -> list[Sample]:
        ticks = range(t0_ns // (SECOND // 10), t1_ns // (SECOND // 10) + 1)
        loads = {"GPU-0": 0.0, "GPU-1": 100.0 if self._busy else 0.0}
        return [
            Sample(
                tick * SECOND // 10, 0, "boot", tick, 0, False, "nvml", uuid, "gpu",
                power_w=70.0, power_kind="instant", temp_c=35.0, util_percent=load,
            )
            for tick in ticks
            for uuid, load in loads.items()
        ]  # fmt: skip

    def gpu_processes(self, t0_ns: int, t1_ns: int) -> list[GpuPresence]:
        return []


@pytest.mark.parametrize("cooling", [Cooling(seconds=3.0), Cooling(until="idle", max_seconds=3.2)])
@pytest.mark.parametrize("busy", [False, True])
def test_of_several_gpus_each_has_to_be_idle_all_the_time(cooling: Cooling, busy: bool) -> None:
    node = NodeFacts("n", "here", "boot", "GPU-0", "any", Anchor(0, 0, 0), ("GPU-1",))
    marks = dict.fromkeys(node.gpu_uuids, MARK) if cooling.until else {}
    assert cool(cooling, node, TwoGpus(busy), marks).cooling_idle_proven is not busy


def test_several_gpus_without_any_cooling_prove_nothing() -> None:
    node = NodeFacts("n", "here", "boot", "GPU-0", "any", Anchor(0, 0, 0), ("GPU-1",))
    result = cool(Cooling(seconds=0.0), node, TwoGpus(busy=True), {})
    assert (result.cooling_idle_proven, result.null_reason) == (None, "no_cooling")
