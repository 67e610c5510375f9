"""Where words go: results to stdout, everything else to stderr, one JSON document when asked for.

A reader of stdout that goes away (``| head``) ends nothing: the rest is written to nowhere and the exit code stays.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from fractions import Fraction
from pathlib import PurePath
from typing import IO, Any

from profiler.errors import CannotRunError, ConfigError, ProfilerError


def make_encodable() -> None:
    """Lets characters that the terminal's encoding lacks come out as escapes instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class StdoutLostError(CannotRunError):
    """The result could not be written to stdout. Nothing more can be, not even as JSON."""


def print_result(text: str) -> None:
    """Writes `text` and a line end to stdout."""
    _write(sys.stdout, text + "\n")


def print_json(document: Any) -> None:
    """Writes one JSON document to stdout; NaN and infinities become null."""
    print_result(json.dumps(json_ready(document), indent=2, ensure_ascii=False, allow_nan=False))


def say(text: str) -> None:
    """Writes `text` and a line end to stderr: progress, warnings, errors."""
    _write(sys.stderr, text + "\n")


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether `stream` is a terminal that understands more than plain lines."""
    return stream is not None and not stream.closed and stream.isatty() and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """Columns of the terminal, from COLUMNS or the terminal itself; 80 where nobody knows."""
    return shutil.get_terminal_size().columns


def report_error(error: ProfilerError, *, as_json: bool) -> None:
    """Says what is wrong: as ``{"errors": [...]}`` on stdout, else on stderr, one fault a line."""
    if as_json and not isinstance(error, StdoutLostError):
        print_json({"errors": error_entries(error)})
    elif isinstance(error, ConfigError):
        say("\n".join(f"error: {issue}" for issue in error.issues))
    else:
        say(f"error: {error}")


def error_entries(error: ProfilerError) -> list[dict[str, Any]]:
    """The faults as JSON-ready objects with file, path, value, message, suggestion."""
    if isinstance(error, ConfigError):
        return [issue.to_json() for issue in error.issues]
    return [{"file": None, "path": None, "value": None, "message": str(error), "suggestion": None}]


def json_ready(value: Any) -> Any:
    """`value` in the types of JSON. Non-finite numbers become None, times ISO 8601, unknown objects their text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_ready(item) for item in value]
    return _object_ready(value)


def _object_ready(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_ready(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return json_ready(value.tolist())
    return str(value)


@contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Sends everything that this process and its children write to stdout to stderr while the block runs.

    Ray's daemons and libraries may print; a result on stdout must not be mixed with that.
    """
    try:
        sys.stdout.flush()
        saved = os.dup(1)
    except (OSError, AttributeError, ValueError):  # stdout was closed by the caller
        yield
        return
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def _write(stream: IO[str] | None, text: str) -> None:
    if stream is None or stream.closed:
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _silence(stream)
    except OSError as error:
        if stream is not sys.stdout:
            return  # a message that cannot be written, such as to a log on a full disk, must not end a campaign
        _silence(stream)
        raise StdoutLostError(f"cannot write to stdout: {error.strerror}") from error


def _silence(stream: IO[str]) -> None:
    """Points the stream's descriptor to /dev/null, so that the flush at exit does not complain either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
