"""Ctrl-C is noted for a stretch, and heard again after it."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from profiler.interrupts import Interrupts, holding


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_it_is_noted_inside_and_raised_outside() -> None:
    with Interrupts() as interrupts:
        interrupts.hold()
        assert not interrupts.come
        interrupt()
        interrupt()
        assert (interrupts.come, holding()) == (True, True)
    assert not holding()
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_the_handler_comes_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(OSError, match="full"), Interrupts() as interrupts:
        interrupts.hold()
        raise OSError("full")
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_it_changes_nothing() -> None:
    before, seen = signal.getsignal(signal.SIGINT), list[object]()

    def look() -> None:
        with Interrupts() as interrupts:
            interrupts.hold()
            seen.extend((holding(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [False, before]
