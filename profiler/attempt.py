"""One attempt of one run, left to right: gate, background, boundary, trainer, boundary, verdict, cooling.

A generator: it yields progress as it goes and the finished row before cooling, so that a kill during cooling loses
nothing. It knows no Ray: the sampler and the launch of the background come in as arguments.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from profiler import cpu_use, host, spool
from profiler.assessment import assess, assess_untrained
from profiler.background import BackgroundFiles, BackgroundJob
from profiler.checkouts import CopyError
from profiler.config import Cooling
from profiler.cooling import IdleMark
from profiler.energy.attribution import Role, SoloPower
from profiler.energy.sample import Sample
from profiler.energy.sources import Sources, discover
from profiler.errors import CannotRunError
from profiler.evidence import LOOK_BACK_NS, gather
from profiler.execution import Execution
from profiler.gate import Check, GateResult, check_boot, check_disk, wait_until_clear
from profiler.gpu_activity import ActivityWindow
from profiler.gpu_processes import GpuPresence
from profiler.interrupts import Interrupts
from profiler.mps import MpsServer, mps_server
from profiler.partner import Launch, Partner
from profiler.planner import Background, PlannedRun
from profiler.process.launch import start
from profiler.reach import Endpoint
from profiler.record import NodeFacts, Steps
from profiler.run_gpus import cool, gpu_checks, idle_marks, idle_power_of
from profiler.store.layout import SessionFolder
from profiler.store.write import archive_attempt
from profiler.trainer import TrainerFiles, TrainerJob, trainer_command
from profiler.verdict import Finding
from profiler.workloads import ModelSpec

DISK_NEEDED_MIB = 100.0
AFTER_END_TICKS = 1.5
MAX_AFTER_END_S = 0.3


class Trace(Protocol):
    """The node's sampler as the attempt sees it. Times are CLOCK_MONOTONIC in ns."""

    def hold(self, t0_ns: int) -> int: ...
    def release(self, token: int) -> None: ...
    def window(self, t0_ns: int, t1_ns: int) -> Sequence[Sample]: ...
    def gpu_processes(self, t0_ns: int, t1_ns: int) -> Sequence[GpuPresence]: ...
    def gpu_activity(self, gpu_uuid: str, t0_ns: int, t1_ns: int) -> ActivityWindow: ...
    def idle_mark(self, gpu_uuid: str) -> IdleMark | None: ...
    def keep_idle_mark(self, gpu_uuid: str, mark: IdleMark) -> None: ...


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
        isolation: what the run has to itself; under "gpu" other runs may be on the node's other GPUs.
        solo_power: what each partner took alone in earlier runs of this session, where both are known.
        gpu_uuids: the GPUs of a run on several, that of its task first; empty for all others.
        elsewhere: this node does not see the session folder; `session_root` is its own, and its files are sent.
        session_key: `SessionFolder.key` of the driver's folder; "": that of `session_root`.
        tether: what must be reached from here, or the attempt ends (name -> host and port).
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
    isolation: Literal["node", "gpu"] = "node"
    solo_power: Mapping[Role, SoloPower] = field(default_factory=dict)
    gpu_uuids: tuple[str, ...] = ()
    elsewhere: bool = False
    session_key: str = ""
    tether: Mapping[str, Endpoint] = field(default_factory=dict)

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
        key = self.session_key or self.folder.key
        run = {"run": self.run_id, "attempt": str(self.attempt), "role": role}
        return {"session": self.folder.session_id, "key": key, **run}


Progress = dict[str, Any]


