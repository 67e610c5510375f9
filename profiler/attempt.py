"""One attempt of one run, left to right: gate, background, boundary, trainer, boundary, verdict, cooling.

A generator: it yields progress as it goes and the finished row before cooling, so that a kill during cooling loses
nothing. It knows no Ray: the sampler and the launch of the background come in as arguments.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from profiler import cpu_use, host
from profiler.assessment import Execution, assess
from profiler.background import BackgroundFiles, BackgroundJob, BackgroundWatch
from profiler.config import Cooling
from profiler.cooling import CoolingGpu, CoolingResult, IdleMark, cool_until_idle, rest, settle
from profiler.energy.sample import Sample
from profiler.energy.sources import Sources, discover
from profiler.gate import Check, check_boot, check_disk, check_gpu, check_sources, wait_until_clear
from profiler.gpu_processes import GpuPresence
from profiler.planner import Background, PlannedRun
from profiler.process.contained import start
from profiler.record import BackgroundFacts, NodeFacts, Steps
from profiler.store.layout import SessionFolder
from profiler.store.write import archive_attempt
from profiler.trainer import TrainerFiles, TrainerJob, trainer_command
from profiler.workloads import ModelSpec

BACKGROUND_END_TIMEOUT_S = 30.0
DISK_NEEDED_MIB = 100.0


class Trace(Protocol):
    """The node's sampler as the attempt sees it. Times are CLOCK_MONOTONIC in ns."""

    def hold(self, t0_ns: int) -> int: ...
    def release(self, token: int) -> None: ...
    def window(self, t0_ns: int, t1_ns: int) -> Sequence[Sample]: ...
    def gpu_processes(self, t0_ns: int, t1_ns: int) -> Sequence[GpuPresence]: ...
    def idle_mark(self, gpu_uuid: str) -> IdleMark | None: ...
    def keep_idle_mark(self, gpu_uuid: str, mark: IdleMark) -> None: ...


class BackgroundTask(Protocol):
    """A running background as the attempt sees it."""

    def alive(self) -> bool: ...
    def wait(self, timeout_s: float) -> None:
        """Return when the task has ended; raise TimeoutError after `timeout_s`."""


@dataclass(frozen=True)
class GateLimits:
    """What the gate asks for. `idle_memory_mib`: used memory of each GPU (by UUID) when nobody was on it; `boot_id`: of
    the node when the campaign looked at it; `counters`: CPU energy counters that were alive then; `gpu_counters`: that
    of each GPU, by UUID. A run needs the one of its own GPU only."""

    max_wait_seconds: float
    memory_margin_mib: float
    temperature_c: float | None
    idle_memory_mib: Mapping[str, float]
    boot_id: str
    counters: tuple[str, ...]
    gpu_counters: Mapping[str, str]

    def expected_counters(self, gpu_uuid: str | None) -> list[str]:
        """Names of the counters that a run on this GPU needs."""
        own = None if gpu_uuid is None else self.gpu_counters.get(gpu_uuid)
        return [*self.counters, *([] if own is None else [own])]


@dataclass(frozen=True)
class AttemptSpec:
    """Everything a node needs to execute one attempt.

    Args:
        seed: the campaign's.
        threads / background_threads: CPU threads of both partners.
        environment: the driver's environment without Ray's variables.
        watch_pids: processes on this node whose end must end the run (raylet; the driver when local).
        thresholds: limits of the verdict that the config changed (reason -> limit).
        cooling: how the node rests afterwards: its `seconds`, or until its GPU is idle.
    """

    session_root: str
    run_id: str
    attempt: int
    seed: int
    planned: PlannedRun
    foreground: ModelSpec
    background: ModelSpec | None
    threads: int
    background_threads: int
    environment: Mapping[str, str]
    watch_pids: tuple[int, ...]
    gate: GateLimits
    sampling_rate_hz: float
    allow_uncontained: bool
    thresholds: Mapping[str, float]
    cooling: Cooling

    @property
    def folder(self) -> SessionFolder:
        return SessionFolder(Path(self.session_root))

    @property
    def work(self) -> Path:
        return self.folder.work_dir(self.run_id, self.attempt)

    @property
    def control(self) -> Path:
        """Lease, background and other files of ours."""
        return self.folder.control_dir(self.run_id, self.attempt)

    def labels(self, role: str) -> dict[str, str]:
        """What the keeper shows in its command line."""
        session = self.folder.session_id
        return {"session": session, "run": self.run_id, "attempt": str(self.attempt), "role": role}


Progress = dict[str, Any]
Launch = Callable[[BackgroundJob], BackgroundTask]


