"""How a trainer ends: exit codes, out of memory, signals. Real processes of a few lines, without torch."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.repos.trainings import REPOS, environment

HEAD = """
import pathlib, signal, sys, time
sys.path.insert(0, {repos!r})
from _kit.data import Provenance
from _kit.errors import DataError
from _kit.run import main
"""
STEPS = """
def train(run):
    run.config({"epochs": 1}, Provenance("made up", "sha256:0"))
    run.save_checkpoint = lambda: pathlib.Path("checkpoint.pt").write_text("saved")
    pathlib.Path("mark").touch()
    while True:
        time.sleep(0.01)
        run.step()
"""


def program(body: str) -> list[str]:
    return [sys.executable, "-c", HEAD.format(repos=str(REPOS)) + body + "\nsys.exit(main(train))\n"]


def run_program(body: str, folder: Path) -> tuple[int, list[dict[str, object]], str]:
    done = subprocess.run(
        program(body), cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    return done.returncode, events_in(folder), done.stderr.decode()


def events_in(folder: Path) -> list[dict[str, object]]:
    path = folder / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def stop_at_mark(body: str, folder: Path, signum: int = signal.SIGTERM) -> tuple[int, float, str]:
    """(exit code, seconds from the signal to the end, what it printed) of a program stopped once it made `mark`."""
    with subprocess.Popen(
        program(body), cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, stdout=-1, stderr=-1
    ) as process:
        deadline = time.monotonic() + 120
        while not (folder / "mark").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        sent = time.monotonic()
        process.send_signal(signum)
        output, errors = process.communicate(timeout=120)
        return process.returncode, time.monotonic() - sent, (output + errors).decode()


def test_the_events_of_a_whole_training_come_in_order(tmp_path: Path) -> None:
    code, events, _ = run_program(
        """
def train(run):
    run.config({"epochs": 2}, Provenance("made up", "sha256:0"), parameters=7)
    for epoch in range(2):
        run.step(), run.step()
        run.epoch({"accuracy": 0.5})
    run.done({"accuracy": 0.5})
""",
        tmp_path,
    )
    assert code == 0
    assert [event["event"] for event in events] == ["config", "ready", "epoch", "epoch", "done"]
    assert [event.get("epoch") for event in events[2:4]] == [1, 2]
    assert events[-1]["epochs"] == 2
    assert events[0]["data_source"] == "made up" and events[0]["facts"] == {"parameters": 7}
    stamps = [event["t_ns"] for event in events]
    assert stamps == sorted(stamps)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("body", "code", "event", "text"),
    [
        ("def train(run): raise DataError('no digits')", 3, "error", "error: no digits"),
        ("def train(run): raise ValueError('odd')", 1, None, "ValueError: odd"),
        ("def train(run): raise RuntimeError('odd')", 1, None, "RuntimeError: odd"),
        ("def train(run): bytearray(1 << 62)", 12, "oom", "error: out of memory (host)"),
        ("def train(run):\n import numpy; numpy.ones(1 << 50)", 12, "oom", "error: out of memory (host)"),
        (
            "class OutOfMemoryError(RuntimeError): pass\n"
            "def train(run): raise OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')",
            12,
            "oom",
            "error: out of memory (cuda)",
        ),
    ],
)
def test_a_failure_has_an_exit_code_and_a_reason(
    body: str, code: int, event: str | None, text: str, tmp_path: Path
) -> None:
    exit_code, events, errors = run_program(body, tmp_path)
    assert exit_code == code
    assert text in errors
    assert [one["event"] for one in events] == ([event] if event else [])


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_saves_the_checkpoint_and_ends_by_the_signal(signum: int, tmp_path: Path) -> None:
    code, seconds, output = stop_at_mark(STEPS, tmp_path, signum)
    assert code == -signum
    assert seconds < 5
    assert "after 0 epochs" in output
    assert (tmp_path / "checkpoint.pt").read_text() == "saved"
    assert "done" not in {event["event"] for event in events_in(tmp_path)}


def test_a_checkpoint_that_takes_long_is_waited_for(tmp_path: Path) -> None:
    slow = STEPS.replace("lambda: ", "lambda: time.sleep(2.0) or ")
    code, seconds, output = stop_at_mark(slow, tmp_path)
    assert (code, (tmp_path / "checkpoint.pt").read_text()) == (-signal.SIGTERM, "saved")
    assert seconds >= 2 and "in the middle" not in output


def test_one_that_never_ends_is_not(tmp_path: Path) -> None:
    code, seconds, output = stop_at_mark(STEPS.replace("lambda: ", "lambda: time.sleep(60) or "), tmp_path)
    assert code == 143 and not (tmp_path / "checkpoint.pt").exists()
    assert seconds >= 3.9 and "while it saved" in output


def test_a_stop_inside_a_long_computation_ends_it_too(tmp_path: Path) -> None:
    body = """
