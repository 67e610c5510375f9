"""``profiler export``: a session's results as one CSV file in the old column names."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from profiler.cli import output
from profiler.errors import CannotRunError


def execute(options: Namespace) -> int:
    """Writes the file and prints its path. SessionError where there is no session, CannotRunError where no writing."""
    from profiler.store.export import to_csv
    from profiler.store.read import open_session

    target = Path(options.csv)
    session = open_session(Path(options.session))
    try:
        to_csv(session, target, options.safe)
    except OSError as error:
        raise CannotRunError(f"cannot write {target}: {error.strerror or error}") from error
    tell = output.print_result if target.is_file() else output.say  # the rows themselves can have gone to stdout
    tell(str(target))
    return 0