def run_attempt(spec: AttemptSpec, node: NodeFacts, trace: Trace, launch: Launch) -> Iterator[Progress]:
    """Execute `spec`; yields ``{"kind": "step"}``, one ``{"kind": "result"}``, then ``{"kind": "cooled"}``; or
    ``{"kind": "gate_closed"}`` and nothing more, when the gate did not open in time.

    Raises ContainmentError when nothing could be started.
    """
    steps = _StepClock()
    with ExitStack() as stack:
        yield steps.enter("gate")
        # Whether a counter moves at all was found out when the campaign looked at the node.
        sources = stack.enter_context(discover(probe_s=0))
        checks = gate_checks(spec, node, sources)
        gate = wait_until_clear(checks, max_wait_seconds=0)
        if not gate.clear:
            yield {"kind": "waiting", "problems": [problem.detail for problem in gate.problems]}
            gate = wait_until_clear(checks, spec.gate.max_wait_seconds)
        if not gate.clear:
            yield {"kind": "gate_closed", "problems": [problem.detail for problem in gate.problems]}
            return
        mark = yield from _idle_mark(spec, node, trace, steps)
        files = prepare_files(spec)
        stack.callback(trace.release, trace.hold(time.monotonic_ns()))

        background = None
        if spec.background is not None and spec.planned.background is not None:
            yield steps.enter("background")
            background = _Partner(spec, spec.background, spec.planned.background, node, launch, stack)
            background.wait_ready()

        execution = None
        if background is None or background.ready:
            yield steps.enter("training")
            execution = _train(spec, node, files, sources)
        yield steps.enter("stopping")
        partner = background.end() if background else None
        assessment = assess(spec, node, trace, sources, files, execution, partner)
        row = {**assessment.row, **steps.finish().columns(node), "gate_wait_s": gate.waited_s}
        yield {**vars(assessment), "kind": "result", "row": row}
        _clean(spec, row["valid"])

        yield steps.enter("cooling", spec.cooling.max_seconds if mark else spec.cooling.seconds)
        yield {"kind": "cooled", **vars(_cool(spec.cooling, node, trace, mark))}


def gate_checks(spec: AttemptSpec, node: NodeFacts, sources: Sources) -> list[Check]:
    """Everything that must hold right before this attempt. Nothing of ours may be on the GPU yet."""
    limits = spec.gate
    checks: list[Check] = [
        lambda: check_boot(limits.boot_id, node.boot_id),
        lambda: check_disk(spec.folder.root, DISK_NEEDED_MIB),
        lambda: check_sources(sources.boundary(node.gpu_uuid).readings, limits.expected_counters(node.gpu_uuid)),
    ]
    device = next((gpu for gpu in sources.gpus if gpu.uuid == node.gpu_uuid), None)
    if device is not None:
        idle_mib = limits.idle_memory_mib.get(device.uuid)
        checks.append(lambda: check_gpu(device, (), idle_mib, limits.memory_margin_mib, limits.temperature_c))
    return checks


def _idle_mark(
    spec: AttemptSpec, node: NodeFacts, trace: Trace, steps: _StepClock
) -> Generator[Progress, None, IdleMark | None]:
    """What this GPU was like before the campaign's first run on it, found out now if this is the first; None where
    nothing is to come back to it."""
    if spec.cooling.until is None or node.gpu_uuid is None:
        return None
    mark = trace.idle_mark(node.gpu_uuid)
    if mark is None:
        yield steps.enter("settling", spec.cooling.max_seconds)
        mark = settle(CoolingGpu(node.gpu_uuid, trace), spec.cooling.max_seconds)
        trace.keep_idle_mark(node.gpu_uuid, mark)
    return mark


def _cool(cooling: Cooling, node: NodeFacts, trace: Trace, mark: IdleMark | None) -> CoolingResult:
    if mark is None or node.gpu_uuid is None:
        return rest(cooling.seconds or 0.0, node.gpu_uuid, trace)
    gpu = CoolingGpu(node.gpu_uuid, trace)
    return cool_until_idle(gpu, mark, cooling.temperature_margin_c, cooling.max_seconds)


def prepare_files(spec: AttemptSpec) -> TrainerFiles:
    """Make the work directory, and move what an earlier attempt left in the run's folder out of the way."""
    folder, experiment_id = spec.folder, spec.planned.experiment_id
    for leftover in (spec.work, spec.control):
        shutil.rmtree(leftover, ignore_errors=True)
    archive_attempt(folder, experiment_id, spec.attempt - 1)
    files = TrainerFiles(spec.work, folder.events(experiment_id), folder.training_log(experiment_id))
    files.prepare()
    return files