import hashlib
def train(run):
    pathlib.Path("mark").touch()
    hashlib.pbkdf2_hmac("sha256", b"p", b"s", (1 << 31) - 1)
"""
    code, seconds, output = stop_at_mark(body, tmp_path)
    assert code == 143
    assert 1 < seconds < 6
    assert "in the middle of a step" in output


def test_calls_that_let_no_other_thread_run_do_not_draw_out_the_end(tmp_path: Path) -> None:
    """Each of the watcher's short waits ends with the call that it ends in; the profiler kills after 5 s."""
    body = """
import json
text = json.dumps(list(range(1_000_000)) * 6)
def train(run):
    pathlib.Path("mark").touch()
    marked_s = time.process_time()
    while True:
        json.loads(text)
        pathlib.Path("new").write_text(f"{time.process_time() - marked_s}")
        pathlib.Path("new").replace("cpu_s")  # the end may come in the middle of writing
"""
    code, _, output = stop_at_mark(body, tmp_path)
    assert code == 143 and "in the middle of a step" in output
    assert float((tmp_path / "cpu_s").read_text()) < 4.0


def test_a_hold_up_of_the_whole_process_is_not_taken_from_its_step(tmp_path: Path) -> None:
    body = """
import os, subprocess
def train(run):
    run.save_checkpoint = lambda: pathlib.Path("checkpoint.pt").write_text("saved")
    last_s = time.monotonic()
    subprocess.Popen(["sh", "-c", f"sleep 0.4; kill -STOP {os.getpid()}; sleep 2; kill -CONT {os.getpid()}"])
    pathlib.Path("mark").touch()
    while time.monotonic() - last_s < 1.5:  # until it was held up
        last_s = time.monotonic()
        sum(range(1000))
    begun_s = time.process_time()
    while time.process_time() - begun_s < 0.1:
        sum(range(1000))
    run.step()
"""
    code, _, output = stop_at_mark(body, tmp_path)
    assert code == -signal.SIGTERM and "in the middle" not in output
    assert (tmp_path / "checkpoint.pt").read_text() == "saved"


def test_forked_children_get_the_default_action_and_do_not_stop_their_parent(tmp_path: Path) -> None:
    body = """
import os
def train(run):
    child = os.fork()
    if child == 0:
        pathlib.Path("mark").touch()
        time.sleep(30)
        os._exit(0)
    while not pathlib.Path("mark").exists():
        time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    status = os.waitpid(child, 0)[1]
    time.sleep(0.2)
    run.step()
    run.epoch({"status": os.waitstatus_to_exitcode(status)})
    run.done({})
"""
    code, events, _ = run_program(body, tmp_path)
    assert code == 0
    assert events[1]["metrics"] == {"status": -signal.SIGTERM}


REPEAT = 'import os; os.environ["PROFILER_BACKGROUND_REPEAT"] = "1"\n'


def test_a_background_in_mode_reuse_trains_again_until_it_is_stopped(tmp_path: Path) -> None:
    code, _, _ = stop_at_mark(
        REPEAT
        + """
import gc
trained, reads = [], []
def read(number):
    assert not gc.isenabled()
    reads.append(number)
    return [number]
def train(run):
    trained.append(run)
    assert run.load(read, 7) == [7] and run.load(read, 8) == [8]
    assert reads == [7, 8] and gc.isenabled()
    if len(trained) == 4:
        pathlib.Path("mark").touch()
    run.config({"epochs": 1}, Provenance("made up", "sha256:0"))
    for _ in range(3):
        time.sleep(0.01)
        run.step()
    run.epoch({"accuracy": 0.5})
    run.done({"accuracy": 0.5})
""",
        tmp_path,
    )
    assert code == -signal.SIGTERM
    names = [event["event"] for event in events_in(tmp_path)]
    assert names[:8] == ["config", "ready", "epoch", "done"] * 2
    assert [event["epoch"] for event in events_in(tmp_path) if event["event"] == "epoch"][:3] == [1, 1, 1]


def test_one_that_fails_does_not_train_again(tmp_path: Path) -> None:
    code, events, _ = run_program(REPEAT + 'def train(run):\n    raise RuntimeError("CUDA out of memory")\n', tmp_path)
    assert code == 12
    assert [event["event"] for event in events] == ["oom"]
