"""Helpers for tests that run whole campaigns in a process of their own, on the quick workload of known behaviour."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

REPOS = Path(__file__).parent / "fakes" / "repos"


def environment(**extra: str) -> dict[str, str]:
    """This process's environment with the quick workload known to the program."""
    return {**os.environ, "PROFILER_REPOS": str(REPOS), **extra}


def config(folder: Path, experiments: list[dict[str, Any]], **top: Any) -> Path:
    """A config file with `experiments` in `folder`. Whoever else uses the CPUs here meanwhile is no subject of a test,
    unless it says so."""
    top = {"thresholds": {"cpu_contention": 1e6}, **top}
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump({"name": "test", "seed": 1, "mode": "default", **top, "experiments": experiments}))
    return path


def quick(**values: Any) -> dict[str, Any]:
    """One run of the quick trainer."""
    return {"repo": "quick", "model": "quick", "mode": "default", "hyperparameters": values}


def pair(foreground: Mapping[str, Any], background: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A run of the quick trainer beside another one; with the behaviour "work" that one keeps a CPU busy."""
    partner = {"repo": "quick", "model": "quick"}
    return {
        "mode": "parallel",
        "foreground": {**partner, "mode": "default", "hyperparameters": dict(foreground)},
        "background": {**partner, "hyperparameters": dict(background)},
        **more,
    }


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "profiler", *(str(argument) for argument in arguments)]


def run(*arguments: object, timeout_s: float = 120, **extra: str) -> subprocess.CompletedProcess[str]:
    """`profiler ARGUMENTS` to its end."""
    return subprocess.run(
        command(*arguments), env=environment(**extra), capture_output=True, text=True, timeout=timeout_s
    )


def run_json(*arguments: object, expect: int = 0, timeout_s: float = 120, **extra: str) -> Any:
    """`profiler ARGUMENTS --json`, which must end with `expect`; its one document."""
    result = run(*arguments, "--json", timeout_s=timeout_s, **extra)
    assert result.returncode == expect, result.stderr + result.stdout
    return json.loads(result.stdout)
