"""Ctrl-C during a stretch that has to come to its end: it is noted, and whoever asked for that acts on it later."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
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
