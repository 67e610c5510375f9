"""``profiler show``: a session's results, one row for each planned run, as a table or as JSON with typed values."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.cli import output
from profiler.cli.progress import energy_text

if TYPE_CHECKING:
    from rich.table import Table

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
    output.print_table(_table(rows))
    output.print_result(_totals(session.session_id, rows, safe_only=options.safe))
    return 0


def _table(rows: Sequence[Row]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("run", overflow="fold")
    table.add_column("verdict")
    table.add_column("values", overflow="fold")
    for heading in ("time", "GPU", "CPU", "metric"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("tries", justify="right")
    table.add_column("reasons", overflow="fold")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> tuple[str, ...]:
    metric = "-"
    if row.get("primary_metric_value") is not None:
        metric = f"{row['primary_metric']} {row['primary_metric_value']:.4g}"
    return (
        str(row.get("experiment_id") or "-"),
        str(row.get("verdict") or "not run"),
        _values(row),
        f"{row['duration_s']:.1f} s" if row.get("duration_s") is not None else "-",
        energy_text(row.get("gpu_energy_j")),
        energy_text(row.get("cpu_energy_total_j")),
        metric,
        str(row.get("attempt") or "-"),
        " ".join(row.get("reasons") or []) or "-",
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
