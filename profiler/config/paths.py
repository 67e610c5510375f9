"""Paths in a config: the kinds of value that are paths, and a path's absolute form. It looks at no file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profiler.config.faults import Faults
from profiler.config.kinds import WRONG, MapOf, Text, refuse

NAME_BYTES = 255
PATH_BYTES = 4095
"""The longest name of a file or folder, and the longest path, that Linux takes."""


def absolute_path(text: str) -> str:
    """`text` as an absolute path; relative ones are taken from the current directory, `~` is the home."""
    try:
        return str(Path(text).expanduser().absolute())
    except RuntimeError:  # "~name" of an unknown user is an ordinary name
        return str(Path(text).absolute())


class FilePath(Text):
    """A path that a file could have. Whether anything is there is not its business."""

    words = "path"

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        read = super().read(value, path, faults)
        if read is WRONG or _fits(absolute_path(read)):
            return read
        wanted = f"a path of at most {PATH_BYTES} bytes, {NAME_BYTES} in each name of it"
        return refuse(path, value, wanted, faults)


class PathOrMap:
    """A path, or a mapping from repositories to paths."""

    words = "path, or mapping repo -> path"

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if isinstance(value, Mapping):
            return MapOf(self.words, FilePath()).read(value, path, faults)
        if isinstance(value, str) and value.strip():
            return FilePath().read(value, path, faults)
        return refuse(path, value, "a path or a mapping repo -> path", faults)


def _fits(path: str) -> bool:
    lengths = [len(name.encode()) for name in path.split("/")]
    return len(path.encode()) <= PATH_BYTES and max(lengths) <= NAME_BYTES
