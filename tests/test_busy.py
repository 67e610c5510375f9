"""How much of a window a background worked: known trainings, CPU seconds and GPU activities."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from profiler.busy import cpu_share, epochs_worked, gpu_share, measure_busy, tree_cpu_s, working_share
from profiler.events import Training
from profiler.gpu_activity import Activity, ActivityWindow
from profiler.process.command import HOLDING_TIERS, Command, TierUnavailableError
from profiler.process.launch import start
from tests.process.harness import wait_until

SECOND = 1_000_000_000
WINDOW = (10 * SECOND, 20 * SECOND)


def training(ready_s: float, end_s: float | None, *epochs_s: float) -> Training:
    end_ns = None if end_s is None else round(end_s * SECOND)
    return Training(round(ready_s * SECOND), end_ns, tuple(round(t * SECOND) for t in epochs_s))


LOOP = [training(2, 12, 5, 8, 12), training(14, 18, 16, 18), training(19, None)]


def test_working_time_is_between_first_steps_and_ends() -> None:
    assert working_share(LOOP, *WINDOW) == pytest.approx((2 + 4 + 1) / 10)
    assert working_share([training(2, None)], *WINDOW) == 1
    assert working_share([training(2, 9)], *WINDOW) == 0
    assert working_share([], *WINDOW) is None


def test_gaps_trainings_and_epochs_of_the_window_are_counted() -> None:
    busy = measure_busy(LOOP, WINDOW, cpu_share=None, gpu_share=None)
    assert (busy.gaps, busy.gap_s) == (2, pytest.approx(2 + 1))
    assert (busy.trainings, busy.epochs) == (2, 3)
    assert (busy.share, busy.method) == (pytest.approx(0.7), "events")


def test_the_least_of_the_witnesses_counts() -> None:
    busy = measure_busy([training(2, None)], WINDOW, cpu_share=0.1, gpu_share=0.6)
    assert (busy.share, busy.method) == (0.6, "events+gpu_utilisation")
    busy = measure_busy([training(2, None)], WINDOW, cpu_share=0.1, gpu_share=None)
    assert (busy.share, busy.method) == (0.1, "events+cpu_time")
    busy = measure_busy([], WINDOW, cpu_share=None, gpu_share=None)
    assert (busy.share, busy.gaps, busy.null_reason) == (None, None, "no_events_and_no_utilisation")


def test_one_that_tells_of_itself_and_of_no_step_has_done_nothing() -> None:
    busy = measure_busy([], WINDOW, cpu_share=0.9, gpu_share=None, tells=True)
    assert (busy.share, busy.method, busy.trainings) == (0, "events+cpu_time", 0)


def test_epochs_that_the_window_cuts_count_in_part() -> None:
    """Epochs of 4 s: the window from 10 s to 20 s has a half of the first, two whole ones, or parts of them."""
    assert epochs_worked([training(4, None, 8, 12, 16, 20, 24)], *WINDOW) == pytest.approx(2.5)
    assert epochs_worked([training(4, None, 8, 12, 16)], *WINDOW) == pytest.approx(0.5 + 1 + 1), "the last goes on"
    assert epochs_worked([training(4, 17, 8, 12, 16)], *WINDOW) == pytest.approx(0.5 + 1), "it has ended"
    assert epochs_worked([training(6, 14, 10, 14), training(16, None)], *WINDOW) == pytest.approx(2)
    assert epochs_worked([training(2, None)], *WINDOW) is None
    assert epochs_worked([], *WINDOW) is None
    assert measure_busy([training(4, None, 8, 12, 16)], WINDOW, None, None).epochs_worked == pytest.approx(2.5)


def test_epochs_that_nobody_told_of_are_not_none() -> None:
    """As of a library that counts its epochs by itself, and tells how many at the end."""
    assert measure_busy([training(2, 12), training(13, 15)], WINDOW, None, None).epochs is None
    assert measure_busy([training(2, None)], WINDOW, None, None).epochs == 0, "its first goes on"
    assert measure_busy([training(2, 20.5)], WINDOW, None, None).epochs == 0, "and was ended with the run"


def test_gpu_work_is_the_time_that_its_samples_cover() -> None:
    half = Activity(7, 10 * SECOND, 15 * SECOND, 40)
    stranger = Activity(8, 9 * SECOND, 21 * SECOND, 40)
    nothing = Activity(7, 15 * SECOND, 20 * SECOND, 0)
    window = ActivityWindow((half, stranger, nothing))
    assert gpu_share(window, {7}, *WINDOW) == pytest.approx(0.5)
    assert gpu_share(window, {7, 8}, *WINDOW) == pytest.approx(1), "two at a time are not more than all of it"
    assert gpu_share(window, {9}, *WINDOW) == 0
    seconds = [Activity(7, k * SECOND - SECOND // 5, (k + 1) * SECOND - SECOND // 5, 1) for k in range(9, 21)]
    assert gpu_share(ActivityWindow(tuple(seconds)), {7}, *WINDOW) == pytest.approx(1)
    assert gpu_share(ActivityWindow((), "nvml_not_supported"), {7}, *WINDOW) is None
    assert gpu_share(window, {7}, 10 * SECOND, 11 * SECOND) is None


def test_a_whole_cpu_is_full_work() -> None:
    assert cpu_share(5.0, 10.0, granted_cpus=4) == 0.5
    assert cpu_share(40.0, 10.0, granted_cpus=4) == 1
    assert cpu_share(3.0, 10.0, granted_cpus=0.3) == pytest.approx(1)
    assert cpu_share(None, 10.0, 1) is None


@pytest.mark.parametrize("tier", HOLDING_TIERS)
def test_cpu_time_of_an_enclosure_has_its_reaped_children(tier: str, tmp_path: Path) -> None:
    work = "while time.process_time() < 0.3: pass"
    orphan = f"import os, time\nif os.fork(): os._exit(0)\nos.setsid()\n{work}\nprint('orphan', flush=True)"
    child = f"import time\n{work}"
    run = "subprocess.run([sys.executable, '-S', '-c', {!r}])"
    body = f"import subprocess, sys, time; {run.format(child)}; {run.format(orphan)}; print('reaped'); time.sleep(60)"
    command = Command((sys.executable, "-S", "-c", body), dict(os.environ), tmp_path, tmp_path / "log")
    try:
        process = start(command, tier=tier)
    except TierUnavailableError as error:
        pytest.skip(error.reason)
    with process:
        process.release()
        wait_until(lambda: (tree_cpu_s([process.enclosure]) or 0) > 0, 60)
        wait_until(lambda: "orphan" in (tmp_path / "log").read_text(), 60)
        wait_until(lambda: (tree_cpu_s([process.enclosure]) or 0) >= 0.6)  # of two that have ended, one as an orphan
        assert (tree_cpu_s([process.enclosure]) or 0) < 3
    assert tree_cpu_s([None]) is None
    assert tree_cpu_s([1, "profiler-keeper-of-nobody"]) is None  # no namespace has this number
