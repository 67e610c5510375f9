"""What every driver shares: the block that a tool measures, the times around it, and the answer. It knows no tool.

A driver runs as `python -m tests.conformance.drivers.NAME FOLDER cpu|gpu SECONDS`, in the tool's own environment, and
needs nothing but the standard library and the tool. It tells the stage that the tool is measuring (FOLDER/ready), waits
for the load's begin (FOLDER/go, CLOCK_MONOTONIC in ns), sleeps through the load, and writes FOLDER/answer.json. Where
several tools shall measure one load (CONFORMANCE_TOGETHER is set), it tells that it could measure, and begins at `go`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOOK_S = 0.01
WAIT_S = 120.0


def wait_for_go(folder: Path) -> None:
    """Tells that it is ready, and returns when FOLDER/go is there."""
    (folder / "ready").touch()
    go = folder / "go"
    deadline = time.monotonic() + WAIT_S
    while not go.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {go}: the stage did not begin")
        time.sleep(LOOK_S)


def block(folder: Path, seconds: float) -> tuple[int, int]:
    """What is measured: sleeps from the load's begin to its end. Returns both, CLOCK_MONOTONIC."""
    wait_for_go(folder)
    start_ns = int((folder / "go").read_text())
    end_ns = start_ns + round(seconds * 1e9)
    time.sleep(max(0.0, (start_ns - time.monotonic_ns()) / 1e9))
    time.sleep(max(0.0, (end_ns - time.monotonic_ns()) / 1e9))
    return start_ns, end_ns


class Driver:
    """The arguments, the four times around the block, and the answer."""

    def __init__(self) -> None:
        self.folder, self.device, self.seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
        self._times: list[int] = []

    def around_block(self, begin: Callable[[], Any], end: Callable[[], Any]) -> Any:
        """Calls `begin`, the block, `end`; returns what `end` did."""
        if "CONFORMANCE_TOGETHER" in os.environ:
            wait_for_go(self.folder)
        self.mark()
        begin()
        self.mark()
        self.run_block()
        self.mark()
        result = end()
        self.mark()
        return result

    def run_block(self) -> None:
        block(self.folder, self.seconds)

    def mark(self) -> None:
        self._times.append(time.monotonic_ns())

    def answer(self, energy_j: float | None, raw: object, reason: str | None = None) -> None:
        """`energy_j` as the tool tells it, in J; `raw`: what it told, in its own words and units."""
        answer = {"energy_j": energy_j, "reason": reason, "window_ns": self._times, "raw": raw}
        scratch = self.folder / "answer.part"
        scratch.write_text(json.dumps(answer, default=str))
        scratch.rename(self.folder / "answer.json")


if __name__ == "__main__":
    block(Path(sys.argv[1]), float(sys.argv[2]))
