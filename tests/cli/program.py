"""Runs the real `profiler` program in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How the program ended and what it wrote."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """stdout as strict JSON: one document, no NaN."""
        return json.loads(self.out, parse_constant=_refuse)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def profiler(
    *arguments: str | Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    user: int | None = None,
    timeout_s: float = 60,
) -> Ended:
    """``python -m profiler ARGUMENTS``. `user`: an ordinary user's id to run as."""
    ended = subprocess.run(
        [sys.executable, "-m", "profiler", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        user=user,
        group=user,
        extra_groups=[] if user is not None else None,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
