"""The report of an import: what was taken over, what is wrong in it, what was left out; as JSON and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from profiler.legacy.findings import KINDS
from profiler.legacy.found import Skipped
from profiler.legacy.rows import Imported
from profiler.reasons import LEVELS
from profiler.store.rows import timestamp_text

Audit = dict[str, Any]


def make_audit(
    source: Path,
    session_id: str,
    when: datetime,
    imported: Sequence[Imported],
    rows: Sequence[Mapping[str, Any]],
    skipped: Sequence[Skipped],
    *,
    trusted: bool,
) -> Audit:
    """The audit of one import. `rows` are the stored rows of `imported`, in the same order."""
    counts = Counter(name for one in imported for name in {seen.name for seen in one.seen})
    verdicts = Counter(str(row["verdict"]) for row in rows)
    return {
        "source": str(source),
        "session_id": session_id,
        "imported_at": timestamp_text(when),
        "conditions_trusted": trusted,
        "counts": {
            "runs": len(rows),
            "parallel": sum(row["mode"] == "parallel" for row in rows),
            "samples": sum(row["samples"] or 0 for row in rows),
            "valid": sum(bool(row["valid"]) for row in rows),
            "safe": sum(bool(row["safe"]) for row in rows),
            "contaminated": verdicts["contaminated"],
            "failed": verdicts["failed"],
            "skipped": len(skipped),
        },
        "findings": {
            name: {
                "runs": counts[name],
                "level": kind.level,
                "reason": kind.reason,
                "meaning": kind.meaning,
                "handling": kind.handling,
            }
            for name, kind in KINDS.items()
            if counts[name]
        },
        "runs": [_run(one, row) for one, row in zip(imported, rows, strict=True)],
        "skipped": [{"path": one.path, "problem": one.problem, "lost": one.lost} for one in skipped],
    }


def _run(imported: Imported, row: Mapping[str, Any]) -> dict[str, Any]:
    recorded_j = row["imported_figures"].get("gpu_energy_total_joules")
    return {
        "run_id": row["run_id"],
        "experiment_id": row["experiment_id"],
        "original_id": imported.run.record.original_id,
        "original_timestamp": imported.run.record.timestamp,
        "place": imported.run.place,
        "repo": row["repo"],
        "model": row["model"],
        "mode": row["mode"],
        "background": f"{row['background_repo']}/{row['background_model']}" if row["background_repo"] else None,
        "verdict": row["verdict"],
        "reasons": row["reasons"],
        "recorded_gpu_energy_j": recorded_j,
        "gpu_energy_integral_j": row["gpu_energy_integral_j"],
        "gpu_energy_j": row["gpu_energy_j"],
        "findings": [{"name": one.name, "level": one.kind.level, "evidence": one.evidence} for one in imported.seen],
    }


def markdown(audit: Audit) -> str:
    """The audit for people: counts, findings, every run with its own, what was left out."""
    counts = audit["counts"]
    lines = [
        f"# Import of {audit['source']}",
        "",
        f"Session {audit['session_id']}, {audit['imported_at']}. {counts['runs']} runs ({counts['parallel']} parallel) "
        f"with {counts['samples']} samples: {counts['valid']} valid, {counts['safe']} safe, {counts['failed']} failed; "
        f"{counts['skipped']} entries left out.",
        "",
        "## Findings",
        "",
        "| finding | level | runs | meaning | what was done |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {found['level']} | {found['runs']} | {found['meaning']} | {found['handling']} |"
        for name, found in audit["findings"].items()
    ]
    lines += ["", "## Runs", ""]
    for run in audit["runs"]:
        lines += _run_lines(run)
    lines += ["## Left out", "", *([f"* `{one['path']}`: {one['problem']}" for one in audit["skipped"]] or ["nothing"])]
    return "\n".join(lines) + "\n"


def _run_lines(run: Mapping[str, Any]) -> list[str]:
    beside = f" beside {run['background']}" if run["background"] else ""
    worst_first = sorted(run["findings"], key=lambda one: LEVELS.index(one["level"]))
    return [
        f"### {run['experiment_id']}: {run['verdict']}",
        "",
        f"{run['repo']} / {run['model']}, {run['mode']}{beside}; "
        f"was {run['original_id']} of {run['original_timestamp']}, `{run['place']}`",
        "",
        *(f"* {one['level']} `{one['name']}`: {one['evidence']}" for one in worst_first),
        "",
    ]
