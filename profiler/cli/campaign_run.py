"""Conducts a campaign for ``run`` and ``resume``: shows it live, then sums it up and finds the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.cli import output
from profiler.cli.progress import Event
from profiler.cli.signals import INTERRUPTED, stop_on_signals
from profiler.cli.summary import closing_summary
from profiler.cli.view import open_view
from profiler.errors import CampaignInterruptedError, NotCopiedError, ProfilerError
from profiler.shell import quoted

if TYPE_CHECKING:
    from profiler.store.read import Session

Observer = Callable[[dict[str, Any]], None]


def conduct(start: Callable[[Observer], Session], *, as_json: bool) -> int:
    """Calls `start` with an observer, then prints the results to stdout. Returns the exit code."""
    view = open_view()
    try:
        with output.stdout_kept_clean(), view:
            session = start(_armed(view))
    except (CampaignInterruptedError, KeyboardInterrupt, SystemExit):  # SystemExit: Ray's own handler of SIGTERM
        return _interrupted(view.progress.session_id, view.progress.path, as_json=as_json)
    except NotCopiedError as error:
        from profiler.store.read import open_session

        conclude(open_session(error.root), path=str(error.root), as_json=as_json, not_copied=error.missing)
        output.say(f"error: {error}")
        return error.exit_code
    except ProfilerError:
        if view.progress.path is not None and Path(view.progress.path).is_dir():
            output.say(f"the session is kept; go on with: profiler resume {quoted(view.progress.path)}")
        raise
    return conclude(session, path=view.progress.path or str(session.root), as_json=as_json)


def conclude(session: Session, *, path: str, as_json: bool, not_copied: Sequence[str] | None = None) -> int:
    """Prints what came out. 0 if every planned run has a valid final attempt, else 1."""
    from profiler.store.rows import to_json

    rows = session.rows()
    if as_json:
        more = {} if not_copied is None else {"not_copied": not_copied}
        output.print_json({"session_id": session.session_id, "path": path, "runs": to_json(rows), **more})
    else:
        output.print_result(closing_summary(rows, path))
    return 0 if all(row["is_final"] and row["valid"] for row in rows) else 1


def _armed(view: Callable[[Event], None]) -> Observer:
    """The view as an observer that also keeps SIGTERM ours: starting Ray replaces the handler with its own."""

    def observe(event: dict[str, Any]) -> None:
        stop_on_signals()
        view(event)

    return observe


def _interrupted(session_id: str | None, path: str | None, *, as_json: bool) -> int:
    how = f"go on with: profiler resume {quoted(path)}" if path else "no session had been started"
    message = f"interrupted: everything is stopped; {how}"
    output.say(message)
    if as_json:
        error = {"file": None, "path": None, "value": None, "message": message, "suggestion": None}
        output.print_json({"session_id": session_id, "path": path, "errors": [error]})
    return INTERRUPTED