def run_attempt(spec: AttemptSpec, node: NodeFacts, trace: Trace, launch: Launch) -> Iterator[Progress]:
    """Execute `spec`; yields ``{"kind": "step"}``, one ``{"kind": "result"}``, then ``{"kind": "cooled"}``; or
    ``{"kind": "gate_closed"}`` and nothing more, when the gate did not open in time, or MPS cannot be had on the GPU.

    Raises ContainmentError when nothing could be started. A KeyboardInterrupt while it trains ends the training; one
    after that waits. The row comes all the same, and the KeyboardInterrupt goes on after it.
    """
    steps = _StepClock()
    with ExitStack() as stack:
        yield steps.enter("gate")
        # Whether a counter moves at all was found out when the campaign looked at the node.
        sources = stack.enter_context(discover(probe_s=0))
        gate = yield from _pass_gate(spec, node, sources)
        if not gate.clear:
            return
        marks = yield from _idle_marks(spec, node, trace, steps)
        idle = idle_power_of(node, trace)
        files = prepare_files(spec)
        stack.callback(trace.release, trace.hold(time.monotonic_ns() - LOOK_BACK_NS))

        shared = stack.enter_context(ExitStack())
        try:
            mps = _mps(spec, node, shared)
        except CannotRunError as error:  # of this GPU; others may well have it
            _clean(spec, valid=True)
            yield _gate_closed([str(error)], whole_node=False)
            return
        background = None
        if spec.planned.background is not None:
            yield steps.enter("background")
            background = _launch(spec, node, trace, launch, stack, mps)
            yield steps.enter("readiness", spec.planned.background.longest_start_s)
            background.wait_ready(spec.planned.background)

        execution, failures = None, []
        interrupts = stack.enter_context(Interrupts())  # held from the trainer's end until its row is kept
        if background is None or background.ready:
            yield steps.enter("training")
            if background is not None:
                background.begin()
            try:
                execution = _train(spec, node, trace, files, sources, mps, interrupts)
            except CopyError as error:
                failures = [Finding("start_failed", str(error))]
        stopping = steps.enter("stopping")
        if not interrupts.come:  # Ray takes nothing more of a task that it cancelled, and ends it there
            yield stopping
        window_ns = execution.window_ns if execution is not None else None
        enclosure = execution.enclosure if execution is not None else None
        partner = background.end(window_ns, enclosure) if background is not None else None
        if execution is None:
            assessment = assess_untrained(spec, node, trace, partner, failures)
        else:
            assessment = assess(gather(spec, node, trace, sources, files, execution, partner, idle, marks))
        row = {**assessment.row, **steps.finish().columns(node), "gate_wait_s": gate.waited_s}
        result = {**vars(assessment), "kind": "result", "row": row}
        spool.keep(spec.folder, result)
        interrupts.release()
        yield result
        _clean(spec, row["valid"])
        if interrupts.come:
            raise KeyboardInterrupt
        shared.close()  # the MPS server is on the GPU, which is to be idle from here on

        yield steps.enter("cooling", spec.cooling.max_seconds if marks else spec.cooling.seconds)
        yield {"kind": "cooled", **vars(cool(spec.cooling, node, trace, marks))}


def _pass_gate(spec: AttemptSpec, node: NodeFacts, sources: Sources) -> Generator[Progress, None, GateResult]:
    """Wait until nothing is in the way; says what is, and whether that kept the gate closed."""
    checks = gate_checks(spec, node, sources)
    gate = wait_until_clear(checks, max_wait_seconds=0)
    if not gate.clear:
        yield {"kind": "waiting", "problems": [problem.detail for problem in gate.problems]}
        gate = wait_until_clear(checks, spec.gate.max_wait_seconds)
    if not gate.clear:
        problems = [problem.detail for problem in gate.problems]
        whole_node = any(problem.device is None for problem in gate.problems)
        yield _gate_closed(problems, whole_node=whole_node)
    return gate


def _gate_closed(problems: list[str], *, whole_node: bool) -> Progress:
    return {"kind": "gate_closed", "problems": problems, "whole_node": whole_node}


def gate_checks(spec: AttemptSpec, node: NodeFacts, sources: Sources) -> list[Check]:
    """Everything that must hold right before this attempt."""
    return [
        lambda: check_boot(spec.gate.boot_id, node.boot_id),
        lambda: check_disk(spec.folder.root, DISK_NEEDED_MIB),
        *gpu_checks(spec.gate, node, sources),
    ]


def _idle_marks(
    spec: AttemptSpec, node: NodeFacts, trace: Trace, steps: _StepClock
) -> Generator[Progress, None, Mapping[str, IdleMark]]:
    """See `idle_marks`; says when the GPUs have to settle first."""
    finding = idle_marks(spec.cooling, node, trace)
    while True:
        try:
            seconds = next(finding)
        except StopIteration as found:
            marks: Mapping[str, IdleMark] = found.value
            return marks
        yield steps.enter("settling", seconds)


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


def _mps(spec: AttemptSpec, node: NodeFacts, stack: ExitStack) -> MpsServer | None:
    """The MPS daemon of this run's GPU, if the partners are to share it that way."""
    if spec.planned.sharing != "mps":
        return None
    if node.gpu_uuid is None:
        raise CannotRunError("sharing: mps needs a GPU, and this node has none: say sharing: time_slice")
    logs = spec.folder.run_folder(spec.planned.experiment_id) / "mps_logs"
    return stack.enter_context(
        mps_server(node.gpu_uuid, spec.environment, spec.labels("mps"), (os.getpid(), *spec.watch_pids), logs)
    )


