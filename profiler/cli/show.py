"""``profiler show``: results, one row for each planned run, chosen and ordered as asked, as a table or as JSON.

The rows are those of one session, or of every session of a results folder.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.cli import output
from profiler.cli.progress import energy_text
from profiler.cli.summary import energy_lines
from profiler.cli.tables import EMPTY, Heading, print_table

if TYPE_CHECKING:
    from profiler.store.collection import Sessions
    from profiler.store.read import Session

Row = Mapping[str, Any]


def execute(options: Namespace) -> int:
    """Prints the rows; 0 whatever the runs were. SessionError where there is no such session, UsageError for an
    expression or a column that is wrong."""
    from profiler.store.collection import open_results
    from profiler.store.query import choose, flat_rows, known_column
    from profiler.store.rows import to_json

    opened = open_results(Path(options.session))
    rows = opened.rows()
    if options.safe:
        rows = [row for row in rows if row.get("safe") is True]
    shown: Sequence[Row] = rows
    if options.where or options.sort or options.columns:
        flat = flat_rows(rows)
        places = choose(flat, options.where, options.sort or ())
        names = [known_column(name, list(flat[0])) for name in options.columns or ()] if flat else []
        rows = [rows[place] for place in places]
        shown = [{name: flat[place][name] for name in names} for place in places] if options.columns else rows
    if options.json:
        output.print_json({**_identity(opened), "runs": to_json(shown)})
        return 0
    if options.columns:
        _print_columns(options.columns, shown)
    else:
        _print_rows(rows, many=not hasattr(opened, "session_id"))
    output.print_result(_totals(opened, rows, safe_only=options.safe))
    output.print_result("\n".join(energy_lines(rows)))
    return 0


def _identity(opened: Session | Sessions) -> dict[str, Any]:
    document = {"session_id": getattr(opened, "session_id", None)}
    sessions = getattr(opened, "sessions", None)
    return document if sessions is None else {**document, "sessions": [session.session_id for session in sessions]}


def _print_columns(names: Sequence[str], rows: Sequence[Row]) -> None:
    from profiler.store.rows import timestamp_text, to_json

    def cell(value: Any) -> str:
        if value is None:
            return EMPTY
        if hasattr(value, "astimezone"):
            return timestamp_text(value)
        return str(to_json(value))

    headings = [Heading(name, figures=_is_figure(name, rows)) for name in names]
    print_table(headings, [[cell(row.get(name)) for name in names] for row in rows])


def _is_figure(name: str, rows: Sequence[Row]) -> bool:
    values = [row[name] for row in rows if row.get(name) is not None]
    return bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _print_rows(rows: Sequence[Row], *, many: bool) -> None:
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
    session = [Heading("session")] if many else []
    cells = [(*([str(row["session_id"])] if many else []), *_cells(row, name)) for row in rows]
    print_table([*session, *headings], cells)


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


def _totals(opened: Session | Sessions, rows: Sequence[Row], *, safe_only: bool) -> str:
    from profiler.store.read import Session

    name = getattr(opened, "session_id", None) or str(opened.root)
    if safe_only:
        return f"{name}: {len(rows)} safe runs"
    valid = sum(row.get("valid") is True for row in rows)
    safe = sum(row.get("safe") is True for row in rows)
    source = opened.imported_from() if isinstance(opened, Session) else None
    imported = f"; imported from {source}, see {opened.root / 'audit.md'}" if source else ""
    return f"{name}: {len(rows)} runs, {valid} valid, {safe} safe{imported}"
