"""``profiler report``: a session as one HTML file for eyes, paper and screen readers."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

from profiler.cli import output

QUIET_S = 2.0
"""Words on long work come at most this often, and not at all where it is shorter."""


def execute(options: Namespace) -> int:
    """Writes the file and prints its path. SessionError where there is no session, CannotRunError where no writing."""
    from profiler.report import write_report
    from profiler.store.read import open_session

    session = open_session(Path(options.session))
    target = Path(options.output) if options.output else session.root / "report.html"
    write_report(session, target, traces=options.trace, tell=_Teller())
    tell = output.print_result if target.is_file() else output.say  # the page itself can have gone to stdout
    tell(str(target))
    return 0


class _Teller:
    """Says on stderr what is going on, where that takes long."""

    def __init__(self) -> None:
        self._said_s = time.monotonic()

    def __call__(self, text: str) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s >= QUIET_S:
            self._said_s = now_s
            output.say(f"report: {text}")
