"""``profiler export``: results as files of other shapes: CSV in the old column names, JSON, traces as CSV."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.cli import output
from profiler.errors import CannotRunError, UsageError

if TYPE_CHECKING:
    from profiler.store.collection import Sessions
    from profiler.store.read import Session

    Opened = Session | Sessions


def execute(options: Namespace) -> int:
    """Writes what was asked for and prints where. SessionError where there is no session, CannotRunError where no
    writing, UsageError where nothing is asked for."""
    from profiler.store.collection import open_results
    from profiler.store.export import to_csv, to_energy_folders, to_json_file

    wanted: list[tuple[str | None, Callable[[Opened, Path, bool], int]]] = [
        (options.csv, to_csv),
        (options.json_file, to_json_file),
        (options.energy, to_energy_folders),
    ]
    if not any(name for name, _ in wanted):
        raise UsageError("export what? give --csv FILE, --json FILE or --energy DIR")
    targets = [Path(name).resolve() for name, _ in wanted if name]
    if len(set(targets)) < len(targets):
        raise UsageError("each of --csv, --json and --energy needs a place of its own: two of them name the same one")
    opened = open_results(Path(options.session))
    for name, write in wanted:
        if name:
            _write(opened, Path(name), write, safe=options.safe)
    return 0


def _write(opened: Opened, target: Path, write: Callable[[Opened, Path, bool], int], *, safe: bool) -> None:
    try:
        write(opened, target, safe)
    except OSError as error:
        raise CannotRunError(f"cannot write {target}: {error.strerror or error}") from error
    # The rows themselves can have gone to stdout.
    tell = output.print_result if target.is_file() or target.is_dir() else output.say
    tell(str(target))
