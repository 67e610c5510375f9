"""Builds the row of one attempt (columns of `runs`) from what its steps found out. It measures and judges nothing.

`profiler.store` completes a row: every column is there, and every null has a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from profiler.background import BackgroundStart
from profiler.busy import Busy
from profiler.energy.account import EnergyAccount
from profiler.energy.attribution import NOT_SAMPLED, Shares
from profiler.energy.derived import Derived
from profiler.energy.idle import IdlePower
from profiler.events import TrainerEvents
from profiler.host import Anchor
from profiler.metrics import Outcome
from profiler.partner import BackgroundFacts
from profiler.planner import PlannedRun
from profiler.process.command import ExitReport
from profiler.store.schema import RUNS
from profiler.verdict import Finding, Verdict

INTERRUPTED = "interrupted"
SEVERAL_GPUS = "several_gpus"
SHARES = (
    "gpu_energy_foreground_j",
    "gpu_energy_background_j",
    "gpu_energy_idle_j",
    "gpu_energy_other_j",
)
IDLE_POWER = ("gpu_idle_power_w", "gpu_idle_power_uncertainty_w")
PLAIN = (
    "gpu_energy_foreground_sm_ratio_j",
    "gpu_energy_background_sm_ratio_j",
    "gpu_sm_foreground_percent",
    "gpu_sm_training_percent",
    "gpu_sm_background_percent",
)
MEMORY = ("gpu_memory_foreground_mib", "gpu_memory_background_mib")


@dataclass(frozen=True)
class NodeFacts:
    """Where an attempt ran; `anchor` ties CLOCK_MONOTONIC to UTC. `more_gpus`: UUIDs of the further GPUs of a run on
    several, all of the model `gpu_name`."""

    node_id: str
    hostname: str
    boot_id: str
    gpu_uuid: str | None
    gpu_name: str | None
    anchor: Anchor
    more_gpus: tuple[str, ...] = ()

    @property
    def gpu_uuids(self) -> tuple[str, ...]:
        """Every GPU of the run; none where it has none."""
        return () if self.gpu_uuid is None else (self.gpu_uuid, *self.more_gpus)

    def utc(self, t_mono_ns: int | None) -> datetime | None:
        """The wall clock at CLOCK_MONOTONIC `t_mono_ns`."""
        if t_mono_ns is None:
            return None
        return datetime.fromtimestamp((t_mono_ns + self.anchor.utc_offset_ns) / 1e9, tz=UTC)


@dataclass
class Steps:
    """When each step of the attempt began, and how long it took, in order."""

    seconds: dict[str, float] = field(default_factory=dict)
    started_ns: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, t0_ns: int, t1_ns: int) -> None:
        self.started_ns[name] = t0_ns
        self.seconds[name] = (t1_ns - t0_ns) / 1e9

    def columns(self, node: NodeFacts) -> dict[str, Any]:
        return {
            "steps": dict(self.seconds),
            "steps_at": {name: node.utc(t_ns) for name, t_ns in self.started_ns.items()},
        }


def planned_columns(planned: PlannedRun, session_id: str, run_id: str, seed: int) -> dict[str, Any]:
    """What is known before anything starts."""
    background = planned.background
    same = ("index", "experiment_id", "repo", "model", "mode", "foreground_mode", "max_retries", "timeout_seconds")
    return {
        **{name: getattr(planned, name) for name in same},
        "fraction": planned.fraction,
        "memory_mib": planned.memory_mib,
        "size": planned.size,
        "run_id": run_id,
        "session_id": session_id,
        "seed": seed,
        "requested_hyperparameters": dict(planned.hyperparameters),
        "mutated": list(planned.mutated),
        "background_repo": background.repo if background else None,
        "background_model": background.model if background else None,
        "background_hyperparameters": dict(background.hyperparameters) if background else None,
        "background_mode": background.mode if background else None,
        "background_checkout": background.checkout if background else None,
        "sharing": planned.sharing if background else None,
        **_thread_columns(planned),
        "checkout": planned.checkout,
    }


def _thread_columns(planned: PlannedRun) -> dict[str, float | None]:
    if planned.background is None or planned.sharing != "mps":
        return {"mps_active_thread_percent": None, "background_mps_active_thread_percent": None}
    return {
        "mps_active_thread_percent": planned.sm_percent(planned.fraction),
        "background_mps_active_thread_percent": planned.sm_percent(planned.background.fraction),
    }


def node_columns(node: NodeFacts) -> dict[str, Any]:
    return {
        "node_id": node.node_id,
        "ray_node_id": node.node_id,
        "host": node.hostname,
        "boot_id": node.boot_id,
        "gpu_uuid": node.gpu_uuid,
        "gpu_name": node.gpu_name,
        "gpu_uuids": list(node.gpu_uuids),
        "utc_anchor_ns": node.anchor.utc_ns,
        "mono_anchor_ns": node.anchor.monotonic_ns,
    }


def window_columns(report: ExitReport, node: NodeFacts, containment: str, argv: Sequence[str]) -> dict[str, Any]:
    """Times, exit status and use of the machine, as the keeper saw them."""
    t0_ns, t1_ns = report.t0_ns, report.t1_ns
    return {
        "started_at": node.utc(t0_ns),
        "ended_at": node.utc(t1_ns),
        "window_start_ns": t0_ns,
        "window_end_ns": t1_ns,
        "duration_s": (t1_ns - t0_ns) / 1e9 if t0_ns is not None and t1_ns is not None else None,
        "argv": list(argv),
        "exit_code": report.exit_code,
        "signal": report.signal,
        "end_cause": report.why,
        "cpu_s": report.cpu_s,
        "max_rss_mib": report.max_rss_mib,
        "left_behind": report.left_behind,
        "containment": containment,
    }


def outcome_columns(outcome: Outcome, events: TrainerEvents, t0_ns: int | None) -> dict[str, Any]:
    """What the trainer said of itself."""
    ready_ns, trained_ns = events.ready_t_ns, events.training_ns
    return {
        "hyperparameters": outcome.effective,
        "effective_source": outcome.effective_source,
        "metrics": dict(outcome.metrics),
        "primary_metric": outcome.primary_metric,
        "primary_metric_value": outcome.primary_value,
        "epochs_done": events.done.epochs if events.done else None,
        "ready_s": (ready_ns - t0_ns) / 1e9 if ready_ns is not None and t0_ns is not None else None,
        "training_s": (trained_ns[1] - trained_ns[0]) / 1e9 if trained_ns is not None else None,
        "data_source": events.data_source,
        "data_hash": events.data_hash,
        "problems": list(outcome.problems),
    }


def energy_columns(account: EnergyAccount) -> dict[str, Any]:
    """Every field of the account that is a column of `runs`."""
    names = {item.name for item in fields(account)} & set(RUNS.names) - {"null_reasons"}
    counter_j, integral_j = account.gpu_energy_j, account.gpu_energy_integral_j
    gap = None
    if counter_j and integral_j is not None:
        gap = 100 * (integral_j - counter_j) / counter_j
    return {
        **{name: getattr(account, name) for name in names},
        "energy_uncertainty_j": dict(account.uncertainty_j),
        "energy_uncertainty_parts_j": dict(account.uncertainty_parts_j),
        "gpu_energy_uncertainty_j": account.uncertainty_j.get("gpu_energy_j"),
        "cpu_package_energy_uncertainty_j": account.uncertainty_j.get("cpu_package_energy_j"),
        "gpu_counter_integral_gap_percent": gap,
    }


def derived_columns(derived: Derived, account: EnergyAccount) -> dict[str, Any]:
    """Energy above idle and the run's share of the CPU, with their +- beside those of the account."""
    return {
        "gpu_energy_net_j": derived.gpu_energy_net_j,
        "cpu_package_idle_power_w": derived.cpu_package_idle_power_w,
        "cpu_package_energy_net_j": derived.cpu_package_energy_net_j,
        "cpu_share_percent": derived.cpu_share_percent,
        "cpu_package_energy_run_j": derived.cpu_package_energy_run_j,
        "cpu_share_method": derived.cpu_share_method,
        "energy_uncertainty_j": {**account.uncertainty_j, **derived.uncertainty_j},
    }


