"""Takes in the files of an attempt that come in pieces from another node. They appear in the run's folder together,
when all are there. It asks for nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profiler.store.layout import SessionFolder
from profiler.store.write import archive_attempt

_HIDDEN = ".arriving-"


def take_piece(folder: SessionFolder, experiment_id: str, attempt: int, piece: Mapping[str, Any]) -> None:
    """One piece {"path", "offset", "data"}, in any order of files; pieces of one file in order of their offsets.

    Raises ValueError for a path that leaves the run's folder."""
    name = Path(piece["path"])
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"a node sent a file called {piece['path']!r}")
    path = _arriving(folder, experiment_id, attempt) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(descriptor, piece["data"], piece["offset"])
        os.ftruncate(descriptor, piece["offset"] + len(piece["data"]))
    finally:
        os.close(descriptor)


def complete_arrival(folder: SessionFolder, experiment_id: str, attempt: int) -> None:
    """All pieces are there: put the attempt before aside, and the files in their place. Nothing if none came."""
    arriving = _arriving(folder, experiment_id, attempt)
    if not arriving.is_dir():
        return
    if attempt > 1:
        archive_attempt(folder, experiment_id, attempt - 1)
    for path in sorted(arriving.iterdir()):
        target = folder.run_folder(experiment_id) / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.rename(target)
    arriving.rmdir()


def drop_arrivals(folder: SessionFolder) -> None:
    """Remove what never became complete; what was finished will be sent again."""
    for path in folder.root.glob(f"*/{_HIDDEN}*"):
        shutil.rmtree(path)


def _arriving(folder: SessionFolder, experiment_id: str, attempt: int) -> Path:
    return folder.run_folder(experiment_id) / f"{_HIDDEN}{attempt}"
