"""The sampler: the grid under virtual time, then its threads, briefly, in real time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiler.energy import sampler as sampler_module
from profiler.energy.counters import Clock, Reading
from profiler.energy.grid import Grid, rate
from profiler.energy.lane import Lane
from profiler.energy.probes import GpuProbe, Identity, Look, NodeProbe
from profiler.energy.retention import CHUNK_ROWS, Retention
from profiler.energy.sample import TICK_MISSED, Sample, Seen, join_reasons, reason_for
from profiler.energy.sampler import Sampler, SystemTime
from profiler.energy.sources import Sources
from tests.fakes.virtual import BOARD, PACKAGE, SECOND, VirtualCounter, VirtualGpu, VirtualTime, constant
from tests.process.harness import wait_until

MS = 1_000_000


class NodeStandIn:
    """Rows without a machine under them."""

    identity = Identity("node", "node", "node")
    on_grid = True

    def read(self, clock_ns: Any) -> int:
        t_ns: int = clock_ns()
        return t_ns

    def look(self, shown: int) -> Look:
        return Look(shown, Seen(util_percent=50.0))

    def close(self) -> None:
        """Nothing is open."""


def virtual(sources: Sources, clock: VirtualTime, rate_hz: float = 10.0) -> Sampler:
    return Sampler(sources, rate_hz, "node", "boot", time=clock, node_probe=NodeStandIn())


def node_rows(sampler: Sampler) -> list[Sample]:
    return [row for row in sampler.rows(0)[0] if row.source == "node"]


# --- the grid ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [1.0, 3.0, 10.0, 29.97, 100.0])
def test_ticks_do_not_drift_in_a_week(rate_hz: float) -> None:
    grid = Grid(12_345, rate(rate_hz))
    tick = round(rate_hz * 7 * 86_400)
    assert abs(grid.due_ns(tick) - 12_345 - tick / rate_hz * SECOND) < MS
    assert grid.tick_at(grid.due_ns(tick)) == tick
    assert grid.tick_at(grid.due_ns(tick) - 1) == tick - 1


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, 1001.0])
def test_an_impossible_rate_is_refused(rate_hz: float) -> None:
    with pytest.raises(ValueError, match="sampling rate"):
        rate(rate_hz)


def test_late_ticks_stay_on_the_grid() -> None:
    clock = VirtualTime(delays_ns=[3 * MS, 70 * MS, 1 * MS])
    sampler = virtual(Sources(), clock)
    sampler.drive(clock.now_ns + SECOND // 2)
    rows = node_rows(sampler)
    assert [row.tick for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row.lateness_ns for row in rows] == [3 * MS, 70 * MS, 1 * MS, 0, 0, 0]
    assert not any(row.missed for row in rows)


def test_a_missed_tick_is_a_row_of_every_device_and_not_caught_up() -> None:
    clock = VirtualTime(delays_ns=[0, 250 * MS])
    counter = VirtualCounter(constant(100.0), PACKAGE)
    sampler = virtual(Sources(counters=(counter,)), clock)
    start_ns = clock.now_ns
    sampler.drive(start_ns + SECOND // 2)
    for source in ("node", "powercap"):
        rows = [row for row in sampler.rows(0)[0] if row.source == source]
        assert [(row.tick, row.missed) for row in rows] == [
            (0, False), (1, True), (2, True), (3, False), (4, False), (5, False)
        ]  # fmt: skip
        missed = rows[1]
        assert (missed.null_reason, missed.t_mono_ns) == (TICK_MISSED, start_ns + SECOND // 10)
        assert missed.lateness_ns == 250 * MS
    assert counter.reads == 4


def test_rows_carry_unwrapped_joules_raw_units_and_the_power_between() -> None:
    clock = VirtualTime()
    near_the_end = PACKAGE.wrap_units - 15_000_000  # type: ignore[operator]
    # The profile counts from 0: the counter's start is chosen so that it wraps after 0.15 s at 100 W.
    counter = VirtualCounter(constant(100.0), PACKAGE, start_units=near_the_end - 100 * 1000 * 1_000_000)
    sampler = virtual(Sources(counters=(counter,)), clock)
    sampler.drive(clock.now_ns + SECOND // 2)
    rows = [row for row in sampler.rows(0)[0] if row.source == "powercap"]
    assert [row.energy_j for row in rows] == pytest.approx([0.0, 10.0, 20.0, 30.0, 40.0, 50.0])
    assert [row.power_w for row in rows] == pytest.approx([None] + [100.0] * 5)
    assert rows[1].power_kind == "interval"
    assert rows[2].counter_units == 5_000_000


def test_the_gpu_counter_is_asked_about_once_a_second() -> None:
    clock = VirtualTime()
    gpu = VirtualGpu(constant(300.0), clock)
    sampler = virtual(Sources(gpus=(gpu,), gpu_counters={gpu.uuid: gpu.energy_counter()}), clock)  # type: ignore[arg-type]
    sampler.drive(clock.now_ns + 5 * SECOND - 1)
    rows = [row for row in sampler.rows(0)[0] if row.scope == "gpu"]
    assert len(rows) == 50
    assert gpu.energy_counter().reads == 5
    assert [row.tick for row in rows if row.counter_units is not None] == [0, 10, 20, 30, 40]
    assert [row.power_w for row in rows] == pytest.approx([300.0] * 50)
    assert {(row.power_kind, row.temp_c, row.memory_mib) for row in rows} == {("instant", 40.0, 1000.0)}
    assert all(row.null_reason is None for row in rows)


@pytest.mark.parametrize(
    ("cost_ms", "asked"), [(0.0, [*range(0, 60, 10)]), (0.8, [*range(0, 60, 10)]), (1.6, [0, 20, 40]), (100, [0, 50])]
)
def test_a_counter_whose_calls_cost_much_is_asked_less_often(cost_ms: float, asked: list[int]) -> None:
    """At most 0.08 % of a core: 1.6 ms every 2 s; and every 5 s whatever it costs."""
    clock, cpu = VirtualTime(), VirtualTime()

    def costly(reading: Reading) -> Reading:
        cpu.now_ns += round(cost_ms * MS)
        return reading

    counter = VirtualCounter(constant(300.0), replace(BOARD, device="GPU-0"), clock, faults=costly)
    gpu = VirtualGpu(constant(300.0), clock, counter=counter)
    probe = GpuProbe(gpu, counter, 10, cpu_ns=cpu.monotonic_ns)  # type: ignore[arg-type]
    assert [look for look in range(60) if probe.read(clock.monotonic_ns).counted is not None] == asked


def test_what_a_counter_costs_is_the_cpu_time_of_its_thread() -> None:
    """Of one that waits it takes none, of one that computes all. Who waits is woken up at some cost on a busy machine:
    the least of several counts."""

    def asked(cost: Callable[[], object]) -> list[int]:
        def costly(reading: Reading) -> Reading:
            cost()
            return reading

        counter = VirtualCounter(constant(300.0), replace(BOARD, device="GPU-0"), VirtualTime(), faults=costly)
        probe = GpuProbe(VirtualGpu(constant(300.0), VirtualTime()), counter, 10)  # type: ignore[arg-type]
        return [look for look in range(60) if probe.read(time.monotonic_ns).counted is not None]

    def compute() -> None:
        until_s = time.thread_time() + 0.02
        while time.thread_time() < until_s:
            pass

    assert asked(compute) == [0, 50]
    assert max(len(asked(lambda: time.sleep(0.02))) for _ in range(5)) >= 3


def test_a_stepped_wall_clock_moves_no_row() -> None:
    clock = VirtualTime()
    sampler = virtual(Sources(), clock)
    sampler.drive(clock.now_ns + SECOND)
    clock.utc_offset_ns -= 3600 * SECOND
    sampler.drive(clock.now_ns + SECOND)
    utc = [row.t_utc_ns for row in node_rows(sampler)]
    assert utc == sorted(utc)
    assert utc[-1] - utc[0] == 2 * SECOND


class RaisesOnReading(NodeStandIn):
    identity = Identity("nvml", "broken", "gpu")

    def read(self, clock_ns: Any) -> int:
        raise RuntimeError("boom")


class ShowsNonsense(RaisesOnReading):
    read = NodeStandIn.read

    def look(self, shown: int) -> Look:
        raise RuntimeError("boom")


@pytest.mark.parametrize("broken", [RaisesOnReading, ShowsNonsense])
def test_a_device_that_raises_costs_its_own_row_only(broken: type[NodeStandIn]) -> None:
    clock = VirtualTime()
    sampler = Sampler(Sources(), 10.0, time=clock, node_probe=broken())
    sampler.drive(clock.now_ns + SECOND // 5)
    assert [row.null_reason for row in sampler.rows(0)[0]] == ["sampler_error_RuntimeError"] * 3


# --- what is kept --------------------------------------------------------------------------------------------------


def row(tick: int) -> Sample:
    return Sample(tick * SECOND, 0, "boot", tick, 0, False, "node", "node", "node")


def test_rows_are_drained_once_each() -> None:
    kept = Retention()
    seen: list[int] = []
    since = 0
    for tick in range(3 * CHUNK_ROWS + 7):
        kept.extend([row(tick)])
        if tick % 100 == 0:
            new, since = kept.rows(since)
            seen += [r.tick for r in new]
    seen += [r.tick for r in kept.rows(since)[0]]
    assert seen == list(range(3 * CHUNK_ROWS + 7))


def test_old_rows_go_unless_they_are_held() -> None:
    kept = Retention(keep_s=10.0)
    token = kept.hold(5 * SECOND)
    other = kept.hold(700 * SECOND)
    for tick in range(4 * CHUNK_ROWS):
        kept.extend([row(tick)])
    assert kept.window(0, 10**15)[0].tick <= 5
    kept.release(token)
    kept.release(other)
    kept.release(other)
    for tick in range(4 * CHUNK_ROWS, 6 * CHUNK_ROWS):
        kept.extend([row(tick)])
    assert kept.window(0, 10**15)[0].tick > 4 * CHUNK_ROWS


def test_a_long_hold_is_thinned_and_never_unbounded() -> None:
    kept = Retention(keep_s=10.0, max_rows=4 * CHUNK_ROWS)
    kept.hold(0)
    for tick in range(50 * CHUNK_ROWS):
        kept.extend([row(tick)])
    ticks = [r.tick for r in kept.window(0, 10**15)]
    assert len(ticks) <= 5 * CHUNK_ROWS
    assert ticks[-CHUNK_ROWS:] == list(range(49 * CHUNK_ROWS, 50 * CHUNK_ROWS))
    assert ticks[0] % 10 == 0
    assert ticks[0] < 40 * CHUNK_ROWS


def test_window_has_two_ticks_more_on_each_side() -> None:
    clock = VirtualTime()
    sampler = virtual(Sources(), clock)
    start_ns = clock.now_ns
    sampler.drive(start_ns + SECOND)
    window = sampler.window(start_ns + 250 * MS, start_ns + 450 * MS)
    assert [r.tick for r in window] == [1, 2, 3, 4, 5, 6]


def test_what_is_seen_are_the_last_fields_of_a_row() -> None:
    assert Sample._fields[-len(Seen._fields) :] == Seen._fields


def test_null_reasons_of_a_row_can_be_taken_apart() -> None:
    text = join_reasons({"temp_c": "nvml_not_supported", "energy_j": "nvml_gpu_lost"})
    assert text == "energy_j=nvml_gpu_lost;temp_c=nvml_not_supported"
    assert reason_for("temp_c", text) == "nvml_not_supported"
    assert reason_for("power_w", text) is None
    assert reason_for("anything", TICK_MISSED) == TICK_MISSED
    assert join_reasons({}) is None


# --- real threads, real time ---------------------------------------------------------------------------------------


def due_ns(row: Sample) -> int:
    """A missed tick has the time at which it was due, and its lateness is that of being noticed."""
    return row.t_mono_ns if row.missed else row.t_mono_ns - row.lateness_ns


def read_between(rows: Iterable[Sample], device: str, t0_ns: int, t1_ns: int) -> int:
    """How many ticks of a device were due from `t0_ns` to `t1_ns` and were read."""
    return sum(row.device == device and not row.missed and t0_ns <= due_ns(row) < t1_ns for row in rows)


def test_the_grid_exists_without_any_energy_source() -> None:
    began_ns = time.monotonic_ns()
    with Sampler(Sources(), 50.0) as sampler:
        assert sampler.priority in ("fifo", "nice", "normal")
        time.sleep(1.0)
        due = sampler.grid.tick_at(time.monotonic_ns())
        wait_until(lambda: len(node_rows(sampler)) > due)
    rows = node_rows(sampler)
    assert began_ns <= sampler.grid.start_ns
    assert 50 <= due < len(rows) <= 50 * (time.monotonic_ns() - began_ns) / SECOND + 4
    assert [r.tick for r in rows] == list(range(len(rows)))
    assert [due_ns(r) for r in rows] == [sampler.grid.start_ns + tick * SECOND // 50 for tick in range(len(rows))]
    read = [r for r in rows if not r.missed]
    told = {number: r.memory_mib for number, r in enumerate(read) if r.memory_mib is not None}
    assert list(told) == list(range(0, len(read), 50)) and all(mib > 0 for mib in told.values()), "once a second"
    busy = {number: r.util_percent for number, r in enumerate(read) if r.util_percent is not None}
    assert list(busy) == list(range(25, len(read), 25)) and all(0 <= percent <= 100 for percent in busy.values())
    assert [r.null_reason for r in read] == ["util_percent=no_earlier_look", *[None] * (len(read) - 1)]


def test_a_gpu_that_hangs_delays_neither_the_cpu_nor_the_other_gpus() -> None:
    hanging, release = threading.Event(), threading.Event()

    def hang() -> None:
        if hanging.is_set():
            release.wait(10)

    gpus = [VirtualGpu(constant(300.0), index=i, before_read=hang if i == 1 else lambda: None) for i in range(3)]
    counter = VirtualCounter(constant(100.0), PACKAGE)
    by_uuid = {gpu.uuid: gpu.energy_counter() for gpu in gpus}
    found = Sources(counters=(counter,), gpus=tuple(gpus), gpu_counters=by_uuid)  # type: ignore[arg-type]
    with Sampler(found, 10.0) as sampler, Sampler(Sources(), 10.0) as witness:
        time.sleep(0.3)
        hanging.set()
        hung_ns = time.monotonic_ns()
        time.sleep(2.5)
        ended_ns = hung_ns + 23 * SECOND // 10
        rows, since = sampler.rows(0)
        seen = read_between(node_rows(witness), "node", hung_ns, ended_ns)
        release.set()
        time.sleep(0.2)
        later, _ = sampler.rows(since)
    read = {device: read_between(rows, device, hung_ns, ended_ns) for device in ("package-0", "GPU-0", "GPU-2")}
    assert read["package-0"] >= seen - 2, "of those that this machine let anybody read"
    assert read["GPU-0"] >= seen - 5
    assert read["GPU-2"] >= seen - 5
    assert max(r.tick for r in rows if r.device == "GPU-1" and not r.missed) <= sampler.grid.tick_at(hung_ns)
    for device in ("GPU-0", "GPU-1", "GPU-2"):
        every = sorted(r.tick for r in [*rows, *later] if r.device == device)
        assert every == list(range(len(every))), "one row a tick, read or missed"


class Blocked:
    """A package, two GPUs and a switch: with it the first GPU's next call lasts until `release` (10 s at most)."""

    def __init__(self) -> None:
        self.block, self.release = threading.Event(), threading.Event()
        gpus = [VirtualGpu(constant(300.0), index=i, before_read=self.wait if i == 0 else lambda: None) for i in (0, 1)]
        counters = {gpu.uuid: gpu.energy_counter() for gpu in gpus}
        package = VirtualCounter(constant(100.0), PACKAGE)
        self.sources = Sources((package,), tuple(gpus), counters)  # type: ignore[arg-type]

    def wait(self) -> None:
        if self.block.is_set():
            self.release.wait(10)

    def package_rows(self, sampler: Sampler, until_tick: int) -> list[Sample]:
        """Those up to a tick that is due by now, or nearly."""
        wait_until(lambda: len(self._rows(sampler)) > until_tick, 2.0)
        rows = self._rows(sampler)
        assert [row.tick for row in rows] == list(range(len(rows))), "one row a tick, read or missed"
        return rows[: until_tick + 1]

    def _rows(self, sampler: Sampler) -> list[Sample]:
        return [row for row in sampler.rows(0)[0] if row.device == "package-0"]


