"""The background of one attempt as the attempt sees it: started at once, waited for, watched, ended, and described.

It starts no process itself: `launch` does, and the background's own task keeps it going. It judges nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from profiler.background import BackgroundJob, BackgroundStart, BackgroundWatch
from profiler.busy import Busy, cpu_share, gpu_share, measure_busy, tree_cpu_s
from profiler.cooling import Clocks
from profiler.gpu_activity import ActivityWindow
from profiler.gpu_processes import GpuPresence
from profiler.planned import Background
from profiler.process.enclosure import Enclosure, is_in

END_TIMEOUT_S = 30.0
ACTIVITY_S = 1.0


class BackgroundTask(Protocol):
    """A running background as the attempt sees it."""

    def alive(self) -> bool: ...
    def wait(self, timeout_s: float) -> None:
        """Return when the task has ended; raise TimeoutError after `timeout_s`."""


class PartnerTrace(Protocol):
    """What the node knows of processes on its GPUs; times are CLOCK_MONOTONIC in ns."""

    def gpu_processes(self, t0_ns: int, t1_ns: int) -> Sequence[GpuPresence]: ...
    def gpu_activity(self, gpu_uuid: str, t0_ns: int, t1_ns: int) -> ActivityWindow: ...


Launch = Callable[[BackgroundJob], BackgroundTask]


@dataclass(frozen=True)
class BackgroundFacts:
    """What became of the background. `gpu_uuid` is the device that its own task found; `ended_early`: it was not there
    any more when the foreground ended; `on_gpu`: seen there during the run (None: no GPU to be seen on). `busy` is
    None where nothing was trained beside it."""

    starts: tuple[BackgroundStart, ...]
    gpu_uuid: str | None
    ready: bool
    ended_early: bool
    log_directory: str
    busy: Busy | None = None
    on_gpu: bool | None = None
    out_of_memory: Mapping[int, str] = field(default_factory=dict)
    """Number of a start that failed for lack of memory -> its words."""
    data_missing: Mapping[int, str] = field(default_factory=dict)
    """Number of a start that did not find its data -> its words."""
    no_copy: str | None = None
    """Why its clone could not be copied."""

    def holds(self, process: Mapping[str, Any]) -> bool:
        """Whether `process`, a row of the table `processes`, is one of its own."""
        return any(start.holds(process) for start in self.starts)


class Partner:
    """One background, on the GPU of its job if it uses one. `activity_told_apart`: the driver tells which process keeps
    it busy; under MPS it says so of the server, and of the partners at most that they are there."""

    def __init__(
        self,
        job: BackgroundJob,
        launch: Launch,
        trace: PartnerTrace,
        stack: ExitStack,
        activity_told_apart: bool,
    ) -> None:
        self._job = job
        self._trace = trace
        self._gpu_uuid = job.job.gpu_uuid
        self._activity_told_apart = activity_told_apart
        self._watch = stack.enter_context(BackgroundWatch(job.files, job.job.model.ready_pattern))
        self._task = launch(job)
        self._cpu_from: tuple[int, float | None] = (0, None)
        self.ready = False

    def wait_ready(self, planned: Background) -> None:
        """Until the background's first optimiser step, or for the fixed time where the config gives one."""
        if planned.startup_wait_seconds is None:
            timeout_s = planned.startup_timeout_seconds
            self.ready = self._watch.wait_ready(timeout_s, self._task.alive, self._works_on_gpu)
            return
        Clocks().pause(planned.startup_wait_seconds)
        self.ready = self._task.alive()

    def begin(self) -> None:
        """The foreground is about to start."""
        self._cpu_from = time.monotonic_ns(), self._cpu_s()

    def end(self, window_ns: tuple[int, int] | None, foreground: Enclosure | None) -> BackgroundFacts:
        """Look at what it did in the foreground's window (None: there was none), stop it, and return when nothing of
        it is left. `foreground`: where the foreground's processes lived."""
        ended_early = not self._task.alive()
        cpu = None if window_ns is None else self._cpu_share()
        on_gpu, gpu = (None, None) if window_ns is None else self._gpu_share(*window_ns, foreground)
        if on_gpu is not None and self._activity_told_apart:
            cpu = None  # it may wait for its GPU without any CPU, also where a short window shows nothing of that
        self._watch.end_lease()
        self._task.wait(END_TIMEOUT_S)
        starts = tuple(self._watch.starts())
        busy = None
        if window_ns is not None:
            trainings = [training for start in starts for training in start.trainings]
            busy = measure_busy(trainings, window_ns, cpu, gpu, tells=self._watch.tells_of_itself(starts))
        return BackgroundFacts(
            starts,
            self._watch.gpu_uuid(),
            self.ready,
            ended_early,
            str(self._watch.files.logs),
            busy,
            on_gpu,
            self._watch.out_of_memory(starts),
            self._watch.data_missing(starts),
            self._watch.no_copy(),
        )

    def _cpu_share(self) -> float | None:
        since_ns, before_s = self._cpu_from
        now_ns, after_s = time.monotonic_ns(), self._cpu_s()
        used_s = None if before_s is None or after_s is None else max(0.0, after_s - before_s)
        return cpu_share(used_s, (now_ns - since_ns) / 1e9, self._job.cpus)

    def _cpu_s(self) -> float | None:
        """CPU seconds of all its processes so far: of those that ended as their keepers reported, of the others now."""
        starts = self._watch.starts()
        ended = [start.cpu_s for start in starts if start.t1_ns is not None]
        running = [start.enclosure for start in starts if start.t1_ns is None]
        if any(seconds is None for seconds in ended) or None in running:
            return None
        return sum(seconds or 0.0 for seconds in ended) + (tree_cpu_s(running) or 0.0)

    def _pids(self, t0_ns: int, t1_ns: int) -> set[int] | None:
        """Its processes as the driver shows them; None where containment leaves nothing to know them by."""
        starts = [start for start in self._watch.starts() if start.enclosure is not None]
        if not starts:
            return None
        return {row["pid"] for row in self._seen(t0_ns, t1_ns) if any(start.holds(row) for start in starts)}

    def _seen(self, t0_ns: int, t1_ns: int) -> list[dict[str, Any]]:
        return [vars(one) for one in self._trace.gpu_processes(t0_ns, t1_ns) if one.gpu_uuid == self._gpu_uuid]

    def _gpu_share(self, t0_ns: int, t1_ns: int, foreground: Enclosure | None) -> tuple[bool | None, float | None]:
        """Whether it was seen on the GPU within the window, and for what share it worked there."""
        if self._gpu_uuid is None:
            return None, None
        pids = self._pids(t0_ns, t1_ns)
        if pids is None:
            return None, None
        if not self._activity_told_apart:
            # Not every driver lists the clients of MPS: one that shows neither partner proves nothing.
            beside = foreground is not None and any(is_in(row, foreground) for row in self._seen(t0_ns, t1_ns))
            listed = pids or beside
            return (bool(pids) if listed else None), None
        activity = self._trace.gpu_activity(self._gpu_uuid, t0_ns, t1_ns)
        return bool(pids), gpu_share(activity, pids, t0_ns, t1_ns)

    def _works_on_gpu(self) -> bool:
        if self._gpu_uuid is None:
            return False
        now_ns = time.monotonic_ns()
        since_ns = now_ns - round(ACTIVITY_S * 1e9)
        seen = self._trace.gpu_activity(self._gpu_uuid, since_ns, now_ns).activities
        pids = self._pids(since_ns, now_ns) or set()
        return any(item.pid in pids and item.sm_percent > 0 for item in seen)
