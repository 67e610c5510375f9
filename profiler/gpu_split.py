"""Whose a run's GPU energy was, and when: by device, by partner, and of the training alone; whose its memory. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from profiler import colocation, record
from profiler.energy.account import EnergyAccount, account
from profiler.energy.attribution import NOT_TOLD_APART, GpuEnergy, Role, Shares, attribute, mean_sm_percent
from profiler.energy.epochs import span_energy
from profiler.energy.gpu_account import power_points
from profiler.energy.idle import IdlePower
from profiler.energy.sample import Sample
from profiler.energy.sources import Sources
from profiler.events import TrainerEvents
from profiler.execution import Execution
from profiler.partner import BackgroundFacts
from profiler.record import NodeFacts

if TYPE_CHECKING:
    from profiler.attempt import AttemptSpec


def gpu_split(
    spec: AttemptSpec,
    node: NodeFacts,
    samples: Sequence[Sample],
    sources: Sources,
    execution: Execution,
    events: TrainerEvents,
    background: BackgroundFacts | None,
    processes: Sequence[dict[str, Any]],
    energy: EnergyAccount,
    idle: IdlePower,
) -> tuple[dict[str, Any], Shares, dict[str, str]]:
    """Columns of `runs`, the shares that some of them are, and why what is missing is. `processes`: rows of that table;
    `idle`: the GPU's power right before the attempt."""
    nulls: dict[str, str] = {}
    by_device, unknown = _by_device(node, samples, sources, execution, energy)
    training_j, untold = _training_energy(node, samples, execution, events, energy)
    nulls |= unknown | ({"gpu_energy_training_j": untold} if untold else {})
    namespaces = background.namespaces if background else frozenset[int]()
    whose = colocation.roles(processes, execution.namespace, namespaces)
    training_s = _training_s(spec, execution, events, background)
    shares = _shares(spec, node, samples, execution, whose, energy, idle, training_s)
    training_sm, untold = _training_sm(execution, events, whose, shares)
    nulls |= {"gpu_sm_training_percent": untold} if untold else {}
    columns = {
        "gpu_energy_by_device_j": by_device,
        "gpu_energy_training_j": training_j,
        "gpu_sm_training_percent": training_sm,
        **record.share_columns(shares, idle),
        **_memory_columns(processes, whose),
    }
    if spec.background is not None and not spec.background.uses_gpu:
        missing = [name for name in (*record.PLAIN, *record.MEMORY) if columns[name] is None]
        nulls |= {name: "background_uses_no_gpu" for name in missing if "background" in name}
    return columns, shares, nulls


def _by_device(
    node: NodeFacts, samples: Sequence[Sample], sources: Sources, execution: Execution, whole: EnergyAccount
) -> tuple[dict[str, float | None] | None, dict[str, str]]:
    """The energy of each of the run's GPUs in J, and why that of one is not known."""
    if not node.gpu_uuids:
        return None, {}
    parts = {node.gpu_uuids[0]: whole}
    if node.more_gpus:
        edges = execution.before, execution.after
        parts = {uuid: account(*edges, samples, sources, uuid, *execution.window_ns) for uuid in node.gpu_uuids}
    unknown = {
        f"gpu_energy_by_device_j.{uuid}": part.null_reasons["gpu_energy_j"]
        for uuid, part in parts.items()
        if part.gpu_energy_j is None
    }
    return {uuid: part.gpu_energy_j for uuid, part in parts.items()}, unknown


def _training_energy(
    node: NodeFacts, samples: Sequence[Sample], execution: Execution, events: TrainerEvents, whole: EnergyAccount
) -> tuple[float | None, str | None]:
    """J from the first optimiser step to the trainer's own end, as the power trace divides the run's energy."""
    counter_j, integral_j, span = whole.gpu_energy_j, whole.gpu_energy_integral_j, _training_ns(execution, events)
    if not counter_j or not integral_j:
        column = "gpu_energy_integral_j" if counter_j else "gpu_energy_j"
        return None, whole.null_reasons.get(column, "not_recorded")
    if span is None:
        return None, "not_reported"
    part_j, reason = span_energy(*span, samples, node.gpu_uuids)
    return None if part_j is None else part_j * counter_j / integral_j, reason


def _shares(
    spec: AttemptSpec,
    node: NodeFacts,
    samples: Sequence[Sample],
    execution: Execution,
    whose: Mapping[int, Role],
    energy: EnergyAccount,
    idle: IdlePower,
    training_s: Mapping[Role, float],
) -> Shares:
    """The GPU's energy, split among those who used it."""
    if energy.gpu_energy_j is None:
        return Shares(null_reason=energy.null_reasons["gpu_energy_j"])
    if node.more_gpus:
        return Shares(null_reason=record.SEVERAL_GPUS)
    if execution.namespace is None:
        return Shares(null_reason=f"{NOT_TOLD_APART}: no_pid_namespace")
    points, _ = power_points(row for row in samples if row.device == node.gpu_uuid)
    paired = spec.background is not None and spec.background.uses_gpu
    return attribute(
        GpuEnergy(energy.gpu_energy_j, *execution.window_ns, points),
        idle,
        execution.activity,
        whose,
        paired=paired,
        solo=spec.solo_power,
        told_apart=spec.planned.sharing == "time_slice" or spec.planned.background is None,
        training_s=training_s,
        utilisation_percent=energy.gpu_util_mean_percent,
    )


def _training_ns(execution: Execution, events: TrainerEvents) -> tuple[int, int] | None:
    """From the first optimiser step to the trainer's own end; None where it told neither, or times of another clock."""
    span, (t0_ns, t1_ns) = events.training_ns, execution.window_ns
    return span if span is not None and t0_ns <= span[0] < span[1] <= t1_ns else None


def _training_s(
    spec: AttemptSpec, execution: Execution, events: TrainerEvents, background: BackgroundFacts | None
) -> dict[Role, float]:
    """For how many seconds of the window each partner trained on the GPU, by its own events."""
    t0_ns, t1_ns = execution.window_ns
    found: dict[Role, float] = {}
    span = _training_ns(execution, events)
    if span is not None and spec.foreground.uses_gpu:
        found["foreground"] = (span[1] - span[0]) / 1e9
    if background is not None and background.busy is not None and background.busy.events_share is not None:
        found["background"] = background.busy.events_share * (t1_ns - t0_ns) / 1e9
    return found


def _training_sm(
    execution: Execution, events: TrainerEvents, whose: Mapping[int, Role], shares: Shares
) -> tuple[float | None, str | None]:
    """The mean share of the SMs that the foreground kept busy from its first step to its end, or None and why."""
    if shares.sm_foreground_percent is None:
        return None, None  # for the same reason as over the whole window
    span = _training_ns(execution, events)
    if span is None:
        return None, "not_reported"
    pids = {pid for pid, role in whose.items() if role == "foreground"}
    return mean_sm_percent(execution.activity, pids, *span), None


def _memory_columns(processes: Sequence[dict[str, Any]], whose: Mapping[int, Role]) -> dict[str, Any]:
    return {
        "gpu_memory_foreground_mib": colocation.memory_mib(processes, whose, "foreground"),
        "gpu_memory_background_mib": colocation.memory_mib(processes, whose, "background"),
    }
