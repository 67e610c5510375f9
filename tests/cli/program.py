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
    *arguments: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None, timeout_s: float = 60
) -> Ended:
    """``python -m profiler ARGUMENTS``."""
    return run([sys.executable, "-m", "profiler", *map(str, arguments)], cwd, environment, timeout_s)


def profiler_as(user: int, warm_up: list[str], *arguments: str | Path, timeout_s: float = 60) -> Ended:
    """The same as an ordinary user, in /.

    That user may not reach this Python's own files, so root runs the line `warm_up` before, which loads the modules."""
    text = (
        "import contextlib, io, os, sys\n"
        "from profiler import _own\n"
        "from profiler.cli.main import main\n"
        "_own.driver()\n"
        f"with contextlib.redirect_stdout(io.StringIO()): main({warm_up!r})\n"
        f"os.setgroups([]); os.setgid({user}); os.setuid({user})\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    return run([sys.executable, "-c", text, *map(str, arguments)], Path("/"), None, timeout_s)


def run(line: list[str], cwd: Path | None, environment: Mapping[str, str] | None, timeout_s: float) -> Ended:
    ended = subprocess.run(
        line,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
