"""``profiler status``: which runs of this tool are held now, live or left over, and which campaigns are driven, here or
on every node. Ends nothing."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.cli import output
from profiler.cli.main import CANNOT
from profiler.cli.tables import Heading, print_table

if TYPE_CHECKING:
    from profiler.store.layout import SessionFolder


def execute(options: Namespace) -> int:
    """Prints one line for each run in work and each live campaign; with SESSION only those of that session, and how far
    it is. 0, or 3 when a node did not answer."""
    session: dict[str, Any] = {}
    if options.session is not None:
        from profiler.driver_lock import driver_of
        from profiler.store.read import open_session

        opened = open_session(Path(options.session))
        driver = driver_of(opened.folder)
        session = {"session_id": opened.session_id, "counts": opened.counts(), "driver": driver}
        answers = [_only(opened.folder, answer) for answer in _ask(options.address)]
    else:
        answers = _ask(options.address)
    if options.json:
        nodes = answers[0] if options.address is None else {"nodes": answers}
        output.print_json({**session, **nodes})
    else:
        _print(session, answers, everywhere=options.address is not None)
    return CANNOT if any("error" in answer for answer in answers) else 0


def _ask(address: str | None) -> list[dict[str, Any]]:
    from profiler.leftovers import held_runs

    if address is None:
        return [held_runs()]
    from profiler._own import on_every_node

    with output.stdout_kept_clean():
        return on_every_node(address, held_runs)


def _only(folder: SessionFolder, answer: dict[str, Any]) -> dict[str, Any]:
    """What belongs to the session that was asked for."""
    if "error" in answer:
        return answer
    mine = [run for run in answer["processes"] if run["session_key"] == folder.key]
    drivers = [driver for driver in answer["drivers"] if driver["session"] == str(folder.root)]
    return {**answer, "processes": mine, "leftover_cgroups": [], "drivers": drivers}


def _print(session: Mapping[str, Any], answers: list[dict[str, Any]], *, everywhere: bool) -> None:
    if session:
        counts = ", ".join(f"{count} {name}" for name, count in session["counts"].items())
        output.print_result(f"{session['session_id']}: {counts}")
        output.print_result(_driven(session["driver"]))
    for answer in answers:
        if "error" in answer:
            output.say(f"error: {answer['hostname']} did not answer: {answer['error']}")
        else:
            place = f"on {answer['hostname']}" if everywhere else "on this machine"
            _print_node(answer, place, "training of it" if session else "training")
            if not session:
                _print_drivers(answer, place)
    left = sum(map(_left, answers))
    if left:
        output.print_result(f"{left} left over; end them with: profiler reap{' --address ADDR' if everywhere else ''}")


def _print_node(answer: Mapping[str, Any], where: str, what: str) -> None:
    runs = answer["processes"]
    if runs:
        print_table(HEADINGS, map(_cells, runs))
    output.print_result(f"{len(runs)} in work {where}" if runs else f"no {what} is in work {where}")


def _print_drivers(answer: Mapping[str, Any], where: str) -> None:
    for driver in answer["drivers"]:
        output.print_result(f"{driver['session']} is driven by process {driver['pid']} {where}")


def _driven(driver: Mapping[str, Any] | None) -> str:
    from profiler.driver_lock import driver_text

    return f"driven by {driver_text(driver)}" if driver else "no process drives it now"


def _left(answer: Mapping[str, Any]) -> int:
    if "error" in answer:
        return 0
    return len([run for run in answer["processes"] if run["leftover"]]) + len(answer["leftover_cgroups"])


HEADINGS = tuple(map(Heading, ("run", "attempt", "role", "containment", "processes", "keeper", "owner", "state")))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    known = (row["run"], row["attempt"], row["role"], row["containment"], len(row["pids"]), row["keeper_pid"])
    state = "left over" if row["leftover"] else "live"
    return (*("-" if cell is None else str(cell) for cell in known), str(row["owner_pid"]), state)
