"""Saves the trained state into the working directory, whole or not at all (needs torch)."""

import os
from pathlib import Path
from typing import Any

import torch

NAME = "checkpoint.pt"


def save(state: dict[str, Any], folder: Path | None = None) -> Path:
    """Write `state` as checkpoint.pt: under a hidden name first, then renamed. Nothing ever reads an earlier one."""
    target = (folder or Path.cwd()) / NAME
    temporary = target.with_name(f".{NAME}.{os.getpid()}")
    try:
        torch.save(state, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target
