"""Appends the trainer's events as JSON lines to the file that PROFILER_EVENTS names; it does not interpret them."""

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

EVENTS_VARIABLE = "PROFILER_EVENTS"
TROUBLES = ("oom", "error")


def rank() -> int:
    """Which of the processes this is that torchrun has started for one training, from 0; 0 without torchrun."""
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0


def plain(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics as plain floats; numpy's and torch's scalars become Python's."""
    return {name: float(value) for name, value in metrics.items()}


class Events:
    """A writer of events; without a path every call does nothing.

    Each line is one `write()` on a descriptor opened with O_APPEND, so that lines of several processes never mix
    and a killed trainer leaves at most one torn line, the last. An OSError (disk full, no such folder) is not
    swallowed: a run whose events are lost must not look finished.
    """

    def __init__(
        self, path: str | None, clock_ns: Callable[[], int] = time.monotonic_ns, *, only_troubles: bool = False
    ) -> None:
        self._clock_ns = clock_ns
        self._only_troubles = only_troubles
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o644) if path else None

    @classmethod
    def from_environment(cls) -> "Events":
        """The writer that PROFILER_EVENTS asks for; unset or empty means none. Of several processes of one training the
        first speaks for all; the others tell their troubles only."""
        return cls(os.environ.get(EVENTS_VARIABLE) or None, only_troubles=rank() != 0)

    def emit(self, event: str, **fields: Any) -> None:
        """Append one event, stamped with CLOCK_MONOTONIC in nanoseconds.

        A float that is not finite is written as NaN or Infinity, as Python's json reads it: a diverged training must
        not look like one without that metric.
        """
        if self._descriptor is None or (self._only_troubles and event not in TROUBLES):
            return
        line = json.dumps({"event": event, "t_ns": self._clock_ns(), **fields})
        data = (line + "\n").encode()
        written = os.write(self._descriptor, data)
        if written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes of the event {event!r} were written")

    def close(self) -> None:
        """Close the file; later events are dropped."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
