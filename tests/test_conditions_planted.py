"""Conditions planted by real processes, moved clocks and the virtual GPU: found where they were, and judged again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import profiler
from profiler.driver_lock import driver_lock
from profiler.reprocess import reprocess
from tests.campaigns import REPOS, config, environment, quick, run, run_json
from tests.fakes.clocks import Clocks, compiler
from tests.fakes.nvml import FakeNvml

pytestmark = pytest.mark.slow

CLEAN, THROTTLED, MEMORY, SQUATTED, BUSY, SLEPT, LAST = range(1, 8)
TICK_NS = 100_000_000
HW_THERMAL_SLOWDOWN = 0x40
PLANTED_MIB = 1500.0

Moment = tuple[int, int]
"""Something happened between these two times (CLOCK_MONOTONIC)."""


@contextmanager
def hogs(number: int) -> Iterator[list[int]]:
    """Processes of others that take all CPU time they can get."""
    busy = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield [process.pid for process in busy]
    finally:
        for process in busy:
            process.kill()
            process.wait()


def stamped(change: Callable[[], object]) -> Moment:
    before_ns = time.monotonic_ns()
    change()
    return before_ns, time.monotonic_ns()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, fake_nvml_library: Path) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("planted")
    if compiler() is None:
        pytest.skip("no C compiler for the moved clocks")
    gpu, clocks = FakeNvml(folder / "nvml.state", fake_nvml_library), Clocks(folder)
    runs = [quick(epochs=1, epoch_seconds=3.0, seed=number) for number in range(1, LAST + 1)]
    gate = {"memory_margin_mib": 1e6, "max_wait_seconds": 60}
    path = config(folder, runs, cooling={"seconds": 0}, gate=gate, thresholds={}, max_retries=0)
    results = folder / "results"
    campaign = subprocess.Popen(
        [sys.executable, "-m", "tests.local_driver", str(path), str(results)],
        env=environment(**gpu.env, **clocks.env), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    times: dict[str, tuple[Moment, Moment]] = {}

    def training(index: int) -> None:
        """Until the trainer has said a word."""
        logs = f"run_*/quick_quick_{index:03d}/training.log"
        wait_for(lambda: any(path.stat().st_size for path in results.glob(logs)), campaign)

    training(THROTTLED)
    time.sleep(0.5)
    began = stamped(lambda: gpu.set(throttle_reasons=HW_THERMAL_SLOWDOWN))
    time.sleep(0.7)
    times["throttled"] = began, stamped(lambda: gpu.set(throttle_reasons=0, memory_used_mib=PLANTED_MIB))
    training(MEMORY)
    gpu.set(memory_used_mib=-1.0)
    training(SQUATTED)
    stranger = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    began = stamped(lambda: gpu.add_process(stranger.pid, 5500.0))
    time.sleep(1.5)
    times["foreign_gpu_process"] = began, stamped(lambda: gpu.remove_process(stranger.pid))
    stranger.kill()
    stranger.wait()
    training(BUSY)
    with hogs(2 * (os.cpu_count() or 1)) as pids:
        time.sleep(2.5)
    training(SLEPT)
    time.sleep(0.5)
    clocks.move(100.0, 30.0)
    _, said = campaign.communicate(timeout=120)
    assert campaign.returncode == 0, said
    session = next(results.glob("run_*"))
    rows = {row["index"]: row for row in profiler.open(session).rows()}
    return {"session": session, "rows": rows, "times": times, "stranger": stranger.pid, "hogs": pids}


def wait_for(condition: Callable[[], Any], campaign: subprocess.Popen[str], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert campaign.poll() is None, campaign.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def own_reasons(row: dict[str, Any]) -> list[str]:
    """Without what everybody else on this machine does to its CPUs."""
    return [name for name in row["reasons"] if name not in ("cpu_contention", "too_short")]


def observation(row: dict[str, Any], reason: str) -> dict[str, Any]:
    (found,) = [entry for entry in row["observations"] if entry["reason"] == reason]
    return found


@pytest.mark.parametrize(
    ("index", "reasons"),
    [
        (CLEAN, []),
        (THROTTLED, ["throttled"]),
        (MEMORY, ["memory_not_idle"]),
        (SQUATTED, ["foreign_gpu_process"]),
        (BUSY, []),
        (SLEPT, ["suspended", "clock_stepped"]),
        (LAST, []),
    ],
)
def test_each_condition_is_found_where_it_was_planted(planted: dict[str, Any], index: int, reasons: list[str]) -> None:
    row = planted["rows"][index]
    assert own_reasons(row) == reasons, row["evidence"]
    assert row["valid"]
    assert row["safe"] == (row["reasons"] in ([], ["too_short"]))


def test_the_time_of_a_slowdown_is_known_within_a_tick(planted: dict[str, Any]) -> None:
    """A tick that was late itself, or that nobody could read, makes its neighbourhood known as much later; of what
    ended only when the run was over already, the run saw its own end."""
    row = planted["rows"][THROTTLED]
    found, trace = observation(row, "throttled"), profiler.open(planted["session"]).samples(row["run_id"])
    for found_ns, moment in zip((found["start_ns"], found["end_ns"]), planted["times"]["throttled"], strict=True):
        before_ns, after_ns = (min(t_ns, row["window_end_ns"]) for t_ns in moment)
        near = trace[trace["t_mono_ns"].between(before_ns - 3 * TICK_NS, after_ns + 3 * TICK_NS)]
        margin_ns = 1.5 * TICK_NS + near["lateness_ns"].max()
        assert before_ns - margin_ns <= found_ns <= after_ns + margin_ns


def test_a_stranger_is_told_of_at_no_time_when_it_was_not_there(planted: dict[str, Any]) -> None:
    """How late a look comes is the machine's; with looks that come in time: test_gpu_processes."""
    found = observation(planted["rows"][SQUATTED], "foreign_gpu_process")
    (before_ns, _), (_, after_ns) = planted["times"]["foreign_gpu_process"]
    assert before_ns <= found["start_ns"] < found["end_ns"] <= after_ns


