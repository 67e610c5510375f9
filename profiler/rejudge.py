"""Judges one stored attempt again, from its row and what else is stored of it. Pure; it reads and writes no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiler import conditions
from profiler.assessment import host_oom
from profiler.energy.sample import Sample
from profiler.events import TrainerEvents
from profiler.metrics import Outcome
from profiler.reasons import limits
from profiler.record import outcome_columns, verdict_columns
from profiler.verdict import Finding, judge, judge_training, that_hold

if TYPE_CHECKING:
    from profiler.workloads import ModelSpec

ABOUT_TRAINING = frozenset(
    (
        "interrupted", "start_failed", "exit", "signal", "timeout", "oom", "data_missing", "not_finished",
        "metric_missing", "metric_out_of_range", "parameter_not_applied", "effective_unknown",
    )
)  # fmt: skip
"""Reasons that follow from how the trainer ended, its events and its log."""

_TICKS_AT_EDGES = 2


@dataclass(frozen=True)
class Said:
    """What a trainer said, read again, and the model whose manifest it was read with."""

    model: ModelSpec
    events: TrainerEvents
    outcome: Outcome


@dataclass(frozen=True)
class Stored:
    """What is stored of one attempt: its row, what the trainer said (None: pruned, or of an unknown model), its trace
    and its rows of `processes`."""

    row: Mapping[str, Any]
    said: Said | None
    samples: Sequence[Sample]
    processes: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class _Exit:
    """How the trainer ended, as the row tells it."""

    exit_code: int | None
    signal: int | None
    why: str
    error: str | None


def judged_again(stored: Stored, changed_limits: Mapping[str, float | None]) -> dict[str, Any]:
    """The columns of `runs` that a verdict consists of, for this attempt, by `changed_limits` (None: the default)."""
    row = stored.row
    limit = limits(changed_limits)
    observed = _observed(stored)
    columns: dict[str, Any] = {}
    if stored.said is not None and row["end_cause"] is not None:
        outcome, events = stored.said.outcome, stored.said.events
        columns |= outcome_columns(outcome, events, row["window_start_ns"])
        training = judge_training(
            _exit(row), outcome, events, row["requested_hyperparameters"], stored.said.model,
            host_oom=host_oom(row["oom_kills"]),
        )  # fmt: skip
    else:
        training = _as_stored(row, [name for name in row["reasons"] if name in ABOUT_TRAINING])
    findings = [*training, *that_hold(observed, limit)]
    columns |= verdict_columns(judge(findings), findings)
    columns |= {"observations": [finding.to_json() for finding in observed], "thresholds": limit}
    return columns | {"null_reasons": _null_reasons(row, columns, stored.said)}


def _exit(row: Mapping[str, Any]) -> _Exit:
    return _Exit(row["exit_code"], row["signal"], row["end_cause"], (row["evidence"] or {}).get("start_failed"))


def _as_stored(row: Mapping[str, Any], names: Sequence[str]) -> list[Finding]:
    return [Finding(name, (row["evidence"] or {}).get(name, "")) for name in names]


def _observed(stored: Stored) -> list[Finding]:
    """Everything seen of the conditions: as stored when the attempt ended, or anew where its rows are all there."""
    row = stored.row
    known = [Finding(**entry) for entry in row["observations"] or ()]
    if row["observations"] is None:  # of an older version, which kept only what held
        known = _as_stored(row, [name for name in row["reasons"] if name not in ABOUT_TRAINING])
    fresh = _from_rows(stored)
    by_reason = {name: [finding for finding in fresh if finding.reason == name] for name in conditions.FROM_ROWS}
    found: list[Finding] = []
    for finding in known:
        again = by_reason.get(finding.reason)
        found += [finding] if not again else [] if again[0] in found else again
    return [*found, *(finding for finding in fresh if finding not in found)]


def _from_rows(stored: Stored) -> list[Finding]:
    row = stored.row
    t0_ns, t1_ns = row["window_start_ns"], row["window_end_ns"]
    if t0_ns is None or t1_ns is None:
        return []
    found = list(conditions.strangers(stored.processes, t0_ns))
    on_gpu = [sample for sample in stored.samples if sample.device == row["gpu_uuid"] and not sample.missed]
    if len(on_gpu) >= (row["samples"] or 0) - (row["samples_missed"] or 0) - _TICKS_AT_EDGES:
        slowed = conditions.throttling(on_gpu, row["gpu_uuid"], t0_ns, t1_ns)
        found += [slowed] if slowed is not None else []
    return found


def _null_reasons(row: Mapping[str, Any], columns: Mapping[str, Any], said: Said | None) -> dict[str, str]:
    """The row's reasons, anew for the columns that were judged again."""
    kept = {name: why for name, why in row["null_reasons"].items() if name.partition(".")[0] not in columns}
    again = {name: row["null_reasons"].get(name, "not_reported") for name, value in columns.items() if value is None}
    return {**kept, **again, **(said.outcome.null_reasons if said is not None else {})}