def missed(rows: Iterable[Sample]) -> int:
    return sum(row.missed for row in rows)


def test_a_blocked_driver_call_costs_the_cpu_no_tick() -> None:
    gpu = Blocked()
    with Sampler(gpu.sources, 10.0) as sampler, Sampler(Sources(), 10.0) as witness:
        time.sleep(0.5)
        gpu.block.set()
        time.sleep(1.2)
        rows = gpu.package_rows(sampler, until_tick=16)
        gpu.release.set()
    assert missed(rows) <= 1 + missed(node_rows(witness)), "no more than one tick, that at which it was noticed"


def test_one_thread_reads_everything_and_the_other_sleeps_while_calls_answer() -> None:
    with Sampler(Blocked().sources, 10.0) as sampler:
        time.sleep(0.3)
        threads = {thread.name: thread for thread in threading.enumerate() if thread.name.startswith("sampler-")}
        before, before_ns = {name: waits(thread) for name, thread in threads.items()}, time.monotonic_ns()
        time.sleep(1.0)
        woken, after_ns = {name: waits(thread) - before[name] for name, thread in threads.items()}, time.monotonic_ns()
        time.sleep(0.2)  # a tick that is late now gets its row
        rows = [row for row in sampler.window(before_ns, after_ns) if row.scope == "node"]
    assert set(woken) == {"sampler-all", "sampler-watch"}
    waited_for = [row for row in rows if before_ns <= row.t_mono_ns <= after_ns and row.lateness_ns < 3 * MS]
    # The first may have been waited for since before; of those after a late one, one may have been due already.
    assert len(waited_for) - 2 <= woken["sampler-all"] <= 60
    late = [row for row in rows if row.missed or row.lateness_ns >= 3 * MS]
    assert woken["sampler-watch"] <= 10 * len(late), "only a late tick wakes it; then it waits for the interpreter too"


