"""Reads the event file that a trainer writes (PROFILER_EVENTS). It is tolerant, and judges nothing.

One JSON object a line, each with `t_ns` (CLOCK_MONOTONIC): config, ready, epoch, done, error. A trainer may be killed
at any moment and anyone may write such a file, so a torn last line is passed over, and every other oddity becomes a
line of `problems` instead of an exception.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

MAX_LINE_BYTES = 1 << 20
MAX_PROBLEMS = 20

OUT_OF_MEMORY = "oom"
_KINDS = ("config", "ready", "epoch", "done", "error", OUT_OF_MEMORY)
DATA_MISSING = "data_missing"


@dataclass(frozen=True)
class EpochEvent:
    """One finished epoch (counted from 1), when (CLOCK_MONOTONIC ns), and its metrics; these may be NaN or infinite."""

    epoch: int
    t_ns: int | None
    metrics: Mapping[str, float]
    not_numbers: Mapping[str, str] = field(default_factory=dict)
    """Metrics that it gave as something else than a number, and what."""


@dataclass(frozen=True)
class DoneEvent:
    """The trainer says it finished: `epochs` it did (None: it did not say), final metrics, when."""

    metrics: Mapping[str, float]
    epochs: int | None
    t_ns: int | None
    not_numbers: Mapping[str, str] = field(default_factory=dict)
    """Metrics that it gave as something else than a number, and what."""


@dataclass(frozen=True)
class TrainerEvents:
    """All a trainer said. `effective` are the values it really used, None if it never told; `error_kind` and
    `error_text` are what it named as the cause of its failure (`oom`, `data_missing`, ...). `after_done`: the kinds of
    events that came after the first `done`, which is the last word of a training."""

    effective: Mapping[str, Any] | None = None
    ready_t_ns: int | None = None
    epochs: tuple[EpochEvent, ...] = ()
    done: DoneEvent | None = None
    after_done: tuple[str, ...] = ()
    data_source: str | None = None
    data_hash: str | None = None
    error_kind: str | None = None
    error_text: str = ""
    problems: tuple[str, ...] = ()

    @property
    def training_ns(self) -> tuple[int, int] | None:
        """From the first optimiser step to the trainer's own end (`done`); None where it did not tell both."""
        if self.ready_t_ns is None or self.done is None or self.done.t_ns is None:
            return None
        return (self.ready_t_ns, self.done.t_ns) if self.ready_t_ns < self.done.t_ns else None

    @property
    def oom(self) -> bool:
        """The trainer ran out of (GPU) memory and said so."""
        return self.error_kind == OUT_OF_MEMORY


@dataclass(frozen=True)
class Training:
    """One of the trainings of a process that trains again and again, in CLOCK_MONOTONIC ns: its first optimiser step,
    its end (None: not told), and the ends of its epochs."""

    ready_ns: int
    end_ns: int | None
    epoch_ends_ns: tuple[int, ...] = ()


def read_trainings(path: Path) -> list[Training]:
    """Every training of an event file, in order; one that never came to its first step is none."""
    found: list[Training] = []
    for _, event in _lines(path, lambda _problem: None):
        name, t_ns = event.get("event"), event.get("t_ns")
        if not isinstance(t_ns, int) or isinstance(t_ns, bool):
            continue
        if name == "ready":
            found.append(Training(t_ns, None))
        elif found and found[-1].end_ns is None and name == "epoch":
            found[-1] = replace(found[-1], epoch_ends_ns=(*found[-1].epoch_ends_ns, t_ns))
        elif found and found[-1].end_ns is None and name in ("done", "error", OUT_OF_MEMORY):
            found[-1] = replace(found[-1], end_ns=t_ns)
    return found


def read_events(path: Path) -> TrainerEvents:
    """The events of one training. A missing file is a trainer that said nothing."""
    reader = _Reader()
    for number, event in _lines(path, reader.complain):
        reader.take(number, event)
    return reader.result()


