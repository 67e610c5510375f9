"""Ctrl-C during a stretch that has to come to its end: it is noted, and whoever asked for that acts on it later."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_open: list[Noted] = []


class Noted:
    """`come`: a SIGINT came meanwhile."""

    def __init__(self) -> None:
        self.come = False

    def _note(self, *_ignored: object) -> None:
        self.come = True


@contextmanager
def noted_interrupts() -> Iterator[Noted]:
    """No KeyboardInterrupt inside the block. Threads other than the main one never get any: there it does nothing."""
    noted = Noted()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGINT, noted._note)
    _open.append(noted)
    try:
        yield noted
    finally:
        _open.remove(noted)
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


def noting() -> bool:
    """Whether such a block is open: then a KeyboardInterrupt inside it was raised by no SIGINT."""
    return bool(_open)
