"""The sampler: reads every source on an absolute grid, from threads of its own, and keeps the rows.

One thread reads everything, the CPU's counters first. When a driver call still keeps it at the next tick, the CPU's
counters get a thread of their own, in time for that tick, and stay there; a GPU whose call hangs is left alone with its
thread, and the others go on in a new one. A thread for each from the start would cost much more: most of the CPU time
of a tick is its waking up. What was read becomes rows later, many at a time, when somebody asks for them or after some
seconds. It decides nothing about energy (account) and stores nothing (store).
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from operator import attrgetter
from typing import Any, Final

from profiler.energy import grid, priority
from profiler.energy.alarm import Alarm
from profiler.energy.grid import Grid
from profiler.energy.lane import Lane, SystemTime, Taken, Time
from profiler.energy.power_buffer import BufferProbe
from profiler.energy.probes import COUNTER_PERIOD_S, CounterProbe, GpuProbe, NodeProbe, Probe
from profiler.energy.retention import KEEP_S, Retention
from profiler.energy.sample import TICK_MISSED, Sample, Seen
from profiler.energy.sources import Sources

__all__ = ["Sample", "Sampler", "SystemTime", "Time"]

_log = logging.getLogger(__name__)

FIRST_TICK_TIMEOUT_S: Final = 5.0
STOP_TIMEOUT_S: Final = 2.0
# An H100's power buffer holds 2.4 s; fetching it takes 0.5 ms, however much is new in it.
BUFFER_PERIOD_S: Final = 2.0
# The longest that readings wait to become rows.
ROWS_PERIOD_S: Final = 5.0
# So late is a tick before somebody looks at what delays it; the first one reads the counters of all GPUs.
OVERDUE_NS: Final = 3_000_000
FIRST_OVERDUE_NS: Final = 100_000_000
# Rows are made by the thread that reads: of its time between two ticks they take no more than this share, where one
# takes about so long.
ROWS_SHARE: Final = 0.1
ROW_S: Final = 15e-6


class Sampler:
    """Samples `sources` at `rate_hz`; start and stop it as often as needed, or use it as a context manager.

    `priority` is "fifo", "nice" or "normal" once started. Times are CLOCK_MONOTONIC in ns. The rows of the last
    `keep_s` seconds stay in memory, longer while held."""

    def __init__(
        self,
        sources: Sources,
        rate_hz: float = 10.0,
        node_id: str = "",
        boot_id: str = "",
        *,
        time: Time | None = None,
        keep_s: float = KEEP_S,
        node_probe: Probe[Any] | None = None,
    ) -> None:
        self.time: Time = time or SystemTime()
        self.node_id = node_id
        self.boot_id = boot_id
        self.rate_hz = rate_hz
        self._stopping = threading.Event()
        self._retention = Retention(keep_s)
        self._latest: dict[str, Sample] = {}
        self._threads: list[threading.Thread] = []
        self._making_rows = threading.Lock()
        self._rate = grid.rate(rate_hz)
        self.grid = Grid(self.time.monotonic_ns(), self._rate)
        self._utc_offset_ns = self.time.utc_ns() - self.grid.start_ns
        cpu: list[Probe[Any]] = [
            node_probe or NodeProbe(rate_hz),
            *(CounterProbe(counter) for counter in sources.counters),
        ]
        every = max(1, round(rate_hz * COUNTER_PERIOD_S))
        gpus: list[Probe[Any]] = [
            GpuProbe(gpu, sources.gpu_counters.get(gpu.uuid), every, turn=number)
            for number, gpu in enumerate(sources.gpus)
        ]
        fetched = max(1, round(rate_hz * BUFFER_PERIOD_S))
        gpus += [BufferProbe(gpu, fetched, turn=number + every // 2) for number, gpu in enumerate(sources.gpus)]
        affordable = ROWS_SHARE / rate_hz / (ROW_S * len(cpu + gpus))
        self._rows_every = max(1, min(round(rate_hz * ROWS_PERIOD_S), int(affordable)))
        self._of_the_cpu = len(cpu)
        self._lanes = [Lane("all", [*cpu, *gpus], self.time, self.grid)]
        self._ticked = threading.Event()

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def priority(self) -> priority.Priority:
        return self._lanes[0].priority

    @property
    def running(self) -> bool:
        return bool(self._threads) and not self._stopping.is_set() and self._threads[0].is_alive()

    def start(self) -> None:
        """Starts the threads and returns after the first tick, or after 5 s. After a `stop` the same grid goes on."""
        if self.running:
            return
        # A new event each time: a thread that hung over the last stop must not come back to life.
        self._stopping = threading.Event()
        now_ns = self.time.monotonic_ns()
        first = self.grid.tick_at(now_ns) + 1 if self._threads else 0
        if not self._threads:
            self.grid = Grid(now_ns, self._rate)
            self._utc_offset_ns = self.time.utc_ns() - now_ns
        self._threads = []
        self._ticked.clear()
        alarm = self._new_alarm()
        for lane in self._lanes:
            lane.begin(self.grid, first)
            self._threads.append(self._start_thread(lane, alarm))
        if alarm is not None:
            arguments = (self._lanes[0], alarm, self._stopping)
            threading.Thread(target=self._watch, args=arguments, name="sampler-watch", daemon=True).start()
        self._ticked.wait(FIRST_TICK_TIMEOUT_S)

    def _new_alarm(self) -> Alarm | None:
        """Where one thread reads all; where the kernel gives none, the CPU's probes are apart from the start."""
        if len(self._lanes) > 1 or len(self._lanes[0].probes) == self._of_the_cpu:
            return None
        try:
            return Alarm(self.grid.period_ns)
        except OSError as error:
            _log.warning("no alarm (%s): the CPU's counters are read by a thread of their own", error)
            self._lanes.insert(0, self._lanes[0].split(self._of_the_cpu, "cpu"))
            return None

    def _start_thread(self, lane: Lane, alarm: Alarm | None = None) -> threading.Thread:
        thread = threading.Thread(
            target=self._run, args=(lane, alarm, self._stopping), name=f"sampler-{lane.name}", daemon=True
        )
        thread.start()
        return thread

    def _run(self, lane: Lane, alarm: Alarm | None, stopping: threading.Event) -> None:
        """A thread: ticks until `stopping` is set. The first lane's sees to the others too."""
        lane.priority = priority.raise_own()
        overdue_ns = lane.grid.period_ns + FIRST_OVERDUE_NS
        while self.time.wait_until(lane.due_ns, stopping):
            if alarm is not None:
                alarm.put_off(lane.due_ns + overdue_ns)
                overdue_ns = lane.grid.period_ns + OVERDUE_NS
            lane.tick()
            if lane is not self._lanes[0]:
                alarm = None
                continue
            if not self._ticked.is_set():
                self._ticked.set()
            if len(self._lanes) > 1 and any(other.reading for other in self._lanes[1:]):
                self._free_lanes()
            if lane.next_tick % self._rows_every == 0:
                self._make_rows(wait=False)

    def _watch(self, lane: Lane, alarm: Alarm, stopping: threading.Event) -> None:
        """A thread: when a driver call makes a tick of the only lane late, gives the CPU's probes a lane, the first."""
        priority.raise_own()
        first = None
        while first is None:
            alarm.wait()
            if stopping.is_set():
                return
            first = lane.split_overdue(self._of_the_cpu, "cpu", self.time.monotonic_ns())
        self._lanes.insert(0, first)
        self._threads.insert(0, self._start_thread(first))
        _log.info("%s is late to answer; the CPU's counters go on without it", lane.probes[0].identity.device)

    def _free_lanes(self) -> None:
        """Gives the probes that wait behind a hanging one a thread of their own."""
        now_ns = self.time.monotonic_ns()
        for lane in tuple(self._lanes[1:]):
            successor = lane.leave_hanging(f"gpu-{len(self._lanes)}", now_ns)
            if successor is not None:
                self._lanes.append(successor)
                self._threads.append(self._start_thread(successor))
                _log.warning("%s does not answer; the other GPUs go on without it", lane.probes[0].identity.device)

    def stop(self) -> None:
        """Ends the threads; one that hangs in a driver call is left behind after 2 s. Like the one that waits for the
        alarm, which rings within two periods, it is a daemon thread."""
        self._stopping.set()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def drive(self, until_ns: int) -> None:
        """Runs every lane on the calling thread up to `until_ns`: for a `time` that the caller moves, as in tests."""
        queue = [(lane.due_ns, number) for number, lane in enumerate(self._lanes)]
        heapq.heapify(queue)
        while queue and queue[0][0] <= until_ns:
            due_ns, number = heapq.heappop(queue)
            if not self.time.wait_until(due_ns, self._stopping):
                return
            lane = self._lanes[number]
            lane.tick()
            heapq.heappush(queue, (lane.due_ns, number))

    def latest(self) -> dict[str, Sample]:
        """The last row of each device: "node", a counter's device, a GPU's UUID."""
        self._make_rows()
        return dict(self._latest)

    def rows(self, since_seq: int) -> tuple[list[Sample], int]:
        """Rows since number `since_seq` (0 at first) in the order they came, and the number for the next call."""
        self._make_rows()
        return self._retention.rows(since_seq)

    def window(self, t0_ns: int, t1_ns: int, margin_ticks: int = 2) -> list[Sample]:
        """Rows of [t0_ns, t1_ns] by time, and `margin_ticks` more on each side, which edges are interpolated from."""
        self._make_rows()
        margin_ns = margin_ticks * self.grid.period_ns
        return self._retention.window(t0_ns - margin_ns, t1_ns + margin_ns)

    def hold(self, t0_ns: int) -> int:
        """Keeps every row from `t0_ns` on, however old, until `release(token)`."""
        return self._retention.hold(t0_ns)

    def release(self, token: int) -> None:
        self._retention.release(token)

    @property
    def holds(self) -> int:
        """How many windows are held at the moment."""
        return self._retention.holds

    def _make_rows(self, *, wait: bool = True) -> None:
        """Turns everything that was read so far into rows, unless somebody does it already and we shall not `wait`."""
        if not self._making_rows.acquire(blocking=wait):
            return
        try:
            taken = [one for lane in self._lanes for one in lane.take()]
            rows = [row for one in sorted(taken, key=attrgetter("due_ns")) for row in self._rows_of(one)]
            self._latest.update((row.device, row) for row in rows)
            self._retention.extend(rows)
        finally:
            self._making_rows.release()

    def _rows_of(self, one: Taken) -> list[Sample]:
        if one.error is not None:
            return [self._error_row(one, one.error, one.failed_ns or one.due_ns)]
        if one.failed_ns is not None:
            if not one.probe.on_grid:
                return []
            late_ns = one.failed_ns - one.due_ns
            return [self._row(one, one.due_ns, late_ns, Seen(null_reason=TICK_MISSED), missed=True)]
        try:
            look = one.probe.look(one.shown)
        except Exception as error:  # noqa: BLE001 - a border: one broken device must not end the trace of the others
            return [self._error_row(one, error, one.due_ns)]
        if look is None:
            return []
        if one.probe.on_grid:
            return [self._row(one, look.t_ns, look.t_ns - one.due_ns, look.seen)]
        return [self._row(one, seen.t_ns, 0, seen.seen) for seen in (*look.earlier, look)]

    def _error_row(self, one: Taken, error: Exception, t_ns: int) -> Sample:
        _log.warning("sampling %s failed: %r", one.probe.identity.device, error)
        seen = Seen(null_reason=f"sampler_error_{type(error).__name__}")
        return self._row(one, t_ns, t_ns - one.due_ns, seen)

    def _row(self, one: Taken, t_ns: int, lateness_ns: int, seen: Seen, *, missed: bool = False) -> Sample:
        of = one.probe.identity
        utc_ns = t_ns + self._utc_offset_ns
        return Sample(t_ns, utc_ns, self.boot_id, one.tick, lateness_ns, missed, of.source, of.device, of.scope, *seen)
