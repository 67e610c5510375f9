"""``profiler compare``: two campaigns, or two measured commands, figure by figure, with intervals."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.cli import output
from profiler.cli.tables import Heading, print_table
from profiler.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from profiler.analysis.comparison import Comparison, GroupComparison, OutcomeComparison, Side
    from profiler.workloads import Catalog

HEADINGS = (
    Heading("figure"),
    Heading("A", figures=True),
    Heading("B", figures=True),
    Heading("B - A", figures=True),
    Heading("95 % interval", figures=True),
    Heading("%", figures=True),
    Heading("p", figures=True),
    Heading("different"),
    Heading("how"),
    Heading("note", long=True),
)


def execute(options: Namespace) -> int:
    """Prints the comparison; 0 whatever it says. UsageError where A or B is neither a session nor a measurement."""
    compared = _compared(Path(options.a), Path(options.b), safe_only=not options.all)
    if options.json:
        output.print_json(compared.to_json())
        return 0
    output.print_result("\n".join(_head(compared)))
    for group in compared.groups:
        _print_group(group)
    output.print_result(_closing(compared))
    return 0


def _compared(a: Path, b: Path, *, safe_only: bool) -> Comparison:
    from profiler.analysis.compare import compare_commands, compare_rows
    from profiler.analysis.measurements import read_measurements
    from profiler.store.read import open_session

    if a.is_file() != b.is_file() and a.exists() and b.exists():
        folder, file = (b, a) if a.is_file() else (a, b)
        raise UsageError(f"cannot compare a session ({folder}) with a measurement ({file}); name two of one kind")
    names = (str(a), str(b))
    if a.is_file() and b.is_file():
        return compare_commands(read_measurements(a), read_measurements(b), names=names)
    rows = [open_session(path).rows() for path in (a, b)]
    return compare_rows(rows[0], rows[1], _catalog(), names=names, safe_only=safe_only)


def _catalog() -> Catalog | None:
    """The manifests known here, for units of metrics; a bad one among them does not keep results from being read."""
    from profiler.workloads import load_catalog

    try:
        return load_catalog()
    except ConfigError as error:
        output.say(f"warning: manifests are not read, units of metrics are unknown: {error.issues[0]}")
        return None


def _head(compared: Comparison) -> Iterator[str]:
    yield f"A  {_side(compared.a)}"
    yield f"B  {_side(compared.b)}"
    if compared.a.name == compared.b.name:
        yield "note: A and B are the same"
    yield from (f"note: {note}" for note in compared.notes)
    yield ""


def _side(side: Side) -> str:
    left = ", ".join(f"{count} {reason}" for reason, count in side.excluded.items())
    return f"{side.name}: {side.used} of {side.runs} runs used" + (f" ({left})" if left else "")


def _print_group(group: GroupComparison) -> None:
    sides = ((group.a_gpu, group.a_runs), (group.b_gpu, group.b_runs))
    gpus = dict.fromkeys(gpu or "no GPU" for gpu, runs in sides if runs)
    where = "" if group.mode is None else f", {' against '.join(gpus)}"
    output.print_result(f"{group.title}{where}: {group.a_runs} and {group.b_runs} runs")
    shared = _shared_note(group)
    for note in filter(None, (*group.notes, shared)):
        output.print_result(f"note: {note}")
    if group.reason:
        output.print_result(f"not compared: {group.reason}\n")
    else:
        print_table(HEADINGS, [_cells(outcome, shared) for outcome in group.outcomes])


def _shared_note(group: GroupComparison) -> str | None:
    """The note that every known figure of the group has: it is told once."""
    notes = {outcome.note for outcome in group.outcomes if outcome.a_mean is not None}
    return notes.pop() if len(notes) == 1 else None


def _cells(outcome: OutcomeComparison, shared: str | None) -> tuple[str, ...]:
    note = outcome.note if outcome.note != shared else None
    interval = "-" if outcome.low is None else f"{_number(outcome.low)} .. {_number(outcome.high)}"
    verdict = {True: "yes", False: "no", None: "?"}[outcome.different]
    return (
        outcome.outcome,
        _number(outcome.a_mean),
        _number(outcome.b_mean),
        _number(outcome.difference),
        interval,
        "-" if outcome.percent is None else f"{outcome.percent:+.2f}",
        "-" if outcome.p_adjusted is None else f"{outcome.p_adjusted:.2g}",
        verdict,
        _how(outcome),
        "; ".join(filter(None, (outcome.reason, note, *_nulls(outcome)))) or "-",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _how(outcome: OutcomeComparison) -> str:
    if outcome.method is None:
        return "-"
    number = f"{outcome.pairs} pairs" if outcome.pairs is not None else f"{outcome.a_runs} and {outcome.b_runs} runs"
    return f"{outcome.method}, {number}"


def _nulls(outcome: OutcomeComparison) -> Iterator[str]:
    """Missing figures beside known ones; where all are missing, the reason says it already."""
    sides: tuple[tuple[str, Mapping[str, int]], ...] = (("A", outcome.a_nulls), ("B", outcome.b_nulls))
    for name, nulls in sides:
        if nulls and outcome.a_mean is not None:
            yield f"not known in {name}: " + ", ".join(f"{reason} ({count})" for reason, count in nulls.items())


def _closing(compared: Comparison) -> str:
    if compared.reason is not None:
        return f"nothing judged: {compared.reason}"
    return (
        f"{compared.different} of {compared.tests} tested figures differ "
        f"(p below {compared.alpha:g} after correction: {compared.correction})"
    )
