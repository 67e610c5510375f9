"""After the trainer has ended: accounts what the evidence tells, judges, makes the row. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiler import colocation, conditions, record
from profiler.background import BackgroundFiles
from profiler.checkouts import commit_null_reason, recorded_commit
from profiler.colocation import background_findings
from profiler.energy.derived import Derived, Run, derive
from profiler.energy.idle import cpu_idle_power
from profiler.events import read_events
from profiler.evidence import LOOK_BACK_NS, Evidence
from profiler.gpu_split import gpu_split
from profiler.metrics import collect
from profiler.partner import BackgroundFacts
from profiler.reasons import limits
from profiler.record import NodeFacts
from profiler.verdict import Finding, judge, judge_training, parameter_findings, retry_may_help, that_hold

if TYPE_CHECKING:
    from profiler.attempt import AttemptSpec, Trace

# How far before the run's first process its memory and temperature are looked for.
MEMORY_LOOK_NS = 1_000_000_000


@dataclass(frozen=True)
class Assessment:
    """`row`: columns of `runs`; `processes`: rows of `processes`; `retry_may_help`: it may yet succeed."""

    row: dict[str, Any]
    processes: Sequence[dict[str, Any]]
    retry_may_help: bool


def assess(evidence: Evidence) -> Assessment:
    """Judge an attempt that trained."""
    spec, execution = evidence.spec, evidence.execution
    findings = judge_training(
        execution.report,
        evidence.outcome,
        evidence.events,
        spec.planned.hyperparameters,
        spec.foreground,
        host_oom=host_oom(execution.oom_kills),
    )
    observed = [
        *_of_background(spec, evidence.node, evidence.background, execution.window_ns),
        *_conditions(evidence),
        *_absence(evidence),
        *evidence.energy.observations,
    ]
    derived = _derived(evidence)
    parts, shares, unknown = gpu_split(evidence)
    columns = {
        **_planned(spec, evidence.node, evidence.background),
        **_measured(evidence),
        **record.derived_columns(derived, evidence.energy),
        **parts,
        "checkout_commit": recorded_commit(spec.work),
    }
    nulls = {
        **record.null_reasons(columns, evidence.energy, shares, evidence.idle),
        **evidence.outcome.null_reasons,
        **derived.null_reasons,
        **unknown,
        **commit_null_reason(spec.foreground.own_checkout, spec.work),
    }
    return _judged(spec, {**columns, "null_reasons": nulls}, evidence.processes, findings, observed)


def assess_untrained(
    spec: AttemptSpec,
    node: NodeFacts,
    trace: Trace,
    background: BackgroundFacts | None,
    failures: Sequence[Finding],
) -> Assessment:
    """Judge an attempt in which nothing was trained: its background was not ready, or for the `failures`."""
    columns = {
        **_planned(spec, node, background),
        "effective_source": "none",
        "metrics": {},
        "energy_sources": {},
        "gpu_memory_background_mib": _memory_of_what_failed(node, trace, background),
        "null_reasons": commit_null_reason(spec.foreground.own_checkout, spec.work),
    }
    return _judged(spec, columns, [], failures, _of_background(spec, node, background, None))


def _judged(
    spec: AttemptSpec,
    columns: Mapping[str, Any],
    processes: Sequence[dict[str, Any]],
    findings: Sequence[Finding],
    observed: Sequence[Finding],
) -> Assessment:
    """The verdict of what is certain (`findings`) and of what was `observed` beyond its limit."""
    limit = limits(_thresholds(spec))
    held = [*findings, *that_hold(observed, limit)]
    row = {
        **columns,
        **record.verdict_columns(judge(held), held),
        "observations": [finding.to_json() for finding in observed],
        "thresholds": limit,
    }
    return Assessment(row, processes, retry_may_help(held))


def _planned(spec: AttemptSpec, node: NodeFacts, background: BackgroundFacts | None) -> dict[str, Any]:
    """What is known of every attempt, trained or not."""
    return {
        **record.planned_columns(spec.planned, spec.folder.session_id, spec.run_id, spec.seed),
        **record.node_columns(node),
        **(record.background_columns(background, node) if background else {}),
        "attempt": spec.attempt,
        "is_final": False,
        "cpus": float(spec.threads),
        "sampling_rate_hz": spec.sampling_rate_hz,
        "isolation": spec.isolation,
    }


def _measured(evidence: Evidence) -> dict[str, Any]:
    node, execution = evidence.node, evidence.execution
    return {
        **record.window_columns(execution.report, node, execution.containment, execution.argv),
        **record.outcome_columns(evidence.outcome, evidence.events, execution.report.t0_ns),
        **record.energy_columns(evidence.energy),
        "oom_kills": execution.oom_kills,
        "boundary_start_ns": execution.before.t_ns,
        "boundary_end_ns": execution.after.t_ns,
    }


def _thresholds(spec: AttemptSpec) -> Mapping[str, float]:
    """The campaign's limits; that of the background's busy share may stand beside the background itself."""
    own = spec.planned.background.min_busy_share if spec.planned.background is not None else None
    return spec.thresholds if own is None else {**spec.thresholds, "background_idle": own}


def _derived(evidence: Evidence) -> Derived:
    """Energy above idle, and the run's share of the CPU. The CPU's idle power is that before the first process."""
    execution, first_ns = evidence.execution, evidence.first_ns
    report = execution.report
    cpu_idle = cpu_idle_power(evidence.rested, first_ns - LOOK_BACK_NS, first_ns)
    t0_ns, t1_ns = report.t0_ns, report.t1_ns
    duration_s = (t1_ns - t0_ns) / 1e9 if t0_ns is not None and t1_ns is not None else None
    run = Run(duration_s, report.cpu_s, execution.before, execution.after)
    return derive(evidence.energy, run, evidence.idle, cpu_idle)


def _of_background(
    spec: AttemptSpec, node: NodeFacts, background: BackgroundFacts | None, window_ns: tuple[int, int] | None
) -> list[Finding]:
    """What was seen of the background, whether or not it makes a reason."""
    return [*background_findings(background, node.gpu_uuid, window_ns), *_background_values(spec, background)]


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


def _memory_of_what_failed(node: NodeFacts, trace: Trace, background: BackgroundFacts | None) -> float | None:
    """The GPU memory in MiB of a background that never became ready."""
    if background is None or not background.starts:
        return None
    t0_ns = min(start.t0_ns for start in background.starts)
    t1_ns = max(start.t1_ns or t0_ns for start in background.starts)
    seen = [vars(one) for one in trace.gpu_processes(t0_ns, t1_ns) if one.gpu_uuid == node.gpu_uuid]
    return colocation.memory_mib(seen, colocation.roles(seen, None, background), "background")


def _conditions(evidence: Evidence) -> list[Finding]:
    """Everything seen of the conditions, whether or not it makes a reason."""
    spec, node, execution = evidence.spec, evidence.node, evidence.execution
    t0_ns, t1_ns = execution.window_ns
    first_ns = evidence.first_ns
    earlier = [row for row in evidence.rested if row.t_mono_ns >= first_ns - MEMORY_LOOK_NS]
    idle_mib = spec.gate.idle_memory_mib
    found = (
        conditions.containment(execution.containment),
        conditions.mps_server(execution.server_pids, t0_ns, t1_ns) if spec.planned.sharing == "mps" else None,
        *conditions.strangers(evidence.processes, t0_ns),
        *(conditions.memory_at_start(earlier, uuid, idle_mib.get(uuid), first_ns) for uuid in node.gpu_uuids),
        *(conditions.warmth_at_start(earlier, uuid, mark.temp_c, first_ns) for uuid, mark in evidence.marks.items()),
        *(conditions.throttling(evidence.samples, uuid, t0_ns, t1_ns) for uuid in node.gpu_uuids),
        execution.contention,
    )
    return [finding for finding in found if finding is not None]


def _absence(evidence: Evidence) -> list[Finding]:
    """Where the trainer should have been and was not; asked where the driver and the trainer both tell."""
    spec, execution, training_ns = evidence.spec, evidence.execution, evidence.events.training_ns
    asked = spec.foreground.uses_gpu and execution.activity.null_reason is None
    if not asked or execution.enclosure is None or training_ns is None:
        return []
    processes = evidence.processes
    partners = [process for process in processes if process["own"] and process["pid"] not in execution.server_pids]
    if spec.planned.sharing == "mps" and not partners:
        return []  # a driver that lists no clients of MPS
    return list(conditions.presence(processes, evidence.node.gpu_uuids, execution.enclosure, training_ns))


def host_oom(kills: int | None) -> str | None:
    """Evidence that the kernel ended the trainer, or a part of it, for lack of memory."""
    if not kills:
        return None
    return f"the kernel's out-of-memory killer ended {kills} process(es) of this node during the run"
