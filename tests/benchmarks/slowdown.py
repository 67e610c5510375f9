"""How much slower a training gets while a tool measures beside it.

One training goes on all the time. Each tool measures and is stopped (SIGSTOP) in turn, each pair in the other order
than the one before, so that a GPU that grows warmer, or neighbours that come and go, favour neither.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from profiler.intervals import summarize
from tests.benchmarks.side import Side, Tool
from tests.conformance.environments import ROOT

RATE_HZ = 10.0
SETTLE_S = 0.3  # before each segment: what a tool does when it goes on is no part of measuring
WARM_UP_S = 3.0
Segment = tuple[int, int]


@dataclass(frozen=True)
class Slowdown:
    """`percent`: by how much fewer steps a second, with its 95 % interval; `pairs`: each pair's own percent."""

    tool: str
    percent: float | None
    low: float | None
    high: float | None
    pairs: Sequence[float]
    error: str | None = None


def slowdown(tools: Sequence[Tool], environment: Mapping[str, str], pairs: int, segment_s: float) -> list[Slowdown]:
    """Of every tool, over `pairs` pairs of `segment_s` seconds with and without."""
    if pairs < 1:
        return []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = [stack.enter_context(Side(tool, environment)) for tool in tools]
        training = _Training(folder / "steps")
        stack.callback(training.kill)
        time.sleep(WARM_UP_S)
        segments = [_pairs_of(side, pairs, segment_s, number) for number, side in enumerate(sides)]
        times = training.end()
    return [_judge(side, found, times) for side, found in zip(sides, segments, strict=True)]


class _Training:
    """The training's process; it writes its times when it is told to end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        command = [sys.executable, "-m", "tests.benchmarks.training", str(path)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise SystemExit("the training did not start (it needs torch, or numpy where there is no GPU)")

    def end(self) -> array[int]:
        """Lets it end; the times of its steps."""
        self._process.communicate()
        times = array("q")
        times.frombytes(self._path.read_bytes())
        return times

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _pairs_of(side: Side, pairs: int, segment_s: float, number: int) -> list[tuple[Segment, Segment]]:
    """For each pair the segments (without, with). The tools do not all begin with the same one."""
    side.on(RATE_HZ, 1)
    if side.error is not None:
        return []
    found = []
    for pair in range(pairs):
        segments: dict[bool, Segment] = {}
        for measured in (False, True) if (pair + number) % 2 == 0 else (True, False):
            (side.go_on if measured else side.pause)()
            time.sleep(SETTLE_S)
            began_ns = time.monotonic_ns()
            time.sleep(segment_s)
            segments[measured] = (began_ns, time.monotonic_ns())
        found.append((segments[False], segments[True]))
    side.pause()
    return found


def _judge(side: Side, segments: Sequence[tuple[Segment, Segment]], times: Sequence[int]) -> Slowdown:
    if side.error is not None:
        return Slowdown(side.tool.label, None, None, None, (), side.error)
    try:
        slower = [100 * (1 - rate(times, with_tool) / rate(times, without)) for without, with_tool in segments]
    except ValueError as error:
        return Slowdown(side.tool.label, None, None, None, (), str(error))
    found = summarize(slower)
    return Slowdown(side.tool.label, found.mean, found.low, found.high, slower)


def rate(times: Sequence[int], segment: Segment) -> float:
    """Steps a second in a segment: from the end of the first step in it to the end of the last. ValueError where the
    machine is too busy for two."""
    inside = times[bisect_left(times, segment[0]) : bisect_right(times, segment[1])]
    if len(inside) < 2:
        raise ValueError(f"fewer than two steps of the training in {(segment[1] - segment[0]) / 1e9:.1f} s")
    return (len(inside) - 1) / (inside[-1] - inside[0]) * 1e9
