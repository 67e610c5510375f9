"""The tools that measure beside a benchmark: which there are, and one of them as a process that is told on and off."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from profiler import __version__
from tests.benchmarks.cpu_time import tree
from tests.conformance.environments import PINS, ROOT, Peer, peers, prepare

# Faster than this its own documentation does not go.
CODECARBON_MAX_HZ = 10.0
ANSWER_S = 120.0  # a busy machine takes long to import some tools


@dataclass(frozen=True)
class Tool:
    """`module` in tests.benchmarks.sides; `python` of its environment; `peer` None: this project."""

    label: str
    module: str
    python: Path
    peer: Peer | None = None
    max_rate_hz: float = float("inf")


def tools(wanted: str) -> list[Tool]:
    """This project and the peers that are `wanted`: "all", "none", or names. SystemExit for a name that is unknown."""
    found = [Tool(f"this project {__version__}", "own", Path(sys.executable))]
    if wanted == "none":
        return found
    names = ("zeus", "codecarbon") if wanted == "all" else tuple(wanted.lower().split(","))
    newest = {peer.name: peer for peer in peers(PINS.read_text())}  # the last line of a peer that has several
    for name in names:
        if name not in ("zeus", "codecarbon"):
            raise SystemExit(f"--peers: {name!r} is not zeus or codecarbon")
        peer = newest[name]
        if name == "codecarbon":
            found.append(Tool(f"CodeCarbon {peer.version}", name, peer.python, peer, CODECARBON_MAX_HZ))
        else:
            found.append(Tool(f"ZeusMonitor {peer.version} (no samples)", name, peer.python, peer, 1.0))
            found.append(Tool(f"Zeus PowerMonitor {peer.version}", "zeus_power", peer.python, peer))
    return found


class Side:
    """A running tool. `error`: why there is none, or what it said when it ended."""

    def __init__(self, tool: Tool, environment: Mapping[str, str]) -> None:
        self.tool = tool
        self.error = None if tool.peer is None else prepare(tool.peer)
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[str] | None = None
        # A file: a tool that says much into a pipe that nobody reads would stop.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the side

    def __enter__(self) -> Self:
        if self.error is None:
            command = [str(self.tool.python), "-m", f"tests.benchmarks.sides.{self.tool.module}"]
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
            )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._signal(signal.SIGKILL)  # a tool's own helpers would live on
            self._process.wait()
        self._stderr.close()

    @property
    def pid(self) -> int:
        assert self._process is not None, "a side that did not start has no process"
        return self._process.pid

    def on(self, rate_hz: float, gpus: int) -> None:
        """Returns once the tool measures. Where it ends instead, `error` says why."""
        self._tell(f"on {rate_hz} {gpus}")

    def off(self) -> None:
        self._tell("off")

    def pause(self) -> None:
        """Stops all its processes where they are: beginning anew takes some tools seconds of work."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in tree(self.pid)[::-1]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _tell(self, line: str) -> None:
        if self.error is not None or self._process is None:
            return
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(line, file=self._process.stdin, flush=True)
            there, _, _ = select.select([self._process.stdout], [], [], ANSWER_S)
        except BrokenPipeError:
            there = [self._process.stdout]
        if not there:
            self.error = f"no answer in {ANSWER_S:g} s"
        elif self._process.stdout.readline() != "ok\n":
            self.error = f"ended: {self._last_word()}"

    def _last_word(self) -> str:
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        return said[-1][:120] if said else "without a word"
