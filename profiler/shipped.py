"""Finds the folders of a campaign on this node: at the driver's path, or the first-party copy that came with the code.

Ray unpacks what travels with a job into folders of its own that are on Python's path. It copies nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_UNPACKED = "_ray_pkg_"


def found_folders(
    folders: Mapping[str, bool], *, prefer_shipped: bool, path: Sequence[str] | None = None
) -> dict[str, str | None]:
    """Each of `folders` (driver's path -> whether it is a first-party repository, which travels) with its place here;
    None where there is none. `prefer_shipped`: a folder of that name here need not be the driver's."""
    path = sys.path if path is None else path
    return {folder: _found(Path(folder), travels, prefer_shipped, path) for folder, travels in folders.items()}


def _found(folder: Path, travels: bool, prefer_shipped: bool, path: Sequence[str]) -> str | None:
    here = [folder] if folder.is_dir() else []
    shipped = list(_shipped(folder.name, path)) if travels else []
    places = [*shipped, *here] if prefer_shipped else [*here, *shipped]
    return str(places[0]) if places else None


def _shipped(name: str, path: Sequence[str]) -> Iterator[Path]:
    for entry in path:
        if _UNPACKED in entry:
            for parts in (("repos",), ("profiler", "_data", "repos")):
                folder = Path(entry, *parts, name)
                if (folder / "workload.yaml").is_file():
                    yield folder
