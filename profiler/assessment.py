"""After the trainer has ended: reads log and events, accounts the energy, judges, makes the row. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiler import record
from profiler.energy.account import EnergyAccount, account
from profiler.energy.sample import Sample
from profiler.energy.sources import Boundary, Sources
from profiler.energy.throttle import THROTTLED_MASK, describe_throttle_reasons, is_throttled
from profiler.events import TrainerEvents, read_events
from profiler.gpu_processes import GpuPresence
from profiler.metrics import Outcome, collect
from profiler.process.contained import HOLDING_TIERS, ExitReport
from profiler.record import BackgroundFacts, NodeFacts
from profiler.trainer import TrainerFiles
from profiler.verdict import Finding, judge, judge_training, retry_may_help

if TYPE_CHECKING:
    from profiler.attempt import AttemptSpec, Trace


@dataclass(frozen=True)
class Execution:
    """What the measured part of an attempt produced. `namespace` is the inode of the trainer's PID namespace;
    `oom_kills`: processes of this node that the kernel ended for lack of memory meanwhile."""

    report: ExitReport
    containment: str
    namespace: int | None
    argv: tuple[str, ...]
    before: Boundary
    after: Boundary
    oom_kills: int


@dataclass(frozen=True)
class Assessment:
    """`row`: columns of `runs`; `processes`: rows of `processes`; `retry_may_help`: it may yet succeed."""

    row: dict[str, Any]
    processes: list[dict[str, Any]]
    retry_may_help: bool


def assess(
    spec: AttemptSpec,
    node: NodeFacts,
    trace: Trace,
    sources: Sources,
    files: TrainerFiles,
    execution: Execution | None,
    background: BackgroundFacts | None,
) -> Assessment:
    """Judge one attempt. `execution` is None when the background was not ready and nothing was trained."""
    columns: dict[str, Any] = {
        **record.planned_columns(spec.planned, spec.folder.session_id, spec.run_id, spec.seed),
        **record.node_columns(node),
        **(record.background_columns(background, node) if background else {}),
        "attempt": spec.attempt,
        "is_final": False,
        "cpus": float(spec.threads),
        "sampling_rate_hz": spec.sampling_rate_hz,
    }
    findings = list(_background_findings(background, node))
    nulls: dict[str, str] = {}
    processes: list[dict[str, Any]] = []
    if execution is None:
        columns |= {"effective_source": "none", "metrics": {}, "energy_sources": {}}
    else:
        events = read_events(files.events)
        outcome = collect(spec.foreground, spec.planned.hyperparameters, events, files.log)
        samples = trace.window(execution.before.t_ns, execution.after.t_ns)
        energy = _energy(node, samples, sources, execution)
        processes = _processes(spec, node, trace, execution, background)
        findings += [
            *judge_training(
                execution.report,
                outcome,
                events,
                spec.planned.hyperparameters,
                spec.foreground,
                host_oom=_host_oom(execution),
            ),
            *_condition_findings(execution, processes),
            *_throttle_findings(node, samples, execution.report),
            *energy.findings,
        ]
        columns |= _measured(node, execution, outcome, events, energy)
        nulls = record.null_reasons(columns, energy)
    verdict = judge(findings)
    columns |= record.verdict_columns(verdict, findings)
    return Assessment({**columns, "null_reasons": nulls}, processes, retry_may_help(findings))


def _measured(
    node: NodeFacts, execution: Execution, outcome: Outcome, events: TrainerEvents, energy: EnergyAccount
) -> dict[str, Any]:
    return {
        **record.window_columns(execution.report, node, execution.containment, execution.argv),
        **record.outcome_columns(outcome, events, execution.report.t0_ns),
        **record.energy_columns(energy),
        "boundary_start_ns": execution.before.t_ns,
        "boundary_end_ns": execution.after.t_ns,
    }


def _energy(node: NodeFacts, samples: Sequence[Sample], sources: Sources, execution: Execution) -> EnergyAccount:
    before, after, report = execution.before, execution.after, execution.report
    t0_ns = report.t0_ns if report.t0_ns is not None else before.t_ns
    t1_ns = report.t1_ns if report.t1_ns is not None else after.t_ns
    return account(before, after, samples, sources, node.gpu_uuid, t0_ns, t1_ns)


def _processes(
    spec: AttemptSpec, node: NodeFacts, trace: Trace, execution: Execution, background: BackgroundFacts | None
) -> list[dict[str, Any]]:
    """Rows of `processes`: everybody seen on this attempt's GPU during its window, own or foreign."""
    report = execution.report
    if report.t0_ns is None or report.t1_ns is None or node.gpu_uuid is None:
        return []
    own = (
        {execution.namespace, *(start.namespace for start in background.starts)}
        if background
        else {execution.namespace}
    )
    seen = [p for p in trace.gpu_processes(report.t0_ns, report.t1_ns) if p.gpu_uuid == node.gpu_uuid]
    return [_process_row(spec, node, presence, presence.pid_namespace in own - {None}) for presence in seen]


def _process_row(spec: AttemptSpec, node: NodeFacts, presence: GpuPresence, own: bool) -> dict[str, Any]:
    where = {"node_id": node.node_id, "boot_id": node.boot_id, "run_id": spec.run_id, "attempt": spec.attempt}
    return {**vars(presence), **where, "own": own}


def _condition_findings(execution: Execution, processes: Sequence[dict[str, Any]]) -> Iterator[Finding]:
    if execution.containment not in HOLDING_TIERS:
        yield Finding("uncontained", f"containment {execution.containment} is best effort only")
    for process in processes:
        if not process["own"]:
            memory = "unknown" if process["memory_mib"] is None else f"{process['memory_mib']:.0f}"
            command = process["command"] or "unknown command"
            text = f"PID {process['pid']} ({command}), user {process['user_id']}, {memory} MiB"
            yield Finding("foreign_gpu_process", text)


def _host_oom(execution: Execution) -> str | None:
    """Evidence that the kernel ended the trainer, or a part of it, for lack of memory."""
    if not execution.oom_kills:
        return None
    return f"the kernel's out-of-memory killer ended {execution.oom_kills} process(es) of this node during the run"


def _throttle_findings(node: NodeFacts, samples: Sequence[Sample], report: ExitReport) -> Iterator[Finding]:
    """Slowdowns by heat or power delivery inside the window."""
    t0_ns, t1_ns = report.t0_ns or 0, report.t1_ns or 0
    masks = [
        sample.throttle_reasons
        for sample in samples
        if sample.device == node.gpu_uuid and t0_ns <= sample.t_mono_ns <= t1_ns and sample.throttle_reasons is not None
    ]
    slowed = [mask for mask in masks if is_throttled(mask)]
    if slowed:
        names = sorted({name for mask in slowed for name in describe_throttle_reasons(mask & THROTTLED_MASK)})
        yield Finding("throttled", f"{', '.join(names)} in {len(slowed)} of {len(masks)} samples")


def _background_findings(background: BackgroundFacts | None, node: NodeFacts) -> Iterator[Finding]:
    if background is None:
        return
    codes = ", ".join(str(record.exit_status(start)) for start in background.starts if start.failed) or "none"
    if not background.ready:
        yield Finding("background_failed", f"it was not ready in time; exit codes of its failed starts: {codes}")
    elif background.ended_early:
        yield Finding(
            "background_failed", f"it ended before the foreground did; exit codes of its failed starts: {codes}"
        )
    elif background.gpu_uuid != node.gpu_uuid:
        yield Finding("background_failed", f"it was on GPU {background.gpu_uuid}, the foreground on {node.gpu_uuid}")
