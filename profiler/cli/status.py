"""``profiler status``: which runs of this tool are held on this machine now, live or left over. Ends nothing."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.cli import output
from profiler.cli.tables import Heading, print_table

if TYPE_CHECKING:
    from profiler.process.find import KeeperInfo


def execute(options: Namespace) -> int:
    """Prints one line for each run in work; with SESSION only those of that session, and how far it is."""
    from profiler.process.find import find_keepers, leftover_cgroups

    keepers = find_keepers()
    document: dict[str, Any] = {}
    if options.session is not None:
        from profiler.store.read import open_session

        session = open_session(Path(options.session))
        keepers = [keeper for keeper in keepers if keeper.labels.get("session") == session.session_id]
        document = {"session_id": session.session_id, "counts": session.counts()}
    document["processes"] = [keeper_json(keeper) for keeper in keepers]
    document["leftover_cgroups"] = [] if options.session is not None else [str(path) for path in leftover_cgroups()]
    if options.json:
        output.print_json(document)
    else:
        _print(document)
    return 0


def keeper_json(keeper: KeeperInfo) -> dict[str, Any]:
    """What is known of one run in work."""
    from profiler.process.find import pids_of

    labels = keeper.labels
    return {
        "keeper_pid": keeper.pid,
        "session": labels.get("session"),
        "run": labels.get("run"),
        "attempt": int(labels["attempt"]) if labels.get("attempt", "").isdigit() else None,
        "role": labels.get("role"),
        "containment": keeper.containment,
        "owner_pid": keeper.owner_pid,
        "leftover": keeper.leftover,
        "pids": sorted(pids_of(keeper)),
    }


def _print(document: dict[str, Any]) -> None:
    if "counts" in document:
        counts = ", ".join(f"{count} {name}" for name, count in document["counts"].items())
        output.print_result(f"{document['session_id']}: {counts}")
    rows = document["processes"]
    if rows:
        print_table(HEADINGS, map(_cells, rows))
    left = sum(row["leftover"] for row in rows) + len(document["leftover_cgroups"])
    output.print_result(f"{len(rows)} in work on this machine" if rows else "nothing runs on this machine")
    if left:
        output.print_result(f"{left} left over; end them with: profiler reap")


HEADINGS = tuple(map(Heading, ("run", "attempt", "role", "containment", "processes", "keeper", "owner", "state")))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    known = (row["run"], row["attempt"], row["role"], row["containment"], len(row["pids"]), row["keeper_pid"])
    state = "left over" if row["leftover"] else "live"
    return (*("-" if cell is None else str(cell) for cell in known), str(row["owner_pid"]), state)
