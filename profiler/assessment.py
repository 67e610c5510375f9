"""After the trainer has ended: reads log and events, accounts the energy, judges, makes the row. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiler import colocation, conditions, record
from profiler.background import BackgroundFiles
from profiler.checkouts import recorded_commit
from profiler.colocation import background_findings
from profiler.cooling import IdleMark
from profiler.energy.account import EnergyAccount, account
from profiler.energy.derived import Derived, Run, derive
from profiler.energy.idle import IdlePower, cpu_idle_power
from profiler.energy.sample import Sample
from profiler.energy.sources import Sources
from profiler.events import TrainerEvents, read_events
from profiler.execution import Execution
from profiler.gpu_processes import GpuPresence
from profiler.gpu_split import gpu_split
from profiler.metrics import Outcome, collect
from profiler.partner import BackgroundFacts
from profiler.reasons import limits
from profiler.record import NodeFacts
from profiler.trainer import TrainerFiles
from profiler.verdict import Finding, judge, judge_training, parameter_findings, retry_may_help, that_hold

if TYPE_CHECKING:
    from profiler.attempt import AttemptSpec, Trace

# How far before the run's first process the trace is asked for the memory then in use.
MEMORY_LOOK_NS = 1_000_000_000
IDLE_LOOK_NS = 3_000_000_000


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
    idle: IdlePower,
    marks: Mapping[str, IdleMark],
) -> Assessment:
    """Judge one attempt. `execution` is None when the background was not ready and nothing was trained; `idle` is the
    power of the GPU right before the attempt; `marks`: what its GPUs come back to between runs, where they do."""
    columns: dict[str, Any] = {
        **record.planned_columns(spec.planned, spec.folder.session_id, spec.run_id, spec.seed),
        **record.node_columns(node),
        **(record.background_columns(background, node) if background else {}),
        "attempt": spec.attempt,
        "is_final": False,
        "cpus": float(spec.threads),
        "sampling_rate_hz": spec.sampling_rate_hz,
        "isolation": spec.isolation,
    }
    limit = limits(_thresholds(spec))
    window_ns = execution.window_ns if execution is not None else None
    observed = [*background_findings(background, node.gpu_uuid, window_ns), *_background_values(spec, background)]
    findings: list[Finding] = []
    nulls: dict[str, str] = {}
    processes: list[dict[str, Any]] = []
    if execution is None:
        columns |= {"effective_source": "none", "metrics": {}, "energy_sources": {}}
        columns["gpu_memory_background_mib"] = _memory_of_what_failed(node, trace, background)
    else:
        events = read_events(files.events)
        outcome = collect(spec.foreground, spec.planned.hyperparameters, events, files.log)
        samples = trace.window(execution.before.t_ns, execution.after.t_ns)
        energy = _energy(node, samples, sources, execution)
        processes = _processes(spec, node, trace, execution, background)
        findings += judge_training(
            execution.report,
            outcome,
            events,
            spec.planned.hyperparameters,
            spec.foreground,
            host_oom=host_oom(execution.oom_kills),
        )
        observed += _conditions(spec, node, trace, samples, execution, background, processes, marks)
        observed += _absence(spec, node, execution, events, processes)
        observed += energy.observations
        columns |= _measured(node, execution, outcome, events, energy)
        derived = _derived(trace, execution, background, energy, idle)
        columns |= record.derived_columns(derived, energy)
        parts, shares, nulls = gpu_split(
            spec, node, samples, sources, execution, events, background, processes, energy, idle
        )
        columns |= parts
        columns["checkout_commit"] = recorded_commit(spec.work)
        nulls = {
            **record.null_reasons(columns, energy, shares, idle),
            **outcome.null_reasons,
            **derived.null_reasons,
            **nulls,
        }
    findings += that_hold(observed, limit)
    columns |= record.verdict_columns(judge(findings), findings)
    columns |= {"observations": [finding.to_json() for finding in observed], "thresholds": limit}
    return Assessment({**columns, "null_reasons": nulls}, processes, retry_may_help(findings))


def _memory_of_what_failed(node: NodeFacts, trace: Trace, background: BackgroundFacts | None) -> float | None:
    """The GPU memory in MiB of a background that never became ready."""
    if background is None or not background.starts:
        return None
    t0_ns = min(start.t0_ns for start in background.starts)
    t1_ns = max(start.t1_ns or t0_ns for start in background.starts)
    seen = [vars(one) for one in trace.gpu_processes(t0_ns, t1_ns) if one.gpu_uuid == node.gpu_uuid]
    return colocation.memory_mib(seen, colocation.roles(seen, None, background.namespaces), "background")


def _background_values(spec: AttemptSpec, background: BackgroundFacts | None) -> Iterator[Finding]:
    """Values that the background was asked for and did not use, as its first start says."""
    model, planned = spec.background, spec.planned.background
    if background is None or not background.starts or model is None or planned is None:
        return
    logs = spec.folder.background_logs(spec.planned.experiment_id)
    files = BackgroundFiles(spec.control / "background", logs).trainer(background.starts[0].number)
    outcome = collect(model, planned.hyperparameters, read_events(files.events), files.log)
    for finding in parameter_findings(outcome, planned.hyperparameters, model):
        if finding.reason == "parameter_not_applied":
            yield Finding("background_failed", f"it did not train as asked: {finding.evidence}", retry=False)


def _measured(
    node: NodeFacts, execution: Execution, outcome: Outcome, events: TrainerEvents, energy: EnergyAccount
) -> dict[str, Any]:
    return {
        **record.window_columns(execution.report, node, execution.containment, execution.argv),
        **record.outcome_columns(outcome, events, execution.report.t0_ns),
        **record.energy_columns(energy),
        "oom_kills": execution.oom_kills,
        "boundary_start_ns": execution.before.t_ns,
        "boundary_end_ns": execution.after.t_ns,
    }


def _thresholds(spec: AttemptSpec) -> Mapping[str, float]:
    """The campaign's limits; that of the background's busy share may stand beside the background itself."""
    own = spec.planned.background.min_busy_share if spec.planned.background is not None else None
    return spec.thresholds if own is None else {**spec.thresholds, "background_idle": own}


def _energy(node: NodeFacts, samples: Sequence[Sample], sources: Sources, execution: Execution) -> EnergyAccount:
    return account(execution.before, execution.after, samples, sources, node.gpu_uuids, *execution.window_ns)


def _derived(
    trace: Trace,
    execution: Execution,
    background: BackgroundFacts | None,
    energy: EnergyAccount,
    gpu_idle: IdlePower,
) -> Derived:
    """Energy above idle, and the run's share of the CPU. The CPU's idle power is that before the first process."""
    report, first_ns = execution.report, _first_ns(execution, background)
    rested = trace.window(first_ns - IDLE_LOOK_NS, first_ns)
    cpu_idle = cpu_idle_power(rested, first_ns - IDLE_LOOK_NS, first_ns)
    t0_ns, t1_ns = report.t0_ns, report.t1_ns
    duration_s = (t1_ns - t0_ns) / 1e9 if t0_ns is not None and t1_ns is not None else None
    return derive(energy, Run(duration_s, report.cpu_s, execution.before, execution.after), gpu_idle, cpu_idle)


def _first_ns(execution: Execution, background: BackgroundFacts | None) -> int:
    """When the first process of the run, or of its background, was started."""
    starts = background.starts if background else ()
    return min([execution.before.t_ns, *(start.t0_ns for start in starts)])


def _processes(
    spec: AttemptSpec, node: NodeFacts, trace: Trace, execution: Execution, background: BackgroundFacts | None
) -> list[dict[str, Any]]:
    """Rows of `processes`: everybody seen on this attempt's GPUs during its window, own or foreign."""
    report = execution.report
    if report.t0_ns is None or report.t1_ns is None or node.gpu_uuid is None:
        return []
    namespaces = {execution.namespace, *(background.namespaces if background else ())} - {None}
    seen = [p for p in trace.gpu_processes(report.t0_ns, report.t1_ns) if p.gpu_uuid in node.gpu_uuids]
    return [
        _process_row(spec, node, one, one.pid_namespace in namespaces or one.pid in execution.server_pids)
        for one in seen
    ]