def _lines(path: Path, complain: Callable[[str], None]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each whole line that holds a JSON object."""
    try:
        # A trainer can have put a pipe there, which nobody writes: opening must not wait.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except FileNotFoundError:
        return
    except OSError as error:
        complain(f"cannot read {path}: {error.strerror}")
        return
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            complain(f"{path} is not a plain file")
            return
        number, skipping = 0, False
        while line := file.readline(MAX_LINE_BYTES):
            ended = line.endswith(b"\n")
            if skipping or (len(line) >= MAX_LINE_BYTES and not ended):
                if not skipping:
                    number += 1
                    complain(f"line {number} is longer than {MAX_LINE_BYTES} bytes")
                skipping = not ended
                continue
            number += 1
            event = _parse(line, number, ended, complain)
            if event is not None:
                yield number, event


def _parse(line: bytes, number: int, ended: bool, complain: Callable[[str], None]) -> dict[str, Any] | None:
    if not line.strip():
        return None
    try:
        event = json.loads(line)
        if b"\\u" in line:
            json.dumps(event, ensure_ascii=False).encode()  # half a character, which cannot be stored, is a ValueError
    except (ValueError, RecursionError):
        if ended:
            complain(f"line {number} is not JSON")
        return None
    if not isinstance(event, dict):
        complain(f"line {number} is not an object")
        return None
    return event


@dataclass
class _Reader:
    """Gathers events in file order. Of what should come once, the last one counts, and a change is a problem."""

    effective: dict[str, Any] | None = None
    ready_t_ns: int | None = None
    epochs: list[EpochEvent] = field(default_factory=list)
    done: DoneEvent | None = None
    after_done: dict[str, None] = field(default_factory=dict)
    data_source: str | None = None
    data_hash: str | None = None
    error_kind: str | None = None
    error_text: str = ""
    problems: list[str] = field(default_factory=list)

    def complain(self, text: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"events: {text}")

    def take(self, number: int, event: Mapping[str, Any]) -> None:
        name = event.get("event")
        place = f"line {number} ({name})"
        t_ns = self._integer(event, "t_ns", place)
        if self.done is not None and name in _KINDS:
            self.after_done[name] = None
        if name == "config":
            self._config(event, place)
        elif name == "ready":
            self.ready_t_ns = t_ns if self.ready_t_ns is None else self.ready_t_ns
        elif name == "epoch":
            self._epoch(event, t_ns, place)
        elif name == "done":
            self._done(event, t_ns, place)
        elif name == "error":
            self.error_kind, self.error_text = str(event.get("kind", "error")), str(event.get("message", ""))
        elif name == OUT_OF_MEMORY:
            self.error_kind, self.error_text = OUT_OF_MEMORY, str(event.get("message", ""))
        else:
            self.complain(f"line {number}: unknown event {name!r}")

    def _config(self, event: Mapping[str, Any], place: str) -> None:
        values = event.get("hyperparameters")
        if not isinstance(values, dict):
            self.complain(f"{place} has no hyperparameters")
        elif self.effective is None or values == self.effective:
            self.effective = values
        else:
            self.complain(f"{place} differs from the one before; the last one counts")
            self.effective = values
        for name in ("data_source", "data_hash"):
            if event.get(name) is not None:
                setattr(self, name, str(event[name]))

    def _epoch(self, event: Mapping[str, Any], t_ns: int | None, place: str) -> None:
        epoch = self._integer(event, "epoch", place)
        if epoch is not None:
            self.epochs.append(EpochEvent(epoch, t_ns, *self._metrics(event, place)))

    def _done(self, event: Mapping[str, Any], t_ns: int | None, place: str) -> None:
        if self.done is not None:
            self.complain(f"{place} is not the first one; the last one counts")
        metrics, others = self._metrics(event, place)
        self.done = DoneEvent(metrics, self._integer(event, "epochs", place), t_ns, others)

    def _metrics(self, event: Mapping[str, Any], place: str) -> tuple[dict[str, float], dict[str, str]]:
        """Its numbers, and what it gives in place of others."""
        metrics = event.get("metrics", {})
        if not isinstance(metrics, dict):
            self.complain(f"{place}: metrics is not an object")
            return {}, {}
        for name, value in metrics.items():
            if not _is_number(value):
                self.complain(f"{place}: metric {name} is {value!r}, not a number")
        numbers = {name: _as_float(value) for name, value in metrics.items() if _is_number(value)}
        return numbers, {name: repr(value)[:80] for name, value in metrics.items() if name not in numbers}

    def _integer(self, event: Mapping[str, Any], key: str, place: str) -> int | None:
        value = event.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        self.complain(f"{place}: {key} is {value!r}, not an integer")
        return None

    def result(self) -> TrainerEvents:
        return TrainerEvents(
            effective=self.effective,
            ready_t_ns=self.ready_t_ns,
            epochs=tuple(self.epochs),
            done=self.done,
            after_done=tuple(self.after_done),
            data_source=self.data_source,
            data_hash=self.data_hash,
            error_kind=self.error_kind,
            error_text=self.error_text,
            problems=tuple(self.problems),
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
