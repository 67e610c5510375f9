"""The sampler: looks at every source on an absolute grid, from threads of its own, and keeps the rows.

One thread reads the node and the CPU counters, another one the GPUs, so that a blocked driver call never delays the
CPU's grid. A GPU whose call hangs is left alone with that thread, and the others go on in a new one: a thread for each
GPU from the start would cost five times the CPU. It decides nothing about energy (account) and stores nothing (store).
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from profiler.energy import grid, priority
from profiler.energy.grid import SECOND_NS, Grid
from profiler.energy.power_buffer import BufferProbe
from profiler.energy.probes import CounterProbe, GpuProbe, Identity, NodeProbe, Probe
from profiler.energy.retention import KEEP_S, Retention
from profiler.energy.sample import TICK_MISSED, Sample
from profiler.energy.sources import Sources

__all__ = ["Sample", "Sampler", "SystemTime", "Time"]

_log = logging.getLogger(__name__)

COUNTER_PERIOD_S: Final = 1.0
FIRST_TICK_TIMEOUT_S: Final = 5.0
STOP_TIMEOUT_S: Final = 2.0
# A process stopped for hours would otherwise write millions of rows when it goes on; the gap shows all the same.
MAX_MISSED_ROWS: Final = 36_000
# A call that takes longer than this, and than two ticks, hangs. NVML's slowest healthy call was seen to take 21 ms.
HANG_NS: Final = 100_000_000
# The GPUs' ticks are due a little after the CPU's: two threads that wake together fight over the interpreter's lock.
GPU_OFFSET_NS: Final = 5_000_000


class Time(Protocol):
    """The clocks of the sampler, in ns."""

    def monotonic_ns(self) -> int: ...

    def utc_ns(self) -> int: ...

    def wait_until(self, t_ns: int, stop: threading.Event) -> bool:
        """Returns True at `t_ns`, or False as soon as `stop` is set."""


class SystemTime:
    """The kernel's clocks."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def utc_ns(self) -> int:
        return time.time_ns()

    def wait_until(self, t_ns: int, stop: threading.Event) -> bool:
        while (left_ns := t_ns - time.monotonic_ns()) > 0:
            if stop.wait(left_ns / SECOND_NS):
                return False
        return not stop.is_set()


