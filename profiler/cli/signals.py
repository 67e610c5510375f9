"""Lets the signals that ask a program to end do what Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from types import FrameType

INTERRUPTED = 130  # the exit code


def stop_on_signals() -> None:
    """SIGTERM and SIGHUP raise KeyboardInterrupt from now on. A signal that the caller ignores (nohup) stays ignored.

    Outside the main thread nothing can be set, and nothing is.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
