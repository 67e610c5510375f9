"""``profiler show``: a session's results, one row for each planned run, as a table or as JSON with typed values."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from profiler.cli import output
from profiler.cli.progress import energy_text
from profiler.cli.summary import energy_lines
from profiler.cli.tables import Heading, print_table

Row = Mapping[str, Any]


def execute(options: Namespace) -> int:
    """Prints the rows; 0 whatever the runs were. SessionError where there is no such session."""
    from profiler.store.read import open_session
    from profiler.store.rows import to_json

    session = open_session(Path(options.session))
    rows = session.rows()
    if options.safe:
        rows = [row for row in rows if row.get("safe") is True]
    if options.json:
        output.print_json({"session_id": session.session_id, "runs": to_json(rows)})
        return 0
    _print_rows(rows)
    output.print_result(_totals(session.session_id, rows, safe_only=options.safe))
    output.print_result("\n".join(energy_lines(rows)))
    return 0


def _print_rows(rows: Sequence[Row]) -> None:
    names = {row.get("primary_metric") for row in rows if row.get("primary_metric_value") is not None}
    name = names.pop() if len(names) == 1 else None  # one name for all stands in the heading
    headings = (
        Heading("run"),
        Heading("verdict"),
        Heading("values", long=True),
        Heading("time", figures=True),
        Heading("GPU", figures=True),
        Heading("CPU", figures=True),
        Heading(name or "metric", figures=True),
        Heading("try", figures=True),
        Heading("reasons", long=True),
    )
    print_table(headings, [_cells(row, name) for row in rows])


def _cells(row: Row, metric_name: str | None) -> tuple[str, ...]:
    metric = "-"
    if row.get("primary_metric_value") is not None:
        own_name = "" if metric_name else f"{row['primary_metric']} "
        metric = f"{own_name}{row['primary_metric_value']:.4g}"
    return (
        str(row.get("experiment_id") or "-"),
        str(row.get("verdict") or "not run"),
        _values(row),
        f"{row['duration_s']:.1f} s" if row.get("duration_s") is not None else "-",
        energy_text(row.get("gpu_energy_j")),
        energy_text(row.get("cpu_energy_total_j")),
        metric,
        str(row.get("attempt") or "-"),
        " ".join(reason for reason in row.get("reasons") or [] if reason != "no_energy_source") or "-",
    )


def _values(row: Row) -> str:
    """The mutated values, or all where none was mutated; effective ones where known, else the requested."""
    values: Mapping[str, Any] = row.get("hyperparameters") or row.get("requested_hyperparameters") or {}
    names = [name for name in row.get("mutated") or [] if name in values] or list(values)
    return " ".join(f"{name}={_short(values[name])}" for name in names) or "-"


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _totals(session_id: str, rows: Sequence[Row], *, safe_only: bool) -> str:
    if safe_only:
        return f"{session_id}: {len(rows)} safe runs"
    valid = sum(row.get("valid") is True for row in rows)
    safe = sum(row.get("safe") is True for row in rows)
    return f"{session_id}: {len(rows)} runs, {valid} valid, {safe} safe"
