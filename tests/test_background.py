"""The background loop and its lease, with real processes and no Ray."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler.background import BackgroundFiles, BackgroundJob, BackgroundWatch, loop_background
from profiler.trainer import TrainerJob, driver_environment
from profiler.workloads import load_catalog

REPOS = Path(__file__).parent / "fakes" / "repos"


def job(files: BackgroundFiles, **values: object) -> BackgroundJob:
    model = load_catalog([REPOS]).resolve("quick", "quick")
    vector = {name: spec.default for name, spec in model.hyperparameters.items()} | values
    return BackgroundJob(
        job=TrainerJob(model, vector, threads=1, timeout_s=None, data_root=None, gpu_uuid=None),
        files=files,
        run_id="run_20260101_000000-001",
        labels={"session": "test", "run": "test-001", "attempt": "1"},
        environment=driver_environment(),
        watch_pids=(os.getpid(),),
        allow_uncontained=True,
    )


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[BackgroundWatch]:
    with BackgroundWatch(BackgroundFiles(tmp_path / "background", tmp_path / "logs")) as opened:
        yield opened


def started(watch: BackgroundWatch, **values: object) -> threading.Thread:
    thread = threading.Thread(target=loop_background, args=(job(watch.files, **values), "GPU-x"))
    thread.start()
    return thread


def test_it_trains_again_and_again_until_the_lease_ends(watch: BackgroundWatch) -> None:
    thread = started(watch, epochs=1, epoch_seconds=0.01)
    deadline = time.monotonic() + 30
    while len(watch.starts()) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    watch.end_lease()
    thread.join(timeout=20)
    assert not thread.is_alive()
    starts = watch.starts()
    assert len(starts) >= 3
    assert [start.exit_code for start in starts[:2]] == [0, 0]
    assert all(start.t1_ns is not None and start.t1_ns > start.t0_ns for start in starts)
    assert watch.gpu_uuid() == "GPU-x"
    logs = sorted(path.name for path in watch.files.logs.iterdir())
    assert logs[:2] == ["training_1.log", "training_2.log"]
    assert not watch.given_up()


def test_ready_is_the_first_step_of_the_training(watch: BackgroundWatch) -> None:
    thread = started(watch, epochs=100, epoch_seconds=0.3)
    assert watch.wait_ready(20, thread.is_alive)
    first = watch.starts()[0]
    assert first.ready_t_ns is not None and first.ready_t_ns - first.t0_ns >= 0.3e9
    watch.end_lease()
    thread.join(timeout=20)
    assert [start.why for start in watch.starts()] == ["stopped"]


def test_a_background_that_keeps_failing_gives_up_and_says_so(watch: BackgroundWatch) -> None:
    thread = started(watch, epochs=1, epoch_seconds=0, behaviour="exit_3")
    thread.join(timeout=30)
    assert watch.given_up()
    assert [start.exit_code for start in watch.starts()] == [3, 3, 3]
    assert all(start.failed for start in watch.starts())


def test_a_process_that_was_stopped_before_it_ran_is_no_start(watch: BackgroundWatch) -> None:
    events = [
        {"event": "start", "number": 1, "t0_ns": 10, "namespace": 1},
        {"event": "exit", "number": 1, "t0_ns": 11, "t1_ns": 20, "exit_code": 0, "signal": None, "why": "exited"},
        {"event": "start", "number": 2, "t0_ns": 21, "namespace": 2},
        {
            "event": "exit",
            "number": 2,
            "t0_ns": None,
            "t1_ns": None,
            "exit_code": None,
            "signal": None,
            "why": "stopped",
        },
    ]
    watch.files.status.write_text("".join(json.dumps(event) + "\n" for event in events))
    assert [(start.number, start.t0_ns, start.t1_ns) for start in watch.starts()] == [(1, 11, 20)]


def test_two_starts_share_no_file(watch: BackgroundWatch) -> None:
    first, second = watch.files.trainer(1), watch.files.trainer(2)
    assert len({first.work, second.work, first.events, second.events, first.log, second.log}) == 6
