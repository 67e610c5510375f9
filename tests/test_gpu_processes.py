"""Who was on a GPU when: looks on a virtual clock, at drivers that answer at once, late, or not at all."""

from __future__ import annotations

import time
from itertools import pairwise

from actors.energy import EnergyActor
from profiler import colocation
from profiler.energy.attribution import Role
from profiler.energy.nvml import GpuProcess, NvmlReadError
from profiler.gpu_processes import GpuPresence, GpuProcessLog
from tests.fakes.nvml import FakeNvml
from tests.fakes.virtual import SECOND, VirtualTime
from tests.process.harness import wait_until

MS = 1_000_000
PID = 4_190_001  # no process of this machine


class Driver:
    """A GPU on which one process is from 1.03 s to 3.27 s. A call answers for the time at which it ends."""

    def __init__(self, clock: VirtualTime, uuid: str = "GPU-0", call_ns: int = 0) -> None:
        self.uuid, self.call_ns, self.fails = uuid, call_ns, False
        self._clock = clock

    def processes(self) -> tuple[GpuProcess, ...]:
        self._clock.now_ns += self.call_ns
        if self.fails:
            raise NvmlReadError("nvml_timeout")
        there = 1_030 * MS <= self._clock.now_ns < 3_270 * MS
        return (GpuProcess(PID, 100.0 if self._clock.now_ns < 2 * SECOND else 50.0),) if there else ()


def looked(clock: VirtualTime, *drivers: Driver, until_ns: int = 5 * SECOND) -> list[GpuPresence]:
    """What a log knows that looks ten times a second, or as often as the calls let it."""
    log = GpuProcessLog(clock_ns=clock.monotonic_ns)
    while clock.now_ns < until_ns:
        log.look(drivers)  # type: ignore[arg-type]
        clock.now_ns = (clock.now_ns // (100 * MS) + 1) * 100 * MS
    return log.between(0, until_ns)


def test_a_process_is_known_to_within_a_look_on_either_side() -> None:
    clock = VirtualTime(start_ns=0)
    (found,) = looked(clock, Driver(clock))
    assert (found.first_seen_ns, found.last_seen_ns) == (1_100 * MS, 3_200 * MS)
    assert (found.pid, found.memory_mib, found.pid_namespace, found.command) == (PID, 100.0, None, "")


def test_a_slow_call_dates_nobody_before_its_time_or_after_it() -> None:
    """A thread that is held up between the clock and the call, or a driver that takes half a second for an answer."""
    for before_ns in (0, 500 * MS):
        clock = VirtualTime(start_ns=0)
        slow, other = Driver(clock, "GPU-1", before_ns), Driver(clock, call_ns=450 * MS)
        found = looked(clock, slow, other)
        assert {one.gpu_uuid for one in found} == {"GPU-0", "GPU-1"}
        assert all(1_030 * MS <= one.first_seen_ns <= one.last_seen_ns < 3_270 * MS for one in found)


def test_one_that_is_not_seen_for_more_than_a_second_has_two_stays() -> None:
    clock = VirtualTime(start_ns=0)
    driver = Driver(clock)
    log = GpuProcessLog(clock_ns=clock.monotonic_ns)
    for at_ms in range(1_100, 3_200, 100):
        clock.now_ns, driver.fails = at_ms * MS, 1_500 <= at_ms < 2_600
        log.look([driver])  # type: ignore[list-item]
    stays = [(one.first_seen_ns // MS, one.last_seen_ns // MS) for one in log.between(0, 5 * SECOND)]
    assert stays == [(1_100, 1_400), (2_600, 3_100)]


class Successors:
    """A GPU on which one process is in the first five answers, and another from the fifth on."""

    uuid = "GPU-0"

    def __init__(self, clock: VirtualTime) -> None:
        self._clock, self._answers = clock, 0

    def processes(self) -> tuple[GpuProcess, ...]:
        self._clock.now_ns += 5 * MS
        self._answers += 1
        there = (self._answers <= 5, self._answers >= 5)
        return tuple(GpuProcess(PID + number, 1000.0) for number in range(2) if there[number])


def test_those_of_one_answer_had_their_memory_at_one_time() -> None:
    clock = VirtualTime(start_ns=0)
    log = GpuProcessLog(clock_ns=clock.monotonic_ns)
    gpu = Successors(clock)
    for _ in range(10):
        log.look([gpu])  # type: ignore[list-item]
        clock.now_ns += 100 * MS
    first, other = log.between(0, 5 * SECOND)
    assert first.first_seen_ns < first.last_seen_ns == other.first_seen_ns < other.last_seen_ns
    whose: dict[int, Role] = {first.pid: "foreground", other.pid: "foreground"}
    assert colocation.memory_mib([vars(first), vars(other)], whose, "foreground") == 2000.0


def test_an_energy_actor_looks_as_often_as_the_trace_ticks(fake_nvml_here: FakeNvml) -> None:
    fake_nvml_here.add_process(PID)
    actor = EnergyActor(10.0, "here")
    looks_ns: list[int] = []

    def six_looks() -> bool:
        """Each moves the last sighting of who is there."""
        for found in actor.gpu_processes(0, time.monotonic_ns()):
            if found.last_seen_ns not in looks_ns:
                looks_ns.append(found.last_seen_ns)
        return len(looks_ns) >= 6

    try:
        wait_until(six_looks)
    finally:
        actor.stop()
    steps_s = [(b - a) / SECOND for a, b in pairwise(looks_ns[1:])]
    assert 0.1 <= min(steps_s) < 0.15, "a busy machine may lengthen any one of them"
