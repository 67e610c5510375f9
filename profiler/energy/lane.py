"""Some probes on one thread: reads them on the ticks of a grid and hands over what they showed. It makes no rows.

A thread that sleeps most of the time finds its caches cold whenever it wakes, so a tick does as little as can be. A
probe whose call hangs keeps the thread; the others are given up to another lane.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

from profiler.energy import priority
from profiler.energy.grid import SECOND_NS, Grid
from profiler.energy.probes import Probe

# A process stopped for hours would otherwise write millions of rows when it goes on; the gap shows all the same.
MAX_MISSED_ROWS: Final = 36_000
# A call that takes longer than this, and than two ticks, hangs. NVML's slowest healthy call was seen to take 21 ms.
HANG_NS: Final = 100_000_000
LONGEST_SLEEP_NS: Final = 250_000_000  # so long may stopping take where the ticks are far apart


class Time(Protocol):
    """The clocks of the sampler, in ns."""

    def monotonic_ns(self) -> int: ...

    def utc_ns(self) -> int: ...

    def wait_until(self, t_ns: int, stop: threading.Event) -> bool:
        """Returns True at `t_ns`, or False as soon as `stop` is set."""


class SystemTime:
    """The kernel's clocks."""

    monotonic_ns = staticmethod(time.monotonic_ns)
    utc_ns = staticmethod(time.time_ns)

    def wait_until(self, t_ns: int, stop: threading.Event) -> bool:
        """Sleeps, and looks at `stop` in between: waiting for an event takes twice the CPU time of a sleep."""
        left_ns = LONGEST_SLEEP_NS + 1
        while left_ns > LONGEST_SLEEP_NS:
            left_ns = t_ns - time.monotonic_ns()
            if left_ns > 0:
                time.sleep(min(left_ns, LONGEST_SLEEP_NS) / SECOND_NS)
            if stop.is_set():
                return False
        return True


class Taken(NamedTuple):
    """What a probe showed at a tick that was due at `due_ns`. Where nothing: the `error` it raised, or None for a tick
    that nobody read, and `failed_ns`, when that was noticed."""

    probe: Probe[Any]
    tick: int
    due_ns: int
    shown: Any
    error: Exception | None = None
    failed_ns: int | None = None


class Lane:
    """Probes and their grid; `next_tick` is due at `due_ns`."""

    def __init__(self, name: str, probes: Sequence[Probe[Any]], clocks: Time, grid: Grid) -> None:
        self.name = name
        self.probes = tuple(probes)
        self.priority: priority.Priority = "normal"
        self.reading: tuple[Probe[Any], int] | None = None
        self._clocks = clocks
        self._sharing = threading.Lock()  # over who reads what from which tick on
        self._taken: deque[tuple[Any, ...]] = deque()  # the fields of Taken: to make one takes time
        self.begin(grid, 0)

    def begin(self, grid: Grid, tick: int) -> None:
        """The next tick is number `tick` of `grid`."""
        self.grid, self.next_tick, self.due_ns = grid, tick, grid.due_ns(tick)

    def tick(self) -> None:
        """Reads every probe for the tick that is current, and notes each tick that passed unread."""
        clock_ns = self._clocks.monotonic_ns
        with self._sharing:
            probes, current = self.probes, self.next_tick
            due_ns, following_ns = self.due_ns, self.grid.due_ns(current + 1)
            if (now_ns := clock_ns()) >= following_ns:
                current = self.grid.tick_at(now_ns)
                self._note_missed(current, now_ns)
                due_ns, following_ns = self.grid.due_ns(current), self.grid.due_ns(current + 1)
            self.next_tick, self.due_ns = current + 1, following_ns
        for probe in probes:
            # While one hung, the others may have been given to another lane.
            if probe not in self.probes:
                continue
            self.reading = (probe, clock_ns())
            try:
                shown = probe.read(clock_ns)
            except Exception as error:  # noqa: BLE001 - a border: one broken device must not end the trace of the others
                self._taken.append(Taken(probe, current, due_ns, None, error, clock_ns()))
                continue
            if shown is not None:
                self._taken.append((probe, current, due_ns, shown))
        self.reading = None

    def _note_missed(self, current: int, now_ns: int) -> None:
        for tick in range(max(self.next_tick, current - MAX_MISSED_ROWS), current):
            for probe in self.probes:
                self._taken.append(Taken(probe, tick, self.grid.due_ns(tick), None, failed_ns=now_ns))

    def split_overdue(self, number: int, name: str, now_ns: int) -> Lane | None:
        """When a tick is due, and a probe behind the first `number` still keeps the thread: gives those, read for the
        tick before, to a new lane; else None."""
        with self._sharing:
            reading = self.reading
            if reading is None or now_ns < self.due_ns or reading[0] in self.probes[:number]:
                return None
            return self.split(number, name)

    def split(self, number: int, name: str) -> Lane:
        """Gives the first `number` probes to a new lane, while nobody begins a tick."""
        first, self.probes = self.probes[:number], self.probes[number:]
        return self._successor(name, first)

    def leave_hanging(self, name: str, now_ns: int) -> Lane | None:
        """When a probe hangs: keeps it, and gives the others to a new lane; else None.

        Those that were still to come have missed the tick."""
        limit_ns = max(HANG_NS, 2 * self.grid.period_ns)
        with self._sharing:
            reading = self.reading
            if reading is None or len(self.probes) == 1 or now_ns - reading[1] < limit_ns:
                return None
            place = self.probes.index(reading[0])
            others = (*self.probes[:place], *self.probes[place + 1 :])
            self.probes = (reading[0],)
            missed = self.next_tick - 1
            for probe in others[place:]:
                self._taken.append(Taken(probe, missed, self.grid.due_ns(missed), None, failed_ns=now_ns))
            return self._successor(name, others)

    def _successor(self, name: str, probes: Sequence[Probe[Any]]) -> Lane:
        lane = Lane(name, probes, self._clocks, self.grid)
        lane.begin(self.grid, self.next_tick)
        return lane

    def take(self) -> Iterator[Taken]:
        """Everything that was read since the last call, in order. While the lane goes on."""
        while self._taken:
            yield Taken(*self._taken.popleft())