def waits(thread: threading.Thread) -> int:
    """How often a thread gave up its CPU to wait."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(status.split("voluntary_ctxt_switches:")[1].split()[0])


class SlowOnce(NodeProbe):
    """A look at the node that takes 0.25 s when it is told to, and blocks the GPU's call of the same tick."""

    def __init__(self, gpu: Blocked) -> None:
        super().__init__(10.0)
        self.now = threading.Event()
        self._gpu = gpu

    def read(self, clock_ns: Clock) -> Any:
        if self.now.is_set() and not self._gpu.block.is_set():
            self._gpu.block.set()
            time.sleep(0.25)
        return super().read(clock_ns)


def test_a_call_that_blocks_after_a_late_tick_is_noticed_too() -> None:
    gpu = Blocked()
    slow = SlowOnce(gpu)
    with Sampler(gpu.sources, 10.0, node_probe=slow) as sampler, Sampler(Sources(), 10.0) as witness:
        time.sleep(0.3)
        slow.now.set()
        time.sleep(1.5)
        rows = gpu.package_rows(sampler, until_tick=16)
        gpu.release.set()
    of_the_look_and_the_call = 4
    assert missed(rows) <= of_the_look_and_the_call + missed(node_rows(witness))


def test_a_call_that_blocks_at_the_very_first_tick_is_noticed() -> None:
    gpu = Blocked()
    gpu.block.set()
    with Sampler(gpu.sources, 10.0) as sampler, Sampler(Sources(), 10.0) as witness:
        assert sampler.running
        time.sleep(1.0)
        rows = gpu.package_rows(sampler, until_tick=9)
        gpu.release.set()
    assert missed(rows) <= 3 + missed(node_rows(witness))


