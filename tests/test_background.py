"""The background loop and its lease, with real processes and no Ray."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from profiler.background import BackgroundFiles, BackgroundJob, BackgroundStart, BackgroundWatch, loop_background
from profiler.checkouts import OwnCheckout
from profiler.colocation import background_findings, roles
from profiler.models import ModelSpec
from profiler.partner import BackgroundFacts
from profiler.process.enclosure import Enclosure, members
from profiler.trainer import TrainerJob, driver_environment
from profiler.workloads import load_catalog

REPOS = Path(__file__).parent / "fakes" / "repos"
FIRST_PARTY = Path(__file__).parents[1] / "repos"
SECOND = 1_000_000_000


def job(
    files: BackgroundFiles,
    repeat: bool = False,
    silent: bool = False,
    ready: str | None = None,
    model: ModelSpec | None = None,
    **values: object,
) -> BackgroundJob:
    """A background, of the quick trainer unless told; `silent`: it writes no events; `ready`: its `ready_pattern`."""
    model = model or load_catalog([REPOS]).resolve("quick", "quick").model_copy(update={"ready_pattern": ready})
    if silent:
        model = model.model_copy(update={"command": ("env", "-u", "PROFILER_EVENTS", *(model.command or ()))})
    vector = {name: spec.default for name, spec in model.hyperparameters.items()} | values
    return BackgroundJob(
        job=TrainerJob(model, vector, threads=1, timeout_s=None, data_root=None, gpu_uuid=None, repeat=repeat),
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


def started(watch: BackgroundWatch, **what: Any) -> threading.Thread:
    """The background's task; `what`: see `job`."""
    thread = threading.Thread(target=loop_background, args=(job(watch.files, **what), "GPU-x"))
    thread.start()
    return thread


def test_it_trains_again_and_again_until_the_lease_ends(watch: BackgroundWatch) -> None:
    thread = started(watch, epochs=1, epoch_seconds=0.01)
    deadline = time.monotonic() + 30
    while sum(start.t1_ns is not None for start in watch.starts()) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    watch.end_lease()
    thread.join(timeout=20)
    assert not thread.is_alive()
    starts = watch.starts()
    assert len(starts) >= 3
    assert [start.exit_code for start in starts[:3]] == [0, 0, 0]
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
        {"event": "start", "number": 1, "t0_ns": 10, "enclosure": 1},
        {"event": "exit", "number": 1, "t0_ns": 11, "t1_ns": 20, "exit_code": 0, "signal": None, "why": "exited"},
        {"event": "start", "number": 2, "t0_ns": 21, "enclosure": 2},
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


def test_a_start_that_never_ran_leaves_no_log(watch: BackgroundWatch) -> None:
    """The lease ends while the next start is being made: its log is there, its trainer is not let go yet."""
    thread = started(watch, epochs=1, epoch_seconds=0)
    second = watch.files.trainer(2).log
    deadline = time.monotonic() + 30
    while not second.exists() and time.monotonic() < deadline:
        time.sleep(0.0005)
    watch.end_lease()
    thread.join(timeout=20)
    assert len(list(watch.files.logs.iterdir())) == len(watch.starts()) >= 1


def test_two_starts_share_no_file(watch: BackgroundWatch) -> None:
    first, second = watch.files.trainer(1), watch.files.trainer(2)
    assert len({first.work, second.work, first.events, second.events, first.log, second.log}) == 6


def ended(watch: BackgroundWatch, thread: threading.Thread) -> None:
    watch.end_lease()
    thread.join(timeout=20)
    assert not thread.is_alive()


def test_reuse_is_one_process_that_trains_again_and_again(watch: BackgroundWatch) -> None:
    thread = started(watch, repeat=True, epochs=2, epoch_seconds=0.05)
    deadline = time.monotonic() + 30
    while (not watch.starts() or len(watch.starts()[0].trainings) < 4) and time.monotonic() < deadline:
        time.sleep(0.02)
    ended(watch, thread)
    (only,) = watch.starts()
    assert len(only.trainings) >= 4
    assert only.why == "stopped"
    assert all(training.end_ns is not None for training in only.trainings)
    gaps_s = [(second.ready_ns - (first.end_ns or 0)) / 1e9 for first, second in pairwise(only.trainings)]
    assert all(gap_s >= 0.05 for gap_s in gaps_s), "an epoch lies between them"
    assert min(gaps_s) < 0.5, "and no start; a busy machine may lengthen any one of them"
    assert [len(training.epoch_ends_ns) for training in only.trainings[:2]] == [2, 2]


def test_foreign_code_is_ready_when_its_log_says_so(tmp_path: Path) -> None:
    with BackgroundWatch(BackgroundFiles(tmp_path / "b", tmp_path / "l"), ready_pattern="^epoch 1 of") as watch:
        thread = started(watch, silent=True, ready="^epoch 1 of", epochs=50, epoch_seconds=0.2)
        assert watch.wait_ready(20, thread.is_alive)
        assert watch.starts()[0].ready_t_ns is not None
        ended(watch, thread)


def test_every_start_of_foreign_code_has_its_own_first_step(tmp_path: Path) -> None:
    """Nobody asks for the starts while the foreground trains: each is noticed all the same, within itself."""
    with BackgroundWatch(BackgroundFiles(tmp_path / "b", tmp_path / "l"), ready_pattern="^epoch 1 of") as watch:
        thread = started(watch, silent=True, ready="^epoch 1 of", epochs=2, epoch_seconds=0.2)
        deadline = time.monotonic() + 60
        while sum(event["event"] == "exit" for event in watch.events()) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        ended(watch, thread)
        whole = [start for start in watch.starts() if start.why == "exited"]
    assert len(whole) >= 3
    for start in whole:
        assert start.ready_t_ns is not None and start.t1_ns is not None
        assert start.t0_ns < start.ready_t_ns < start.t1_ns


