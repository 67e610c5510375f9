"""Keeps `.work` beside sessions bounded: work directories of failed attempts are evidence, but not for ever.

It never touches a directory of a session that a driver is working on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from profiler.store.files import remove
from profiler.store.layout import SessionFolder

KEPT = 40  # directories; an attempt has two: its work directory and its control directory


def prune_work(results: Iterable[Path], is_driven: Callable[[SessionFolder], bool], kept: int = KEPT) -> list[Path]:
    """Remove the oldest work directories under all of `results` beyond the newest `kept`; returns what was removed."""
    found = sorted((path for folder in results for path in _work(folder)), key=_changed, reverse=True)
    removed = []
    for path in found[kept:]:
        session = path.parent.parent / path.name.partition("-")[0]
        if session.is_dir() and is_driven(SessionFolder(session)):
            continue
        remove(path)
        removed.append(path)
    return removed


def _work(results: Path) -> Iterator[Path]:
    try:
        yield from (path for path in (results / ".work").iterdir() if path.suffix != ".result")  # nobody has those yet
    except FileNotFoundError:
        return


def _changed(path: Path) -> float:
    """When `path` was last changed; 0 when it has just gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