def test_the_cause_of_a_slowdown_is_told(planted: dict[str, Any]) -> None:
    assert "hw_thermal_slowdown" in planted["rows"][THROTTLED]["evidence"]["throttled"]


def test_busy_cpus_are_told_with_a_process(planted: dict[str, Any]) -> None:
    row = planted["rows"][BUSY]
    assert "cpu_contention" in row["reasons"]
    assert observation(row, "cpu_contention")["value"] > 0.25
    assert "most of it PID " in row["evidence"]["cpu_contention"]


def test_the_stranger_and_the_sleep_are_told(planted: dict[str, Any]) -> None:
    assert f"PID {planted['stranger']} " in planted["rows"][SQUATTED]["evidence"]["foreign_gpu_process"]
    assert "slept for 30.0 s" in planted["rows"][SLEPT]["evidence"]["suspended"]
    assert "+70.0 s" in planted["rows"][SLEPT]["evidence"]["clock_stepped"]
    assert 900 < observation(planted["rows"][MEMORY], "memory_not_idle")["value"] < PLANTED_MIB
    assert observation(planted["rows"][CLEAN], "memory_not_idle")["value"] == 0


def test_a_second_judgement_changes_nothing(planted: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROFILER_REPOS", str(REPOS))
    copy = planted["session"].with_name("run_20200101_000000")
    shutil.copytree(planted["session"], copy)
    done = reprocess(copy)
    assert [(change.run_id, change.columns) for change in done.changes] == []
    assert done.notes == ()


def test_another_limit_gives_another_verdict_and_stays(planted: dict[str, Any]) -> None:
    copy = planted["session"].with_name("run_20200101_000001")
    shutil.copytree(planted["session"], copy)
    limit = ("--set", "thresholds.throttled=0.9", "--set", "thresholds.cpu_contention=1e6")
    document = run_json("reprocess", copy, *limit)
    changed = {change["experiment_id"]: change for change in document["changes"]}
    throttled = changed[f"quick_quick_{THROTTLED:03d}"]
    assert (throttled["verdict_before"], throttled["verdict"]) == ("contaminated", "valid")
    rows = {row["index"]: row for row in profiler.open(copy).rows()}
    assert [index for index, row in rows.items() if not row["safe"]] == [MEMORY, SQUATTED, SLEPT]
    assert rows[BUSY]["verdict"] == "valid"
    assert len((copy / "summary_safe.csv").read_text().splitlines()) == 1 + 4
    record = json.loads((copy / rows[THROTTLED]["experiment_id"] / "experiment.json").read_text())
    assert record["verdict"] == "valid"
    assert run_json("reprocess", copy, *limit)["changes"] == []
    assert run_json("reprocess", copy)["changes"] == []
    before = [json.loads(line) for line in (copy / "ledger.jsonl").read_text().splitlines()]
    assert any(event["event"] == "reprocessed" and event["before"].get("verdict") == "contaminated" for event in before)


def test_pruned_logs_keep_what_is_stored(planted: dict[str, Any]) -> None:
    copy = planted["session"].with_name("run_20200101_000002")
    shutil.copytree(planted["session"], copy)
    (copy / "quick_quick_001" / "events.jsonl").unlink()
    result = run("reprocess", copy)
    assert result.returncode == 0
    assert "events not there any more" in result.stderr
    assert profiler.open(copy).rows()[0]["metrics"] == {"accuracy": 0.75}


def test_a_driven_session_and_a_wrong_limit_are_refused(planted: dict[str, Any]) -> None:
    from profiler.store.layout import SessionFolder

    with driver_lock(SessionFolder(planted["session"])):
        refused = run("reprocess", planted["session"])
    assert (refused.returncode, "already driven" in refused.stderr) == (2, True)
    wrong = run("reprocess", planted["session"], "--set", "thresholds.throtled=1")
    assert (wrong.returncode, "did you mean 'throttled'" in wrong.stderr) == (2, True)
