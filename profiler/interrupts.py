"""Ctrl-C during a stretch that has to come to its end: it is noted, and acted on later."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_holding: list[Interrupts] = []


class Interrupts:
    """From `hold` to `release` (or the end of the `with` block) a SIGINT raises no KeyboardInterrupt; `come` says that
    there was one. Threads other than the main one never get any: there both do nothing."""

    def __init__(self) -> None:
        self.come = False
        self._before: Callable[..., Any] | int | None = None

    def hold(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
            _holding.append(self)

    def release(self) -> None:
        if self in _holding:
            _holding.remove(self)
            signal.signal(signal.SIGINT, signal.default_int_handler if self._before is None else self._before)

    def _note(self, *_ignored: object) -> None:
        self.come = True

    def __enter__(self) -> Interrupts:
        return self

    def __exit__(self, *_ignored: object) -> None:
        self.release()


def holding() -> bool:
    """Whether somebody holds them now: then a KeyboardInterrupt was raised by no SIGINT."""
    return bool(_holding)


@contextmanager
def signals_held() -> Iterator[None]:
    """What asks this program to end in the block is acted on at its end, the second time at once. Raised within a
    library's own code, such as Ray's start, a KeyboardInterrupt may be swallowed there, or crash the process."""
    handlers: dict[int, Any] = {}
    came: list[tuple[int, FrameType | None]] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append((number, frame))
        if len(came) > 1:
            handlers[number](number, frame)

    if threading.current_thread() is threading.main_thread():
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        handlers |= {number: signal.getsignal(number) for number in numbers if callable(signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            number, frame = came[0]
            handlers[number](number, frame)
