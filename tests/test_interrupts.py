"""Ctrl-C is noted for a stretch, and heard again after it."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from profiler.interrupts import Noted, noted_interrupts


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_it_is_noted_inside_and_raised_outside() -> None:
    with noted_interrupts() as noted:
        assert not noted.come
        interrupt()
        interrupt()
        assert noted.come
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_the_handler_comes_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(OSError, match="full"), noted_interrupts():
        raise OSError("full")
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_it_changes_nothing() -> None:
    before, seen = signal.getsignal(signal.SIGINT), list[object]()

    def look() -> None:
        with noted_interrupts() as noted:
            seen.extend((isinstance(noted, Noted), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [True, before]
