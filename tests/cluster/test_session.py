"""Ctrl-C while Ray starts: signals that really come, to this process."""

from __future__ import annotations

import signal

import pytest

from cluster.session import signals_held


def test_a_signal_while_ray_starts_is_acted_on_when_it_has() -> None:
    done, before = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), signals_held():
        signal.raise_signal(signal.SIGINT)
        done.append("the rest of the start")
    assert done
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_one_is_acted_on_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), signals_held():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second signal was held, too")


def test_a_start_that_fails_meanwhile_does_not_hide_it() -> None:
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