class _StepClock:
    """Times the steps of the attempt and makes their progress messages."""

    def __init__(self) -> None:
        self._steps = Steps()
        self._name: str | None = None
        self._since_ns = 0

    def enter(self, name: str, seconds: float | None = None) -> Progress:
        self.finish()
        self._name, self._since_ns = name, time.monotonic_ns()
        return {"kind": "step", "step": name, "seconds": seconds}

    def finish(self) -> Steps:
        if self._name is not None:
            self._steps.add(self._name, self._since_ns, time.monotonic_ns())
            self._name = None
        return self._steps


class _Partner:
    """The background of a pair during one attempt: started at once, ended by `end` or by the stack."""

    def __init__(
        self,
        spec: AttemptSpec,
        model: ModelSpec,
        planned: Background,
        node: NodeFacts,
        launch: Launch,
        stack: ExitStack,
    ) -> None:
        folder = spec.folder
        files = BackgroundFiles(spec.control / "background", folder.background_logs(spec.planned.experiment_id))
        self._planned = planned
        self._watch = stack.enter_context(BackgroundWatch(files))
        self._task = launch(
            BackgroundJob(
                job=_job(model, planned, spec.background_threads, node.gpu_uuid),
                files=files,
                run_id=spec.run_id,
                labels=spec.labels("background"),
                environment=spec.environment,
                watch_pids=(os.getpid(), *spec.watch_pids),
                allow_uncontained=spec.allow_uncontained,
            )
        )
        self.ready = False

    def wait_ready(self) -> None:
        """Until the background's first optimiser step, or the fixed time where the config gives one."""
        if self._planned.startup_wait_seconds is None:
            self.ready = self._watch.wait_ready(self._planned.startup_timeout_seconds, self._task.alive)
            return
        _sleep(self._planned.startup_wait_seconds)
        self.ready = self._task.alive()

    def end(self) -> BackgroundFacts:
        """Stop it and return when nothing of it is left."""
        ended_early = not self._task.alive()
        self._watch.end_lease()
        self._task.wait(BACKGROUND_END_TIMEOUT_S)
        logs = str(self._watch.files.logs)
        return BackgroundFacts(tuple(self._watch.starts()), self._watch.gpu_uuid(), self.ready, ended_early, logs)


def _sleep(seconds: float) -> None:
    """Sleep in short pieces: a cancelled Ray task is interrupted only between them."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))


def _job(model: ModelSpec, planned: PlannedRun | Background, threads: int, gpu_uuid: str | None) -> TrainerJob:
    return TrainerJob(
        model=model,
        hyperparameters=planned.hyperparameters,
        threads=threads,
        timeout_s=planned.timeout_seconds,
        data_root=planned.data,
        gpu_uuid=gpu_uuid if model.uses_gpu else None,
    )


def _train(spec: AttemptSpec, node: NodeFacts, files: TrainerFiles, sources: Sources) -> Execution:
    """Prepare the keeper, read the counters, let it start the trainer, wait, read the counters."""
    job = _job(spec.foreground, spec.planned, spec.threads, node.gpu_uuid)
    command = trainer_command(
        job, files, run_id=spec.run_id, labels=spec.labels("foreground"), environment=spec.environment
    )
    with start(command, watch_pids=spec.watch_pids, allow_uncontained=spec.allow_uncontained) as process:
        oom_kills = host.oom_kills() or 0
        spec.control.mkdir(exist_ok=True)
        spec.folder.released(spec.run_id, spec.attempt).touch()
        used, since_ns = cpu_use.look(), time.monotonic_ns()
        before = sources.boundary(node.gpu_uuid, edge="start")
        process.release()
        report = process.wait(None)
        after = sources.boundary(node.gpu_uuid, edge="end")
        contention = cpu_use.contention(
            used,
            cpu_use.look(),
            (os.getpid(), *spec.watch_pids),
            spec.threads + spec.background_threads,
            (since_ns, time.monotonic_ns()),
        )
    assert report is not None
    oom_kills = (host.oom_kills() or 0) - oom_kills
    return Execution(
        report, process.containment, process.namespace_inode, command.argv, before, after, oom_kills, contention
    )


def _clean(spec: AttemptSpec, valid: bool) -> None:
    """After success nothing of the work directory is needed; after a failure it is evidence."""
    if valid:
        shutil.rmtree(spec.work, ignore_errors=True)
        shutil.rmtree(spec.control, ignore_errors=True)
