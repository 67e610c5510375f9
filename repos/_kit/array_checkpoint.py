"""Saves named arrays into the working directory, whole or not at all (needs numpy only)."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

NAME = "checkpoint.npz"


def save(arrays: Mapping[str, np.ndarray], folder: Path | None = None) -> Path:
    """Write `arrays` as checkpoint.npz: under a hidden name first, then renamed."""
    target = (folder or Path.cwd()) / NAME
    temporary = target.with_name(f".{NAME}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target
