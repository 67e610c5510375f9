"""Puts an old run into the shapes of the store: a row of `runs`, an entry of the plan, rows of `samples`.

It detects nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from profiler.legacy.clock import Times
from profiler.legacy.energies import Energies, recorded_figures
from profiler.legacy.findings import Seen, names_of
from profiler.legacy.identity import Identity
from profiler.legacy.scores import Scores
from profiler.legacy.sources import OldRun
from profiler.legacy.values import Values
from profiler.store.schema import SAMPLES
from profiler.verdict import Finding, Verdict, judge

NODE = "imported"
DEVICE = "gpu"
"""Old files do not say which GPU it was."""


@dataclass(frozen=True)
class Imported:
    """An old run, read and checked. `background`: its identity and recorded values, None for a solo run."""

    run: OldRun
    index: int
    experiment_id: str
    identity: Identity
    background: tuple[Identity, dict[str, Any]] | None
    values: Values
    scores: Scores
    energies: Energies
    times: Times
    seen: tuple[Seen, ...]

    @property
    def mode(self) -> str:
        return "parallel" if self.run.record.parallel else self.values.foreground_mode

    @property
    def boot_id(self) -> str:
        """Nothing tells which old runs share a boot: each has one of its own, whose clock is the wall clock."""
        return f"imported-{self.index:03d}"


def verdict_of(seen: Sequence[Seen]) -> Verdict:
    """The verdict that follows from the findings; those without a reason of their own stand under `imported`."""
    findings = [Finding(one.kind.reason, f"{one.name}: {one.evidence}") for one in seen if _own_reason(one)]
    others = [one for one in seen if not _own_reason(one)]
    text = f"from an older tool's record; {', '.join(names_of(others))}" if others else "from an older tool's record"
    return judge([*findings, Finding("imported", text)])


def _own_reason(one: Seen) -> bool:
    return one.kind.reason != "imported"


def plan_entry(imported: Imported) -> dict[str, Any]:
    """The planned run that the old run stands for."""
    background = None
    if imported.background is not None:
        identity, values = imported.background
        background = {"repo": identity.repo, "model": identity.model, "hyperparameters": values, "mode": None}
    return {
        "index": imported.index,
        "experiment_id": imported.experiment_id,
        "repo": imported.identity.repo,
        "model": imported.identity.model,
        "mode": imported.mode,
        "foreground_mode": imported.values.foreground_mode,
        "hyperparameters": dict(imported.values.requested),
        "mutated": list(imported.values.mutated),
        "background": background,
        "imported": True,
    }


def run_row(imported: Imported, session_id: str, run_id: str, root: Path) -> dict[str, Any]:
    """The row of `runs`; what it leaves out is null because it is not recorded."""
    record, verdict = imported.run.record, verdict_of(imported.seen)
    failed_text = record.error_message if not verdict.valid or not record.success else ""
    return {
        **plan_columns(imported),
        **_trace_columns(imported),
        **imported.energies.values,
        **_background_columns(imported),
        "run_id": run_id,
        "session_id": session_id,
        "attempt": (record.retries or 0) + 1,
        "is_final": True,
        "started_at": imported.times.started_at,
        "ended_at": imported.times.ended_at,
        "duration_s": record.duration_s,
        "hyperparameters": imported.values.effective,
        "effective_source": "argv" if imported.values.effective is not None else "none",
        "error_message": failed_text or "",
        "metrics": dict(imported.scores.metrics),
        "primary_metric": imported.scores.primary,
        "primary_metric_value": imported.scores.primary_value,
        "energy_sources": dict(imported.energies.sources),
        "energy_uncertainty_j": dict(imported.energies.uncertainty_j),
        "imported_figures": dict(recorded_figures(imported.run)),
        "verdict": verdict.verdict,
        "reasons": list(verdict.reasons),
        "evidence": dict(verdict.evidence),
        "valid": verdict.valid,
        "safe": verdict.safe,
        "extra": {"import": _origin(imported, root)},
        "null_reasons": _null_reasons(imported),
    }


def plan_columns(imported: Imported) -> dict[str, Any]:
    entry = plan_entry(imported)
    names = ("index", "experiment_id", "repo", "model", "mode", "foreground_mode", "mutated")
    return {**{name: entry[name] for name in names}, "requested_hyperparameters": entry["hyperparameters"]}


def _trace_columns(imported: Imported) -> dict[str, Any]:
    """The window is that of the trace: nothing else was stamped by a clock that can be compared."""
    ticks = imported.run.trace.ticks
    if not ticks:
        return {}
    return {
        "node_id": NODE,
        "boot_id": imported.boot_id,
        "window_start_ns": ticks[0].t_ns,
        "window_end_ns": ticks[-1].t_ns,
        "samples": len(ticks),
    }


def _background_columns(imported: Imported) -> dict[str, Any]:
    if imported.background is None:
        return {}
    identity, values = imported.background
    return {
        "background_repo": identity.repo,
        "background_model": identity.model,
        "background_hyperparameters": values,
    }


def _origin(imported: Imported, root: Path) -> dict[str, Any]:
    """Where the run comes from, with everything its record said."""
    run = imported.run
    folder = str(run.folder.relative_to(root)) if run.folder is not None else None
    return {
        "experiment_id": run.record.original_id,
        "timestamp": run.record.timestamp,
        "folder": folder,
        "record": dict(run.record.document),
        "summaries": [
            {"file": str(row.path.relative_to(root)), "line": row.line, "cells": dict(row.cells)} for row in run.rows
        ],
        "findings": [{"name": one.name, "evidence": one.evidence} for one in imported.seen],
    }


def _null_reasons(imported: Imported) -> dict[str, str]:
    times = dict.fromkeys(("started_at", "ended_at"), imported.times.null_reason)
    traceless = {} if imported.run.trace.ticks else {"window_start_ns": "no_trace", "window_end_ns": "no_trace"}
    values = {} if imported.values.effective is not None else {"hyperparameters": "not_recorded"}
    alone = {} if imported.run.record.parallel else {"background_repo": "no_background"}
    return {
        **times,
        **traceless,
        **values,
        **alone,
        **imported.values.nulls,
        **imported.scores.nulls,
        **imported.energies.nulls,
    }


_READ = ("power_w", "temp_c", "memory_temp_c", "util_percent", "memory_util_percent")


def sample_table(imported: Imported) -> pa.Table:
    """The trace as a table of `samples`, one row a line of the old sampler."""
    ticks = imported.run.trace.ticks
    times = [tick.t_ns for tick in ticks]
    same = {"node_id": NODE, "boot_id": imported.boot_id, "source": "imported", "device": DEVICE, "scope": "gpu"}
    columns: dict[str, Any] = {
        "t_mono_ns": times,
        "t_utc_ns": times,
        "tick": range(len(ticks)),
        "missed": [False] * len(ticks),
        "null_reason": ["not_recorded"] * len(ticks),
        **{name: [text] * len(ticks) for name, text in same.items()},
        **{name: [getattr(tick, name) for tick in ticks] for name in _READ},
    }
    nothing = [None] * len(ticks)
    return pa.table({column.name: pa.array(columns.get(column.name, nothing), column.type) for column in SAMPLES})