def share_columns(shares: Shares, idle: IdlePower) -> dict[str, Any]:
    """The split of the GPU's energy, and what it was made with."""
    return {
        "gpu_energy_foreground_j": shares.foreground_j,
        "gpu_energy_background_j": shares.background_j,
        "gpu_energy_idle_j": shares.idle_j,
        "gpu_energy_other_j": shares.other_j,
        "gpu_attribution_method": shares.method,
        "gpu_attribution_confidence": shares.confidence,
        "gpu_energy_foreground_sm_ratio_j": shares.sm_ratio_foreground_j,
        "gpu_energy_background_sm_ratio_j": shares.sm_ratio_background_j,
        "gpu_sm_foreground_percent": shares.sm_foreground_percent,
        "gpu_sm_background_percent": shares.sm_background_percent,
        "gpu_idle_power_w": idle.power_w,
        "gpu_idle_power_uncertainty_w": idle.uncertainty_w if idle.power_w is not None else None,
    }


def background_columns(background: BackgroundFacts, node: NodeFacts) -> dict[str, Any]:
    starts = background.starts
    ends = [start.t1_ns for start in starts if start.t1_ns is not None]
    return {
        "background_starts": len(starts),
        "background_exit_codes": [exit_status(start) for start in starts if start.t1_ns is not None],
        "background_started_at": node.utc(min((start.t0_ns for start in starts), default=None)),
        "background_ended_at": node.utc(max(ends, default=None)),
        "background_gpu_uuid": background.gpu_uuid,
        "background_log_directory": background.log_directory,
        **_busy_columns(background.busy),
    }


