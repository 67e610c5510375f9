"""The alarm clock of the sampler: it rings when it is not put off, and then only."""

import threading
import time

from profiler.energy.alarm import Alarm

MS = 1_000_000


def rings(alarm: Alarm) -> tuple[threading.Thread, list[int]]:
    """A thread that waits for the alarm, and where it notes when it rang."""
    rang: list[int] = []
    thread = threading.Thread(target=lambda: (alarm.wait(), rang.append(time.monotonic_ns())), daemon=True)
    thread.start()
    return thread, rang


def test_it_rings_at_its_time_and_not_before() -> None:
    alarm = Alarm(10_000 * MS)
    due_ns = time.monotonic_ns() + 50 * MS
    alarm.put_off(due_ns)
    thread, rang = rings(alarm)
    thread.join(5)
    assert rang and rang[0] >= due_ns


def test_it_is_put_off_as_often_as_one_likes() -> None:
    alarm = Alarm(10_000 * MS)
    thread, rang = rings(alarm)
    for _ in range(20):
        alarm.put_off(time.monotonic_ns() + 10_000 * MS)
        time.sleep(0.005)
    assert thread.is_alive() and not rang
    alarm.put_off(time.monotonic_ns())
    thread.join(5)
    assert rang


def test_a_time_that_has_passed_rings_at_once_also_for_who_waits_later() -> None:
    alarm = Alarm(10_000 * MS)
    alarm.put_off(1)
    time.sleep(0.02)
    thread, rang = rings(alarm)
    thread.join(5)
    assert rang


def test_it_rings_again_until_it_is_put_off() -> None:
    alarm = Alarm(20 * MS)
    alarm.put_off(time.monotonic_ns())
    for _ in range(3):
        thread, rang = rings(alarm)
        thread.join(5)
        assert rang
    alarm.put_off(time.monotonic_ns() + 10_000 * MS)
    thread, rang = rings(alarm)
    thread.join(0.1)
    assert not rang
