"""Paths in lines that are meant for a shell, such as what to type next. It runs nothing."""

from __future__ import annotations

import shlex
from pathlib import Path


def quoted(path: str | Path) -> str:
    """`path` as one word of a shell, in quotes where it needs them."""
    return shlex.quote(str(path))