def test_code_that_says_nothing_is_ready_when_it_is_seen_working(watch: BackgroundWatch) -> None:
    thread = started(watch, silent=True, epochs=50, epoch_seconds=0.2)
    looks = iter([False, False, True])
    assert watch.wait_ready(20, thread.is_alive, lambda: next(looks))
    ended(watch, thread)


def maps_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""


def test_one_that_writes_events_is_not_ready_by_what_it_does_before_its_first_step(watch: BackgroundWatch) -> None:
    """Its network and its data come to the GPU long before; here that is when torch is in its memory."""
    model = load_catalog([FIRST_PARTY]).resolve("examples", "mnist_rnn")
    looks: list[tuple[bool, bool]] = []  # torch was there; the event file was open by then

    def works() -> bool:
        processes = [pid for start in watch.starts() for pid in members(start.enclosure)]
        loaded = any("libtorch" in maps_of(pid) for pid in processes)
        looks.append((loaded, watch.tells_of_itself(watch.starts())))
        return loaded

    thread = started(watch, model=model, size="reduced", epochs=50)
    assert watch.wait_ready(240, thread.is_alive, works)
    assert watch.starts()[0].ready_t_ns is not None
    assert (True, False) not in looks, "asked only until the trainer has opened its event file"
    assert [opened for _, opened in looks].count(True) <= 1, "which may be while it is being asked"
    ended(watch, thread)


def test_one_that_never_becomes_ready_is_given_the_time_and_no_more(watch: BackgroundWatch) -> None:
    thread = started(watch, behaviour="never_ready")
    before = time.monotonic()
    assert not watch.wait_ready(1.0, thread.is_alive)
    assert 1.0 <= time.monotonic() - before < 3
    ended(watch, thread)


def test_a_lease_that_ended_before_the_task_began_is_seen(watch: BackgroundWatch) -> None:
    watch.end_lease()
    thread = started(watch, epochs=100, epoch_seconds=1.0)
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert watch.starts() == []


@pytest.mark.parametrize(
    ("where", "mine", "other"), [("pid_namespace", 77, 78), ("cgroup", "profiler-keeper-7", "profiler-keeper-8")]
)
def test_only_what_was_there_while_its_enclosure_was_is_its_own(where: str, mine: Enclosure, other: Enclosure) -> None:
    """The kernel gives the number of a namespace that is gone to the next one, which may be a stranger's container."""
    start = BackgroundStart(1, t0_ns=10 * SECOND, t1_ns=20 * SECOND, enclosure=mine)

    def seen(first_s: float, last_s: float, place: Enclosure = mine) -> dict[str, Any]:
        times = {"first_seen_ns": round(first_s * SECOND), "last_seen_ns": round(last_s * SECOND)}
        return {"pid": 5, "pid_namespace": 1, "cgroup": None, where: place, **times}

    for row in (seen(11, 19), seen(10, 20.1), seen(20.1, 20.1)):
        assert start.holds(row)
    for row in (seen(25, 30), seen(3, 9), seen(11, 19, other)):
        assert not start.holds(row)
    assert replace(start, t1_ns=None).holds(seen(25, 30))
    assert not replace(start, enclosure=None).holds(seen(11, 19))
    facts = BackgroundFacts((start,), None, ready=True, ended_early=False, log_directory="")
    rows = [seen(11, 19), {**seen(25, 30), "pid": 6}, {**seen(25, 30, other), "pid": 7}]
    assert roles(rows, other, facts) == {5: "background", 7: "foreground"}


def facts_of(watch: BackgroundWatch, **what: Any) -> BackgroundFacts:
    """A background that was not ready before it gave up."""
    started(watch, **what).join(timeout=30)
    starts = tuple(watch.starts())
    said = watch.out_of_memory(starts), watch.data_missing(starts), watch.no_copy()
    return BackgroundFacts(starts, None, False, True, "", None, None, *said)


def quick_with(**fields: Any) -> ModelSpec:
    return load_catalog([REPOS]).resolve("quick", "quick").model_copy(update=fields)


NOT_THERE = OwnCheckout(path=Path("/no/clone"), python=None, files=(), outputs=(), folder="", withheld=())


@pytest.mark.parametrize(
    ("what", "said", "again"),
    [
        ({"behaviour": "exit_3", "epochs": 1, "epoch_seconds": 0}, "3 (exit code 3)", True),
        ({"behaviour": "no_data"}, "the background says: ", False),
        ({"model": quick_with(command=("{python}", "-c", "exit(2)", "{hyperparameters}"))}, "3 (exit code 2)", False),
        ({"model": quick_with(command=("/no/such/trainer", "{hyperparameters}"))}, "No such file", False),
        ({"model": quick_with(own_checkout=NOT_THERE)}, "cannot copy the clone /no/clone: ", False),
    ],
)
def test_a_background_that_is_bound_to_fail_again_is_not_tried_again(
    watch: BackgroundWatch, what: dict[str, Any], said: str, again: bool
) -> None:
    (finding,) = background_findings(facts_of(watch, **what), None, None)
    assert finding.reason == "background_failed" and said in finding.evidence
    assert finding.retry_may_help is again