class _Lane:
    """Some probes on one thread, and the next tick they are due for."""

    def __init__(self, name: str, probes: Sequence[Probe], sampler: Sampler) -> None:
        self.name = name
        self.probes = tuple(probes)
        self.next_tick = 0
        self.priority: priority.Priority = "normal"
        self.ticked = threading.Event()
        self.looking_at: tuple[Probe, int] | None = None
        self._sampler = sampler

    def run(self, stopping: threading.Event) -> None:
        """The thread: tick until `stopping` is set."""
        self.priority = priority.raise_own()
        sampler = self._sampler
        own_grid = sampler.grid_of(self)
        while sampler.time.wait_until(own_grid.due_ns(self.next_tick), stopping):
            self.tick(own_grid)
            self.ticked.set()
            sampler.free_lanes(self)

    def tick(self, own_grid: Grid) -> None:
        """Reads every probe for the tick that is current, after a row for each tick that passed unread."""
        sampler = self._sampler
        now_ns = sampler.time.monotonic_ns()
        current = max(self.next_tick, own_grid.tick_at(now_ns))
        for tick in range(max(self.next_tick, current - MAX_MISSED_ROWS), current):
            for probe in self.probes:
                sampler.record_missed(probe, tick, own_grid.due_ns(tick), now_ns)
        self.next_tick = current + 1
        for probe in self.probes:
            # While one hung, the others may have been given to another lane.
            if probe in self.probes:
                self.looking_at = (probe, sampler.time.monotonic_ns())
                sampler.record_look(probe, current, own_grid.due_ns(current))
        self.looking_at = None

    def leave_hanging(self, now_ns: int) -> Sequence[Probe]:
        """When a look hangs: keeps that probe, gives up the others and returns them; else returns nothing.

        Those that were still to come have missed the tick."""
        looking_at = self.looking_at
        sampler = self._sampler
        limit_ns = max(HANG_NS, 2 * sampler.grid.period_ns)
        if looking_at is None or len(self.probes) == 1 or now_ns - looking_at[1] < limit_ns:
            return ()
        hanging = looking_at[0]
        place = self.probes.index(hanging)
        others = (*self.probes[:place], *self.probes[place + 1 :])
        self.probes = (hanging,)
        missed = self.next_tick - 1
        for probe in others[place:]:
            sampler.record_missed(probe, missed, sampler.grid_of(self).due_ns(missed), now_ns)
        return others


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
        node_probe: Probe | None = None,
    ) -> None:
        self.time: Time = time or SystemTime()
        self.node_id = node_id
        self.boot_id = boot_id
        self.rate_hz = rate_hz
        self._stopping = threading.Event()
        self._retention = Retention(keep_s)
        self._latest: dict[str, Sample] = {}
        self._threads: list[threading.Thread] = []
        self._rate = grid.rate(rate_hz)
        self.grid = Grid(self.time.monotonic_ns(), self._rate)
        self._utc_offset_ns = self.time.utc_ns() - self.grid.start_ns
        cpu: list[Probe] = [node_probe or NodeProbe(), *(CounterProbe(counter) for counter in sources.counters)]
        every = max(1, round(rate_hz * COUNTER_PERIOD_S))
        gpus: list[Probe] = [
            GpuProbe(gpu, sources.gpu_counters.get(gpu.uuid), every, turn=number)
            for number, gpu in enumerate(sources.gpus)
        ]
        gpus += [BufferProbe(gpu, every, turn=number + every // 2) for number, gpu in enumerate(sources.gpus)]
        self._lanes = [_Lane("cpu", cpu, self)]
        if gpus:
            self._lanes.append(_Lane("gpu", gpus, self))

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def grid_of(self, lane: _Lane) -> Grid:
        """The lane's own grid: the CPU's is the sampler's, that of the GPUs is a little later."""
        if lane is self._lanes[0]:
            return self.grid
        return replace(self.grid, start_ns=self.grid.start_ns + min(GPU_OFFSET_NS, self.grid.period_ns // 2))

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
        for lane in self._lanes:
            lane.next_tick = first
            lane.ticked.clear()
        self._threads = []
        for lane in self._lanes:
            self._start_thread(lane)
        self._lanes[0].ticked.wait(FIRST_TICK_TIMEOUT_S)

    def _start_thread(self, lane: _Lane) -> None:
        thread = threading.Thread(target=lane.run, args=(self._stopping,), name=f"sampler-{lane.name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def free_lanes(self, caller: _Lane) -> None:
        """Gives the probes that wait behind a hanging one a thread of their own. The CPU's lane sees to it."""
        if caller is not self._lanes[0]:
            return
        now_ns = self.time.monotonic_ns()
        for lane in self._lanes[1:]:
            freed = lane.leave_hanging(now_ns)
            if freed:
                _log.warning("%s does not answer; the other GPUs go on without it", lane.probes[0].identity.device)
                successor = _Lane(f"gpu-{len(self._lanes)}", freed, self)
                successor.next_tick = lane.next_tick
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
        grids = [self.grid_of(lane) for lane in self._lanes]
        queue = [(grids[number].due_ns(lane.next_tick), number) for number, lane in enumerate(self._lanes)]
        heapq.heapify(queue)
        while queue and queue[0][0] <= until_ns:
            due_ns, number = heapq.heappop(queue)
            if not self.time.wait_until(due_ns, self._stopping):
                return
            lane = self._lanes[number]
            lane.tick(grids[number])
            heapq.heappush(queue, (grids[number].due_ns(lane.next_tick), number))

    def latest(self) -> dict[str, Sample]:
        """The last row of each device: "node", a counter's device, a GPU's UUID."""
        return dict(self._latest)

    def rows(self, since_seq: int) -> tuple[list[Sample], int]:
        """Rows since number `since_seq` (0 at first) in the order they came, and the number for the next call."""
        return self._retention.rows(since_seq)

    def window(self, t0_ns: int, t1_ns: int, margin_ticks: int = 2) -> list[Sample]:
        """Rows of [t0_ns, t1_ns] by time, and `margin_ticks` more on each side, which edges are interpolated from."""
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

    def record_missed(self, probe: Probe, tick: int, due_ns: int, noticed_ns: int) -> None:
        if probe.on_grid:
            late_ns = noticed_ns - due_ns
            self._record(self._row(probe.identity, tick, due_ns, late_ns, missed=True, null_reason=TICK_MISSED))

    def record_look(self, probe: Probe, tick: int, due_ns: int) -> None:
        try:
            look = probe.look(tick, self.time.monotonic_ns)
        except Exception as error:  # noqa: BLE001 - a border: one broken device must not end the trace of the others
            _log.warning("sampling %s failed: %r", probe.identity.device, error)
            now_ns = self.time.monotonic_ns()
            reason = f"sampler_error_{type(error).__name__}"
            self._record(self._row(probe.identity, tick, now_ns, now_ns - due_ns, missed=False, null_reason=reason))
            return
        for one in (*look.earlier, look) if look is not None else ():
            late_ns = one.t_ns - due_ns if probe.on_grid else 0
            self._record(self._row(probe.identity, tick, one.t_ns, late_ns, missed=False, **one.columns))

    def _row(
        self, identity: Identity, tick: int, t_ns: int, lateness_ns: int, *, missed: bool, **columns: object
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
            **columns,  # type: ignore[arg-type]
        )

    def _record(self, row: Sample) -> None:
        self._latest[row.device] = row
        self._retention.append(row)
