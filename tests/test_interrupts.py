"""Ctrl-C is noted for a stretch, and heard again after it."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from profiler.interrupts import Interrupts, holding, signals_held


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


def test_a_held_signal_is_acted_on_at_the_end() -> None:
    done, before = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), signals_held():
        signal.raise_signal(signal.SIGINT)
        done.append("the rest of the start")
    assert done
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_held_signal_is_acted_on_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), signals_held():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second signal was held, too")


def test_what_fails_meanwhile_does_not_hide_a_held_signal() -> None:
    with pytest.raises(KeyboardInterrupt), signals_held():
        signal.raise_signal(signal.SIGINT)
        raise OSError


def test_what_the_caller_leaves_to_the_system_or_ignores_stays_so() -> None:
    left = {signal.SIGHUP: signal.SIG_IGN, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in left.items()}
    try:
        with signals_held():
            signal.raise_signal(signal.SIGHUP)
            assert {number: signal.getsignal(number) for number in left} == left
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
