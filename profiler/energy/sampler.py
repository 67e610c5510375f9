"""The sampler: reads every source on an absolute grid, from threads of its own, and keeps the rows.

One thread reads the node and the CPU counters, another one the GPUs, so that a blocked driver call never delays the
CPU's grid. A GPU whose call hangs is left alone with that thread, and the others go on in a new one: a thread for each
GPU from the start would cost five times the CPU. What was read becomes rows later, many at a time, when somebody asks
for them or after some seconds. It decides nothing about energy (account) and stores nothing (store).
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from dataclasses import replace
from typing import Any, Final

from profiler.energy import grid, priority
from profiler.energy.grid import Grid
from profiler.energy.lane import Lane, SystemTime, Taken, Time
from profiler.energy.power_buffer import BufferProbe
from profiler.energy.probes import COUNTER_PERIOD_S, CounterProbe, GpuProbe, Identity, NodeProbe, Probe
from profiler.energy.retention import KEEP_S, Retention
from profiler.energy.sample import TICK_MISSED, Sample
from profiler.energy.sources import Sources

__all__ = ["Sample", "Sampler", "SystemTime", "Time"]

_log = logging.getLogger(__name__)

FIRST_TICK_TIMEOUT_S: Final = 5.0
STOP_TIMEOUT_S: Final = 2.0
# An H100's power buffer holds 2.4 s; fetching it takes 0.5 ms, however much is new in it.
BUFFER_PERIOD_S: Final = 1.5
# The longest that readings wait to become rows.
ROWS_PERIOD_S: Final = 5.0
# The GPUs' ticks are due a little after the CPU's: two threads that wake together fight over the interpreter's lock.
GPU_OFFSET_NS: Final = 5_000_000


def _later(grid: Grid) -> Grid:
    """The grid of the GPUs."""
    return replace(grid, start_ns=grid.start_ns + min(GPU_OFFSET_NS, grid.period_ns // 2))


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
        self._rows_every = max(1, round(rate_hz * ROWS_PERIOD_S))
        self._lanes = [Lane("cpu", cpu, self.time, self.grid)]
        if gpus:
            self._lanes.append(Lane("gpu", gpus, self.time, _later(self.grid)))

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
        return bool(self._threads) and self._threads[0].is_alive()

    def start(self) -> None:
        """Starts the threads and returns after the first tick. After a `stop` the same grid goes on."""
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
        for lane in self._lanes:
            lane.begin(self.grid if lane is self._lanes[0] else _later(self.grid), first)
            self._start_thread(lane)
        self._lanes[0].ticked.wait(FIRST_TICK_TIMEOUT_S)

    def _start_thread(self, lane: Lane) -> None:
        thread = threading.Thread(
            target=self._run, args=(lane, self._stopping), name=f"sampler-{lane.name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _run(self, lane: Lane, stopping: threading.Event) -> None:
        """A thread: ticks until `stopping` is set. The CPU's sees to the others too."""
        lane.priority = priority.raise_own()
        first = lane is self._lanes[0]
        while self.time.wait_until(lane.due_ns, stopping):
            lane.tick()
            if not lane.ticked.is_set():
                lane.ticked.set()
            if first and any(other.reading for other in self._lanes[1:]):
                self._free_lanes()
            if first and lane.next_tick % self._rows_every == 0:
                self._make_rows(wait=False)

    def _free_lanes(self) -> None:
        """Gives the probes that wait behind a hanging one a thread of their own."""
        now_ns = self.time.monotonic_ns()
        for lane in self._lanes[1:]:
            freed = lane.leave_hanging(now_ns)
            if freed:
                _log.warning("%s does not answer; the other GPUs go on without it", lane.probes[0].identity.device)
                successor = Lane(f"gpu-{len(self._lanes)}", freed, self.time, lane.grid)
                successor.begin(lane.grid, lane.next_tick)
                self._lanes.append(successor)
                self._start_thread(successor)

    def stop(self) -> None:
        """Ends the threads; one that hangs in a driver call is left behind after 2 s (it is a daemon thread)."""
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
            for one in sorted(taken, key=lambda one: one.due_ns):
                self._make_rows_of(one)
        finally:
            self._making_rows.release()

    def _make_rows_of(self, one: Taken) -> None:
        probe, tick, due_ns = one.probe, one.tick, one.due_ns
        if one.error is not None:
            self._record_error(one, one.error, one.failed_ns or due_ns)
        elif one.failed_ns is not None:
            if probe.on_grid:
                late_ns = one.failed_ns - due_ns
                self._record(self._row(probe.identity, tick, due_ns, late_ns, missed=True, null_reason=TICK_MISSED))
        else:
            self._record_looks(one)

    def _record_looks(self, one: Taken) -> None:
        probe = one.probe
        try:
            look = probe.look(one.shown)
        except Exception as error:  # noqa: BLE001 - a border: one broken device must not end the trace of the others
            self._record_error(one, error, one.due_ns)
            return
        for seen in (*look.earlier, look) if look is not None else ():
            late_ns = seen.t_ns - one.due_ns if probe.on_grid else 0
            self._record(self._row(probe.identity, one.tick, seen.t_ns, late_ns, missed=False, **seen.columns))

    def _record_error(self, one: Taken, error: Exception, t_ns: int) -> None:
        _log.warning("sampling %s failed: %r", one.probe.identity.device, error)
        reason = f"sampler_error_{type(error).__name__}"
        self._record(self._row(one.probe.identity, one.tick, t_ns, t_ns - one.due_ns, missed=False, null_reason=reason))

    def _row(
        self, identity: Identity, tick: int, t_ns: int, lateness_ns: int, *, missed: bool, **columns: Any
    ) -> Sample:
        return Sample(
            t_mono_ns=t_ns,
            t_utc_ns=t_ns + self._utc_offset_ns,
            boot_id=self.boot_id,
            tick=tick,
            lateness_ns=lateness_ns,
            missed=missed,
            source=identity.source,
            device=identity.device,
            scope=identity.scope,
            **columns,
        )

    def _record(self, row: Sample) -> None:
        self._latest[row.device] = row
        self._retention.append(row)