def _process_row(spec: AttemptSpec, node: NodeFacts, presence: GpuPresence, own: bool) -> dict[str, Any]:
    where = {"node_id": node.node_id, "boot_id": node.boot_id, "run_id": spec.run_id, "attempt": spec.attempt}
    return {**vars(presence), **where, "own": own}


def _conditions(
    spec: AttemptSpec,
    node: NodeFacts,
    trace: Trace,
    samples: Sequence[Sample],
    execution: Execution,
    background: BackgroundFacts | None,
    processes: Sequence[dict[str, Any]],
    marks: Mapping[str, IdleMark],
) -> list[Finding]:
    """Everything seen of the conditions, whether or not it makes a reason."""
    t0_ns, t1_ns = execution.window_ns
    first_ns = _first_ns(execution, background)
    earlier = trace.window(first_ns - MEMORY_LOOK_NS, first_ns)
    idle_mib = spec.gate.idle_memory_mib
    found = (
        conditions.containment(execution.containment),
        conditions.mps_server(execution.server_pids, t0_ns, t1_ns) if spec.planned.sharing == "mps" else None,
        *conditions.strangers(processes, t0_ns),
        *(conditions.memory_at_start(earlier, uuid, idle_mib.get(uuid), first_ns) for uuid in node.gpu_uuids),
        *(conditions.warmth_at_start(earlier, uuid, mark.temp_c, first_ns) for uuid, mark in marks.items()),
        *(conditions.throttling(samples, uuid, t0_ns, t1_ns) for uuid in node.gpu_uuids),
        execution.contention,
    )
    return [finding for finding in found if finding is not None]


def _absence(
    spec: AttemptSpec,
    node: NodeFacts,
    execution: Execution,
    events: TrainerEvents,
    processes: Sequence[dict[str, Any]],
) -> list[Finding]:
    """Where the trainer should have been and was not; asked where the driver and the trainer both tell."""
    asked = spec.foreground.uses_gpu and execution.activity.null_reason is None
    if not asked or execution.namespace is None or events.training_ns is None:
        return []
    partners = [process for process in processes if process["own"] and process["pid"] not in execution.server_pids]
    if spec.planned.sharing == "mps" and not partners:
        return []  # a driver that lists no clients of MPS
    return list(conditions.presence(processes, node.gpu_uuids, execution.namespace, events.training_ns))


def host_oom(kills: int | None) -> str | None:
    """Evidence that the kernel ended the trainer, or a part of it, for lack of memory."""
    if not kills:
        return None
    return f"the kernel's out-of-memory killer ended {kills} process(es) of this node during the run"