def _environment(spec: AttemptSpec, mps: MpsServer | None, fraction: float) -> Mapping[str, str]:
    if mps is None:
        return spec.environment
    return {**spec.environment, **mps.client_environment(spec.planned.sm_percent(fraction))}


def _launch(
    spec: AttemptSpec, node: NodeFacts, trace: Trace, launch: Launch, stack: ExitStack, mps: MpsServer | None
) -> Partner:
    """Start the background of this run, which has one."""
    model, planned = spec.background, spec.planned.background
    assert model is not None and planned is not None
    job = BackgroundJob(
        job=replace(_job(model, planned, spec.background_threads, node.gpu_uuid), repeat=planned.mode == "reuse"),
        files=BackgroundFiles(spec.control / "background", spec.folder.background_logs(spec.planned.experiment_id)),
        run_id=spec.run_id,
        labels=spec.labels("background"),
        environment=_environment(spec, mps, planned.fraction),
        watch_pids=(os.getpid(), *spec.watch_pids),
        allow_uncontained=spec.allow_uncontained,
        cpus=float(spec.background_threads),
    )
    # Under MPS the driver reports all activity under the server's PID.
    return Partner(job, launch, trace, stack, activity_told_apart=mps is None)


def _job(
    model: ModelSpec,
    planned: PlannedRun | Background,
    threads: int,
    gpu_uuid: str | None,
    more_gpus: tuple[str, ...] = (),
) -> TrainerJob:
    return TrainerJob(
        model=model,
        hyperparameters=planned.hyperparameters,
        threads=threads,
        timeout_s=planned.timeout_seconds,
        data_root=planned.data,
        gpu_uuid=gpu_uuid if model.uses_gpu else None,
        more_gpus=more_gpus if model.uses_gpu else (),
    )


def _train(
    spec: AttemptSpec,
    node: NodeFacts,
    trace: Trace,
    files: TrainerFiles,
    sources: Sources,
    mps: MpsServer | None,
    interrupts: Interrupts,
) -> Execution:
    """Prepare the keeper, read the counters, let it start the trainer, wait, read the counters. From the trainer's end
    on it holds `interrupts`."""
    job = _job(spec.foreground, spec.planned, spec.threads, node.gpu_uuid, node.more_gpus)
    command = trainer_command(
        job,
        files,
        run_id=spec.run_id,
        labels=spec.labels("foreground"),
        environment=_environment(spec, mps, spec.planned.fraction),
    )
    with (
        files.output_joined(),
        start(command, watch_pids=spec.watch_pids, allow_uncontained=spec.allow_uncontained) as process,
    ):
        oom_kills = host.oom_kills() or 0
        spec.folder.released(spec.run_id, spec.attempt).touch()
        used, since_ns = cpu_use.look(), time.monotonic_ns()
        before = sources.boundary(node.gpu_uuids, edge="start")
        try:
            process.release()
            process.wait_for_trainer()
            interrupts.hold()
        except KeyboardInterrupt:  # the campaign is interrupted: what was measured until now is known all the same
            interrupts.hold()
            interrupts.come = True
            process.stop()
        after = sources.boundary(node.gpu_uuids, edge="end")
        server_pids = mps.server_pids() if mps is not None else []
        report = process.wait(None)
        contention = cpu_use.contention(
            used,
            cpu_use.look(),
            (os.getpid(), *spec.watch_pids),
            spec.threads + spec.background_threads,
            (since_ns, time.monotonic_ns()),
        )
    assert report is not None
    # With a tick of the trace after the end, the power outside of the run is known.
    time.sleep(min(AFTER_END_TICKS / spec.sampling_rate_hz, MAX_AFTER_END_S))
    oom_kills = (host.oom_kills() or 0) - oom_kills
    activity = ActivityWindow((), "no_gpu")
    if node.gpu_uuid is not None:
        activity = trace.gpu_activity(node.gpu_uuid, *report.window_ns(before.t_ns, after.t_ns))
    return Execution(
        report, process.containment, process.enclosure, command.argv, before, after, oom_kills, activity,
        tuple(server_pids), contention,
    )  # fmt: skip


def _clean(spec: AttemptSpec, valid: bool) -> None:
    """After success nothing of the work directory is needed; after a failure it is evidence."""
    if valid:
        shutil.rmtree(spec.work, ignore_errors=True)
        shutil.rmtree(spec.control, ignore_errors=True)
