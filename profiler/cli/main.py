"""The command line's entry: parses, runs one command, turns errors into messages and exit codes. Nothing else.

Exit codes: 0 all well, 1 some run has no valid final attempt, 2 bad config or usage, 3 this machine cannot do it,
130 interrupted. `measure` ends with the measured command's own code.
"""

from __future__ import annotations

import errno
import importlib
import keyword
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from profiler.cli import output
from profiler.cli.parser import build_parser, parse
from profiler.cli.signals import INTERRUPTED, stop_on_signals
from profiler.errors import ProfilerError, UsageError

CANNOT = 3
READS_MANIFESTS = ("run", "plan", "list", "resume", "reprocess", "coverage")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns the exit code. `arguments` defaults to those of the process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    stop_on_signals()
    output.make_encodable()
    as_json = "--json" in (words[: words.index("--")] if "--" in words else words)
    try:
        options = parse(words)
        as_json = getattr(options, "json", False)
        return _dispatch(options)
    except ProfilerError as error:
        output.report_error(error, as_json=as_json)
        return error.exit_code
    except KeyboardInterrupt:
        output.report_error(ProfilerError("interrupted"), as_json=as_json)
        return INTERRUPTED
    except OSError as error:
        # A path that no file can have was given on the command line; all others fail because of this machine.
        kind = UsageError if error.errno == errno.ENAMETOOLONG else ProfilerError
        output.report_error(kind(os_error_text(error)), as_json=as_json)
        return kind.exit_code
    except Exception as error:  # noqa: BLE001 - the border: a defect of ours ends with a record and code 3, never as "1"
        import traceback

        output.say(traceback.format_exc().rstrip())
        output.report_error(ProfilerError(f"defect of profiler: {type(error).__name__}: {error}"), as_json=as_json)
        return CANNOT


def _dispatch(options: Namespace) -> int:
    if options.list_models:
        options.command = "list"
    if options.command in READS_MANIFESTS:
        _warn_of_missing_folders()
    if options.command is None:
        output.print_result(build_parser().format_help().rstrip())
        return 0
    command = importlib.import_module(f"profiler.cli.{module_name(options.command)}")
    return int(command.execute(options))


def module_name(command: str) -> str:
    """The module of a command in `profiler.cli`: its name, with a line below where that is a word of Python."""
    return f"{command}_" if keyword.iskeyword(command) else command


def _warn_of_missing_folders() -> None:
    """A mistyped folder of manifests would otherwise only show as models that nobody knows."""
    for part in os.environ.get("PROFILER_REPOS", "").split(os.pathsep):
        if part and not Path(part).is_dir():
            output.say(f"warning: PROFILER_REPOS names {part}, which is no folder; its repositories are not known")


def os_error_text(error: OSError) -> str:
    """What failed, on which file, and why."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason
