"""The closing words of a campaign, made from its result rows. Pure: returns text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from profiler.cli.progress import duration_text, energy_text
from profiler.shell import quoted

Row = Mapping[str, Any]

ENERGIES = (
    ("gpu_energy_j", "GPU energy"),
    ("cpu_package_energy_j", "CPU package energy"),
    ("dram_energy_j", "DRAM energy"),
)


def closing_summary(rows: Sequence[Row], path: str) -> str:
    """How many runs ended how, the energy where known, the reasons, where the files are, and what to type next."""
    done = [row for row in rows if row.get("verdict") is not None]
    lines = ["", _counts(rows, done)]
    lines += energy_lines(done)
    lines += _reasons(done)
    lines += [
        f"summary             {Path(path) / 'summary.csv'}",
        f"dataset             {Path(path) / 'dataset'}",
        f"next                profiler show {quoted(path)}",
    ]
    if len(done) < len(rows) or any(row.get("verdict") == "failed" for row in rows):
        lines.append(f"                    profiler resume {quoted(path)} --retry-failed")
    return "\n".join(lines)


def _counts(rows: Sequence[Row], done: Sequence[Row]) -> str:
    valid = sum(row.get("valid") is True for row in done)
    safe = sum(row.get("safe") is True for row in done)
    failed = sum(row.get("verdict") == "failed" for row in done)
    spent_s = sum(row["duration_s"] for row in done if row.get("duration_s") is not None)
    text = f"runs                {len(rows)}: {valid} valid, {safe} safe, {failed} failed"
    if len(done) < len(rows):
        text += f", {len(rows) - len(done)} not run"
    return f"{text}; {duration_text(spent_s)} of training"


def energy_lines(rows: Sequence[Row]) -> list[str]:
    """A line on each kind of energy over the runs that have ended."""
    done = [row for row in rows if row.get("verdict") is not None]
    return [_energy(done, column, label) for column, label in ENERGIES] if done else []


def _energy(done: Sequence[Row], column: str, label: str) -> str:
    """The sum over the runs that have the figure; how many have it; the reason where none has."""
    known = [row[column] for row in done if row.get(column) is not None]
    if known:
        return f"{label:<20}{energy_text(sum(known))} in {len(known)} of {len(done)} runs"
    reasons = Counter(row["null_reasons"][column] for row in done if column in (row.get("null_reasons") or {}))
    why = ", ".join(reason for reason, _count in reasons.most_common())
    return f"{label:<20}not known" + (f" ({why})" if why else "")


def _reasons(done: Sequence[Row]) -> list[str]:
    counts = Counter(reason for row in done for reason in row.get("reasons") or [])
    if not counts:
        return []
    return ["reasons             " + ", ".join(f"{reason} ({count})" for reason, count in counts.most_common())]
