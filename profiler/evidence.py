"""What is known of an attempt that trained, once it has ended: what its trainer said, the samples of its window, the
energy, and who was on its GPUs. It judges nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiler.colocation import role
from profiler.cooling import IdleMark
from profiler.energy.account import EnergyAccount, account
from profiler.energy.idle import IdlePower
from profiler.energy.sample import Sample
from profiler.energy.sources import Sources
from profiler.events import TrainerEvents, read_events
from profiler.execution import Execution
from profiler.metrics import Outcome, collect
from profiler.partner import BackgroundFacts
from profiler.record import NodeFacts
from profiler.trainer import TrainerFiles

if TYPE_CHECKING:
    from profiler.attempt import AttemptSpec, Trace

LOOK_BACK_NS = 3_000_000_000


@dataclass(frozen=True)
class Evidence:
    """`idle` is the power of the run's GPUs right before the attempt; `marks`: what they come back to between runs,
    where they do. `rested`: the samples of the LOOK_BACK_NS before its first process, `samples`: those of its window.
    `energy` is that of the run, `energy_by_gpu` that of each of its GPUs, by UUID; `processes`: rows of that table."""

    spec: AttemptSpec
    node: NodeFacts
    execution: Execution
    background: BackgroundFacts | None
    idle: IdlePower
    marks: Mapping[str, IdleMark]
    events: TrainerEvents
    outcome: Outcome
    rested: Sequence[Sample]
    samples: Sequence[Sample]
    energy: EnergyAccount
    energy_by_gpu: Mapping[str, EnergyAccount]
    processes: Sequence[dict[str, Any]]

    @property
    def first_ns(self) -> int:
        """When the first process of the run, or of its background, was started."""
        return _first_ns(self.execution, self.background)

    @property
    def training_ns(self) -> tuple[int, int] | None:
        """From the first optimiser step to the trainer's own end; None where it did not tell, or by another clock."""
        span, (t0_ns, t1_ns) = self.events.training_ns, self.execution.window_ns
        return span if span is not None and t0_ns <= span[0] < span[1] <= t1_ns else None


def gather(
    spec: AttemptSpec,
    node: NodeFacts,
    trace: Trace,
    sources: Sources,
    files: TrainerFiles,
    execution: Execution,
    background: BackgroundFacts | None,
    idle: IdlePower,
    marks: Mapping[str, IdleMark],
) -> Evidence:
    """Reads the trainer's files and the node's trace."""
    events = read_events(files.events)
    edges = execution.before, execution.after
    first_ns = _first_ns(execution, background)
    samples = trace.window(execution.before.t_ns, execution.after.t_ns)
    energy = account(*edges, samples, sources, node.gpu_uuids, *execution.window_ns)
    by_gpu = dict.fromkeys(node.gpu_uuids, energy)
    if node.more_gpus:
        by_gpu = {uuid: account(*edges, samples, sources, uuid, *execution.window_ns) for uuid in node.gpu_uuids}
    return Evidence(
        spec=spec,
        node=node,
        execution=execution,
        background=background,
        idle=idle,
        marks=marks,
        events=events,
        outcome=collect(spec.foreground, spec.planned.hyperparameters, events, files.log),
        rested=trace.window(first_ns - LOOK_BACK_NS, first_ns),
        samples=samples,
        energy=energy,
        energy_by_gpu=by_gpu,
        processes=_processes(spec, node, trace, execution, background),
    )


def _first_ns(execution: Execution, background: BackgroundFacts | None) -> int:
    starts = background.starts if background else ()
    return min([execution.before.t_ns, *(start.t0_ns for start in starts)])


def _processes(
    spec: AttemptSpec, node: NodeFacts, trace: Trace, execution: Execution, background: BackgroundFacts | None
) -> list[dict[str, Any]]:
    """Rows of `processes`: everybody seen on this attempt's GPUs during its window, own or foreign."""
    report = execution.report
    if report.t0_ns is None or report.t1_ns is None or node.gpu_uuid is None:
        return []
    seen = [p for p in trace.gpu_processes(report.t0_ns, report.t1_ns) if p.gpu_uuid in node.gpu_uuids]
    where = {"node_id": node.node_id, "boot_id": node.boot_id, "run_id": spec.run_id, "attempt": spec.attempt}
    rows = [{**vars(presence), **where} for presence in seen]
    return [{**row, "own": _is_own(row, execution, background)} for row in rows]


def _is_own(row: Mapping[str, Any], execution: Execution, background: BackgroundFacts | None) -> bool:
    return role(row, execution.enclosure, background) is not None or row["pid"] in execution.server_pids
