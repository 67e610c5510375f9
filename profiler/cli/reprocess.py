"""``profiler reprocess``: judges a stored session again and tells what changed. It runs no training."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.cli import output
from profiler.cli.tables import Heading, print_table

if TYPE_CHECKING:
    from profiler.reprocess import Change, Reprocessed

HEADINGS = (
    Heading("run"),
    Heading("try", figures=True),
    Heading("verdict"),
    Heading("reasons", long=True),
    Heading("changed", long=True),
)
SHOWN_COLUMNS = ("verdict", "valid", "safe", "reasons", "evidence", "null_reasons", "tool_version", "error_message")


def execute(options: Namespace) -> int:
    """Prints the changes; 0 whatever the runs are. SessionError where there is no session or a driver holds it."""
    from profiler.reprocess import reprocess

    done = reprocess(Path(options.session), _limits(options.overrides))
    if options.json:
        output.print_json(done)
        return 0
    for note in done.notes:
        output.say(f"note: {note.run_id} attempt {note.attempt}: {note.text}")
    _print(done)
    return 0


def _limits(overrides: list[str]) -> Mapping[str, float | None]:
    """The thresholds that `--set thresholds.REASON=N` names. ConfigError for anything else."""
    from profiler.config.faults import Faults
    from profiler.config.limits import Limits
    from profiler.config.overrides import apply_overrides

    faults = Faults("command line")
    document = apply_overrides({"thresholds": {}}, overrides, faults)
    for key in document:
        if key != "thresholds":
            faults.add(str(key), document[key], "only thresholds can be set here", "thresholds.REASON=NUMBER")
    faults.raise_if_any()
    said = document["thresholds"]
    numbers = Limits().read(said, "thresholds", faults)
    faults.raise_if_any()
    return {name: numbers.get(name) for name in said}


def _print(done: Reprocessed) -> None:
    if done.changes:
        print_table(HEADINGS, [_cells(change) for change in done.changes])
    judged = len({change.run_id for change in done.changes if change.verdict != change.verdict_before})
    output.print_result(
        f"{done.session_id}: {done.attempts} attempts judged again, {len(done.changes)} changed, "
        f"{judged} runs with another verdict"
    )


def _cells(change: Change) -> tuple[str, ...]:
    from profiler.reprocess import changed_reasons

    same = change.verdict == change.verdict_before
    return (
        change.experiment_id,
        str(change.attempt),
        change.verdict if same else f"{change.verdict_before} -> {change.verdict}",
        " ".join(changed_reasons(change)) or "-",
        " ".join(name for name in change.columns if name not in SHOWN_COLUMNS) or "-",
    )
