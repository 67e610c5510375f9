"""Puts the trainers of a campaign on a virtual GPU: a quick trainer with a known `--marker`, or what another function
of command lines names, is shown there with the activity and the power that belong to it. A thread that looks at /proc;
it starts no process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.fakes.nvml import FakeNvml

LOOK_S = 0.02


@dataclass(frozen=True)
class Part:
    """What a trainer does on the GPU: percent of the SMs, W above idle, MiB. `kind`: compute, graphic or mps."""

    sm_percent: int
    watts: float
    memory_mib: float = 700.0
    kind: str = "compute"


def quick_marker(words: Sequence[str]) -> str | None:
    """The marker of a quick trainer by its command line; None for anything else."""
    if not any(word.endswith("/quick/train.py") for word in words[:4]) or "--marker" not in words:
        return None
    return words[words.index("--marker") + 1]


class GpuPlayer:
    """Plays `parts` (by what `marker_of` makes of a command line) on `gpu` of `nvml` as long as the processes live. It
    looks every `look_s` seconds."""

    def __init__(
        self,
        nvml: FakeNvml,
        parts: Mapping[str, Part],
        idle_w: float = 70.0,
        gpu: int = 0,
        *,
        marker_of: Callable[[Sequence[str]], str | None] = quick_marker,
        look_s: float = LOOK_S,
    ) -> None:
        self._nvml, self._parts, self._idle_w, self._gpu = nvml, parts, idle_w, gpu
        self._marker_of, self._look_s = marker_of, look_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._on: dict[int, str] = {}
        self._log: list[tuple[int, list[str]]] = []  # from when on (CLOCK_MONOTONIC ns) which markers were played

    def __enter__(self) -> GpuPlayer:
        self._nvml.power(self._idle_w, gpu=self._gpu)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Whoever was on the GPU is no longer: trainers that have ended since the last look too."""
        self._stop.set()
        self._thread.join()
        self._show({})

    def _play(self) -> None:
        while not self._stop.wait(self._look_s):
            self._show(dict(self._trainers()))

    def _show(self, alive: dict[int, str]) -> None:
        if alive == self._on:
            return
        for pid in self._on.keys() - alive.keys():
            self._nvml.end_process(pid, gpu=self._gpu)
        for pid in alive.keys() - self._on.keys():
            part = self._parts[alive[pid]]
            since = {"kind": part.kind, "sm_percent": part.sm_percent, "from_ns": time.monotonic_ns()}
            self._nvml.add_process(pid, part.memory_mib, gpu=self._gpu, **since)
        self._on = alive
        watts = sum(self._parts[marker].watts for marker in alive.values())
        self._nvml.set(gpu=self._gpu, util_percent=min(100, 99 if alive else 0))
        self._nvml.power(self._idle_w + watts, gpu=self._gpu)
        self._log.append((time.monotonic_ns(), list(alive.values())))

    def energy_j(self, marker: str, t0_ns: int, t1_ns: int) -> float:
        """What the trainers with that marker took above idle between two moments, as it was played."""
        ends = [t_ns for t_ns, _ in self._log[1:]] + [time.monotonic_ns()]
        spans = ((max(t0_ns, since), min(t1_ns, until), on) for (since, on), until in zip(self._log, ends, strict=True))
        seconds = sum(max(0, until - since) / 1e9 * on.count(marker) for since, until, on in spans)
        return self._parts[marker].watts * seconds

    def _trainers(self) -> list[tuple[int, str]]:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            marker = self._marker_of(words)
            if marker in self._parts:
                found.append((int(entry.name), marker))
        return found