def test_a_lane_is_divided_between_two_ticks() -> None:
    """The call comes back while its lane is being divided: no tick is read twice, and none by nobody."""
    clock = VirtualTime()
    lanes: list[Lane] = []

    def divide() -> None:
        if clock.now_ns > start_ns + 150 * MS and not lanes:
            clock.now_ns += 120 * MS
            divided = lane.split_overdue(1, "cpu", clock.now_ns)
            assert divided is not None
            lanes.append(divided)

    gpu = VirtualGpu(constant(300.0), clock, before_read=divide)
    sampler = virtual(Sources(gpus=(gpu,)), clock)  # type: ignore[arg-type]
    lane, start_ns = sampler._lanes[0], clock.now_ns
    ticks: dict[str, list[int]] = {"node": [], "nvml": []}
    for _ in range(6):
        for one in (lane, *lanes):
            clock.now_ns = max(clock.now_ns, one.due_ns)
            one.tick()
        for one in (lane, *lanes):
            for taken in one.take():
                ticks[taken.probe.identity.source].append(taken.tick)
    assert len(lanes) == 1
    for found in ticks.values():
        assert sorted(set(found) - {found[-1]}) == list(range(found[-1])), "one after the other"


def test_without_an_alarm_there_are_two_threads_from_the_start() -> None:
    """No descriptor is left for it."""
    program = (
        "import os, resource, threading, time\n"
        "from tests.energy.test_sampler import Blocked, Sampler, wait_until\n"
        "sampler = Sampler(Blocked().sources, 20.0)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir('/proc/self/fd'))), 4096))\n"
        "while True:\n"
        "    try:\n"
        "        os.dup(0)\n"
        "    except OSError:\n"
        "        break\n"
        "sampler.start()\n"
        "print(sorted(thread.name for thread in threading.enumerate() if thread.name.startswith('sampler-')))\n"
        "every = {'node', 'package-0', 'GPU-0', 'GPU-1'}\n"
        "wait_until(lambda: {row.device for row in sampler.rows(0)[0] if not row.missed} >= every)\n"
        "print(True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["['sampler-all', 'sampler-cpu']", "True"], done.stderr


def test_rows_are_made_in_pieces_that_delay_no_tick() -> None:
    assert Sampler(Blocked().sources, 10.0)._rows_every == 50
    assert 1 <= Sampler(Blocked().sources, 100.0)._rows_every <= 20


def test_a_thread_that_hung_over_a_stop_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_module, "STOP_TIMEOUT_S", 0.1)
    first_call, release = threading.Event(), threading.Event()

    def hang_once() -> None:
        if not first_call.is_set():
            first_call.set()
            release.wait(10)

    def gpu_ticks() -> list[int]:
        return [row.tick for row in sampler.rows(0)[0] if row.scope == "gpu"]

    gpu = VirtualGpu(constant(300.0), before_read=hang_once)
    sampler = Sampler(Sources(gpus=(gpu,)), 20.0)  # type: ignore[arg-type]
    sampler.start()
    sampler.stop()
    assert not sampler.running
    sampler.start()
    assert sampler.running
    release.set()
    time.sleep(0.3)
    wait_until(lambda: len(gpu_ticks()) >= 4)
    sampler.stop()
    ticks = gpu_ticks()
    assert len(set(ticks)) == len(ticks)


