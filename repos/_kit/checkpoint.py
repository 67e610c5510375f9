"""Saves the trained state into the working directory, whole or not at all (needs torch)."""

import os
from pathlib import Path
from typing import Any

import torch

from _kit.run import Run

NAME = "checkpoint.pt"


def keep(run: Run, model: torch.nn.Module) -> None:
    """From now on `run` saves the state of `model` and the epochs done, at its end or when it is stopped."""
    run.save_checkpoint = lambda: save({"model": model.state_dict(), "epochs": run.epochs_done})


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
