"""Whose a run's GPU energy was, and when: by device, by partner, and of the training alone; whose its memory. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from profiler import colocation, record
from profiler.energy.attribution import NOT_TOLD_APART, GpuEnergy, Role, Shares, attribute, mean_sm_percent
from profiler.energy.epochs import span_energy
from profiler.energy.gpu_account import power_points
from profiler.evidence import Evidence


def gpu_split(evidence: Evidence) -> tuple[dict[str, Any], Shares, dict[str, str]]:
    """Columns of `runs`, the shares that some of them are, and why what is missing is."""
    nulls: dict[str, str] = {}
    by_device, unknown = _by_device(evidence)
    training_j, untold = _training_energy(evidence)
    nulls |= unknown | ({"gpu_energy_training_j": untold} if untold else {})
    background = evidence.background
    whose = colocation.roles(evidence.processes, evidence.execution.enclosure, background)
    shares = _shares(evidence, whose)
    training_sm, untold = _training_sm(evidence, whose, shares)
    nulls |= {"gpu_sm_training_percent": untold} if untold else {}
    columns = {
        "gpu_energy_by_device_j": by_device,
        "gpu_energy_training_j": training_j,
        "gpu_sm_training_percent": training_sm,
        **record.share_columns(shares, evidence.idle),
        **_memory_columns(evidence.processes, whose),
    }
    partner = evidence.spec.background
    if partner is not None and not partner.uses_gpu:
        missing = [name for name in (*record.PLAIN, *record.MEMORY) if columns[name] is None]
        nulls |= {name: "background_uses_no_gpu" for name in missing if "background" in name}
    return columns, shares, nulls


def _by_device(evidence: Evidence) -> tuple[dict[str, float | None] | None, dict[str, str]]:
    """The energy of each of the run's GPUs in J, and why that of one is not known."""
    if not evidence.energy_by_gpu:
        return None, {}
    unknown = {
        f"gpu_energy_by_device_j.{uuid}": part.null_reasons["gpu_energy_j"]
        for uuid, part in evidence.energy_by_gpu.items()
        if part.gpu_energy_j is None
    }
    return {uuid: part.gpu_energy_j for uuid, part in evidence.energy_by_gpu.items()}, unknown


def _training_energy(evidence: Evidence) -> tuple[float | None, str | None]:
    """J from the first optimiser step to the trainer's own end, as the power trace divides the run's energy."""
    whole, span = evidence.energy, evidence.training_ns
    counter_j, integral_j = whole.gpu_energy_j, whole.gpu_energy_integral_j
    if not counter_j or not integral_j:
        column = "gpu_energy_integral_j" if counter_j else "gpu_energy_j"
        return None, whole.null_reasons.get(column, "not_recorded")
    if span is None:
        return None, "not_reported"
    part_j, reason = span_energy(*span, evidence.samples, evidence.node.gpu_uuids)
    return None if part_j is None else part_j * counter_j / integral_j, reason


def _shares(evidence: Evidence, whose: Mapping[int, Role]) -> Shares:
    """The GPU's energy, split among those who used it."""
    spec, node, execution, energy = evidence.spec, evidence.node, evidence.execution, evidence.energy
    if energy.gpu_energy_j is None:
        return Shares(null_reason=energy.null_reasons["gpu_energy_j"])
    if node.more_gpus:
        return Shares(null_reason=record.SEVERAL_GPUS)
    if execution.enclosure is None:
        return Shares(null_reason=f"{NOT_TOLD_APART}: uncontained")
    points, _ = power_points(row for row in evidence.samples if row.device == node.gpu_uuid)
    paired = spec.background is not None and spec.background.uses_gpu
    return attribute(
        GpuEnergy(energy.gpu_energy_j, *execution.window_ns, points),
        evidence.idle,
        execution.activity,
        whose,
        paired=paired,
        solo=spec.solo_power,
        told_apart=spec.planned.sharing == "time_slice" or spec.planned.background is None,
        training_s=_training_s(evidence),
        utilisation_percent=energy.gpu_util_mean_percent,
    )


def _training_s(evidence: Evidence) -> dict[Role, float]:
    """For how many seconds of the window each partner trained on the GPU, by its own events."""
    t0_ns, t1_ns = evidence.execution.window_ns
    found: dict[Role, float] = {}
    span, background = evidence.training_ns, evidence.background
    if span is not None and evidence.spec.foreground.uses_gpu:
        found["foreground"] = (span[1] - span[0]) / 1e9
    if background is not None and background.busy is not None and background.busy.events_share is not None:
        found["background"] = background.busy.events_share * (t1_ns - t0_ns) / 1e9
    return found


def _training_sm(evidence: Evidence, whose: Mapping[int, Role], shares: Shares) -> tuple[float | None, str | None]:
    """The mean share of the SMs that the foreground kept busy from its first step to its end, or None and why."""
    if shares.sm_foreground_percent is None:
        return None, None  # for the same reason as over the whole window
    span = evidence.training_ns
    if span is None:
        return None, "not_reported"
    pids = {pid for pid, role in whose.items() if role == "foreground"}
    return mean_sm_percent(evidence.execution.activity, pids, *span), None


def _memory_columns(processes: Sequence[dict[str, Any]], whose: Mapping[int, Role]) -> dict[str, Any]:
    return {
        "gpu_memory_foreground_mib": colocation.memory_mib(processes, whose, "foreground"),
        "gpu_memory_background_mib": colocation.memory_mib(processes, whose, "background"),
    }