def test_stop_and_start_go_on_with_the_same_grid() -> None:
    sampler = Sampler(Sources(), 50.0)
    sampler.start()
    sampler.start()
    time.sleep(0.1)
    sampler.stop()
    assert not sampler.running
    first = node_rows(sampler)
    time.sleep(0.1)
    sampler.start()
    wait_until(lambda: any(not row.missed for row in node_rows(sampler)[len(first) :]))
    sampler.stop()
    later = node_rows(sampler)[len(first) :]
    assert later[0].tick > first[-1].tick + 2
    assert [due_ns(r) for r in later] == [sampler.grid.start_ns + r.tick * SECOND // 50 for r in later]


def test_system_time_stops_waiting_when_told() -> None:
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    began = time.monotonic()
    assert SystemTime().wait_until(time.monotonic_ns() + 10 * SECOND, stop) is False
    assert time.monotonic() - began < 5


def test_an_ordinary_user_gets_what_is_permitted_and_is_told() -> None:
    program = (
        "import os, resource\n"
        "from profiler.energy import priority\n"
        "resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))\n"
        "resource.setrlimit(resource.RLIMIT_NICE, (0, 0))\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "print(priority.raise_own(), os.sched_getscheduler(0), os.nice(0))\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["normal", str(os.SCHED_OTHER), "0"]