def _busy_columns(busy: Busy | None) -> dict[str, Any]:
    if busy is None:
        return {}
    return {
        "background_busy_share": busy.share,
        "background_busy_method": busy.method,
        "background_gaps": busy.gaps,
        "background_gap_s": busy.gap_s,
        "background_trainings": busy.trainings,
        "background_epochs": busy.epochs,
        "background_epochs_worked": busy.epochs_worked,
    }


def exit_status(start: BackgroundStart) -> int | None:
    """Exit code, or minus the signal's number."""
    return -start.signal if start.signal is not None else start.exit_code


def verdict_columns(verdict: Verdict, findings: Sequence[Finding]) -> dict[str, Any]:
    failures = [f"{finding.reason}: {finding.evidence}" for finding in findings if finding.level == "fail"]
    return {
        "verdict": verdict.verdict,
        "reasons": list(verdict.reasons),
        "evidence": dict(verdict.evidence),
        "valid": verdict.valid,
        "safe": verdict.safe,
        "error_message": "; ".join(failures),
    }


def null_reasons(row: Mapping[str, Any], account: EnergyAccount, shares: Shares, idle: IdlePower) -> dict[str, str]:
    """Reasons that only the attempt knows; the store adds those that follow from the row."""
    reasons = dict(account.null_reasons)
    if shares.null_reason is not None:
        reasons |= dict.fromkeys((*SHARES, "gpu_attribution_method", "gpu_attribution_confidence"), shares.null_reason)
    if idle.power_w is None:
        reasons |= dict.fromkeys(IDLE_POWER, idle.null_reason or "not_recorded")
    unknown = "no_gpu" if row["gpu_uuid"] is None else "processes_not_told_apart"
    unknown = SEVERAL_GPUS if len(row["gpu_uuids"]) > 1 else unknown
    reasons |= {name: unknown for name in (*PLAIN, *MEMORY) if row.get(name) is None}
    if shares.null_reason is not None and shares.null_reason.startswith(NOT_SAMPLED):
        reasons |= {name: shares.null_reason for name in PLAIN if row.get(name) is None}
    if row["background_repo"] is None:
        reasons |= {name: "no_background" for name in (*PLAIN, *MEMORY) if "background" in name}
    if row["gpu_counter_integral_gap_percent"] is None:
        missing = reasons.get("gpu_energy_j") or reasons.get("gpu_energy_integral_j")
        reasons["gpu_counter_integral_gap_percent"] = missing or "counter_not_advancing"
    for column in ("gpu_energy", "cpu_package_energy"):
        if row[f"{column}_uncertainty_j"] is None:
            reasons[f"{column}_uncertainty_j"] = reasons.get(f"{column}_j", "not_recorded")
    reasons |= dict.fromkeys(("cooling_s", "cooling_end", "cooling_idle_proven"), "cooling_not_finished")
    if row["gpu_uuid"] is None:
        reasons |= dict.fromkeys(("gpu_uuid", "gpu_name", "background_gpu_uuid", "gpu_energy_by_device_j"), "no_gpu")
    if row["hyperparameters"] is None:
        reasons["hyperparameters"] = "not_reported_by_trainer"
    if row["background_repo"] is not None:
        names = ("busy_share", "busy_method", "gaps", "gap_s", "trainings", "epochs", "epochs_worked")
        reasons |= {f"background_{name}": "not_told" for name in names if row.get(f"background_{name}") is None}
    not_reported = ("epochs_done", "ready_s", "training_s", "data_source", "data_hash")
    reasons |= {name: "not_reported" for name in not_reported if row[name] is None}
    if row["primary_metric_value"] is None:
        reasons["primary_metric_value"] = "missing"
    return reasons


def interrupted_row(
    planned: PlannedRun, session_id: str, run_id: str, attempt: int, seed: int, verdict: Verdict, finding: Finding
) -> dict[str, Any]:
    """The row of an attempt that was cut short from outside before it could report."""
    known = {
        **planned_columns(planned, session_id, run_id, seed),
        **verdict_columns(verdict, [finding]),
        "attempt": attempt,
        "is_final": False,
        "effective_source": "none",
        "metrics": {},
        "energy_sources": {},
    }
    missing = [name for name in RUNS.names if known.get(name) is None and name not in ("null_reasons", "extra")]
    return {**known, "null_reasons": dict.fromkeys(missing, INTERRUPTED)}
