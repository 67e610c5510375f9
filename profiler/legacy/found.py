"""Finds what an old result tree holds: run folders and summary files. It reads names and headers, no figures."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from pathlib import Path

from profiler.errors import SessionError
from profiler.shell import quoted

RECORD = "experiment.json"
ENERGY = "energy"
RUN_NAME = re.compile(r"(?P<name>.+)_(?P<number>\d{3,})(?P<parallel>_parallel)?")
SUMMARY_COLUMNS = {"experiment_id", "training_success"}


@dataclass(frozen=True)
class Skipped:
    """Something of the tree that was not imported: where, and why. `lost`: the import lacks what is in it."""

    path: str
    problem: str
    lost: bool = True


@dataclass(frozen=True)
class Tree:
    """What lies below `root`, in order of the paths."""

    root: Path
    run_folders: tuple[Path, ...]
    summaries: tuple[Path, ...]
    skipped: tuple[Skipped, ...]


def search(directory: Path) -> Tree:
    """What an import of `directory` would read. SessionError where there is nothing to import."""
    root = _checked(directory)
    folders: list[Path] = []
    summaries: list[Path] = []
    skipped: list[Skipped] = []

    def unreadable(error: OSError) -> None:
        skipped.append(Skipped(str(error.filename), f"cannot be read: {error.strerror}"))

    for name, inner, files in os.walk(root, onerror=unreadable):
        folder = Path(name)
        if (folder / "dataset" / "runs").is_dir():
            skipped.append(Skipped(str(folder), "is a session of this tool already", lost=False))
            inner.clear()
        elif RECORD in files or (RUN_NAME.fullmatch(folder.name) and (folder / ENERGY).is_dir()):
            folders.append(folder)
            inner.clear()
        else:
            inner.sort()
            if RUN_NAME.fullmatch(folder.name) and not inner and folder != root:
                skipped.append(Skipped(str(folder), f"has neither {RECORD} nor {ENERGY}/"))
            summaries += [folder / file for file in sorted(files) if is_summary(folder / file)]
    if not folders and not summaries:
        raise SessionError(_nothing(root, skipped))
    return Tree(root, tuple(folders), tuple(summaries), tuple(skipped))


def _checked(directory: Path) -> Path:
    if not directory.exists():
        raise SessionError(f"nothing at {directory}: name the folder of old results, such as results/default")
    if not directory.is_dir():
        raise SessionError(f"{directory} is a file; name the folder that it lies in")
    root = directory.resolve()
    if (root / "dataset" / "runs").is_dir():
        raise SessionError(f"{directory} is a session of this tool already: `profiler show {quoted(directory)}`")
    return root


def _nothing(root: Path, skipped: list[Skipped]) -> str:
    why = "; ".join(f"{one.path} {one.problem}" for one in skipped[:3])
    return (
        f"no old results in {root}: looked for folders with {RECORD} and for summary CSV files (columns "
        f"experiment_id, training_success){'; ' + why if why else ''}"
    )


def is_summary(path: Path) -> bool:
    """Whether the file is a CSV with the columns that every summary of the older tool has."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
            header = next(csv.reader(stream), [])
    except (OSError, csv.Error):
        return False
    return {name.strip() for name in header} >= SUMMARY_COLUMNS
