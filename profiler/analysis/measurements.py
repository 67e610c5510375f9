"""Reads what `profiler measure --json` wrote: one measurement, many repetitions, or several of both in one file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from profiler.errors import UsageError

_MARKS = ("exit_code", "duration_s", "null_reasons")  # what every measurement has


def read_measurements(path: Path) -> list[dict[str, Any]]:
    """Each measurement in the file, in order; repetitions one by one. UsageError where the file holds anything else."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    found = [row for document in _documents(path, text) for row in _measurements(path, document)]
    if not found:
        raise UsageError(f"{path} holds no measurement; write one with: profiler measure --json -- COMMAND > {path}")
    return found


def _documents(path: Path, text: str) -> Iterator[Any]:
    """The JSON documents that follow each other in `text`; those of a list one by one."""
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        try:
            document, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise UsageError(
                f"{path} is neither a session folder nor the output of `profiler measure --json`: {error}"
            ) from error
        yield from document if isinstance(document, list) else [document]


def _measurements(path: Path, document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, dict) or not all(mark in document for mark in _MARKS):
        raise UsageError(f"{path} holds something else than measurements of `profiler measure --json`")
    if "versus" in document:
        raise UsageError(f"{path} already compares two commands (`comparison` in it); name files with one command each")
    return list(document.get("repetitions") or [document])
