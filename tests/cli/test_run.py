"""``profiler run`` as a user meets it: stdout and stderr, on a terminal and off it, and when it is interrupted."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from profiler.process.find import find_keepers
from profiler.store.layout import SessionFolder
from profiler.store.read import open_session
from tests.campaigns import command, config, environment, pair, quick, run, run_json
from tests.process.harness import wait_until

pytestmark = pytest.mark.ray


def test_off_a_terminal_progress_is_lines_and_the_summary_is_on_stdout(tmp_path: Path) -> None:
    path = config(tmp_path, [quick(), quick(behaviour="exit_3")], max_retries=0)
    ended = run("run", path, "--results", tmp_path / "results")
    assert ended.returncode == 1
    session = next((tmp_path / "results").glob("run_*"))
    lines = ended.stderr.splitlines()
    assert lines[0] == f"session {session.name}: 2 runs, in {session}"
    assert "quick_quick_001 attempt 1: training" in lines
    assert any(line.startswith("quick_quick_001 attempt 1: valid in ") and "1/2 runs" in line for line in lines)
    assert any(line.startswith("quick_quick_002 attempt 1: failed") and "reasons: exit" in line for line in lines)
    assert "\x1b" not in ended.stderr + ended.stdout
    summary = ended.stdout
    assert "2: 1 valid, 1 safe, 1 failed" in summary
    assert str(session / "summary.csv") in summary
    assert str(session / "dataset") in summary
    assert f"profiler show {session}" in summary
    assert re.search(r"GPU energy +not known \(\w+\)", summary) or re.search(r"GPU energy +\S+ k?J", summary)
    assert "quick_quick_001" not in summary


def test_on_a_terminal_there_is_a_table_and_stdout_stays_clean(tmp_path: Path) -> None:
    path = config(tmp_path, [quick(epochs=4, epoch_seconds=0.3)])
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        command("run", path, "--results", tmp_path / "results", "--json"),
        env=environment(TERM="xterm-256color", COLUMNS="100"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    shown = _read_all(main)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert json.loads(out)["runs"][0]["verdict"] == "valid"
    assert "\x1b[" in shown
    assert re.search(r"quick_quick_001 .*training \d+ s", shown)
    assert "0/1 runs" in shown
    assert not re.search(r"^quick_quick_001 attempt 1: training", shown, re.MULTILINE)


def _read_all(descriptor: int) -> str:
    """Everything that comes out of a pseudo-terminal until its other side is closed."""
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # how Linux says that the other side is closed
            part = b""
        if not part:
            break
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts).decode()


def test_json_is_one_document_with_the_results(tmp_path: Path) -> None:
    path = config(tmp_path, [quick()])
    document = run_json("run", path, "--results", tmp_path / "results")
    assert set(document) >= {"session_id", "path", "runs"}
    assert Path(document["path"]).name == document["session_id"]
    shown = run_json("show", document["path"])
    assert shown["runs"] == document["runs"]


def test_the_options_of_the_old_tool_run_a_campaign(tmp_path: Path) -> None:
    line = ["run", "-r", "quick", "-m", "quick", "-mt", "learning_rate", "-n", "2", "-s", "7", "-mr", "0"]
    planned = run_json(*line, "--dry-run")
    ran = run_json(*line, "--results", tmp_path / "results")
    assert [row["requested_hyperparameters"] for row in ran["runs"]] == [
        entry["hyperparameters"] for entry in planned["runs"]
    ]


@contextmanager
def training(folder: Path, beside: Mapping[str, Any] | None = None, **values: Any) -> Iterator[subprocess.Popen[str]]:
    """A campaign in a session of its own whose first of two runs is training; `beside`: next to such a background."""
    first = quick(epochs=100, epoch_seconds=1.0, **values)
    if beside is not None:
        first = pair(first["hyperparameters"], beside)
    path = config(folder, [first, quick(seed=2)])
    process = subprocess.Popen(
        command("run", path, "--results", folder / "results"),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    given_up = threading.Timer(200, process.kill)
    given_up.start()
    try:
        said = list(itertools.takewhile(lambda line: not line.endswith(": training\n"), process.stderr))
        given_up.cancel()
        assert process.poll() is None, said
        yield process
    finally:
        given_up.cancel()
        process.kill()
        process.communicate(timeout=30)


BESIDE = {"epochs": 100, "epoch_seconds": 0.1}


@pytest.mark.parametrize(
    ("number", "beside"),
    [pytest.param(signal.SIGINT, None, marks=pytest.mark.cluster), (signal.SIGTERM, BESIDE), (signal.SIGHUP, None)],
)
def test_an_interruption_stops_everything_and_says_how_to_go_on(
    number: int, beside: dict[str, Any] | None, tmp_path: Path
) -> None:
    with training(tmp_path, beside) as process:
        session = next((tmp_path / "results").glob("run_*"))
        wait_until(lambda: any(path.read_text() for path in session.glob("*/events.jsonl")), 60)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert f"profiler resume {session}" in err
    assert "Traceback" not in err
    assert not [keeper for keeper in find_keepers() if keeper.labels.get("key") == SessionFolder(session).key]
    (row,) = open_session(session).attempts()
    assert (row["attempt"], row["is_final"], row["reasons"][0]) == (1, False, "interrupted")
    assert "background_failed" not in row["reasons"]
    assert beside is None or row["background_ended_at"] >= row["ended_at"]
    assert row["hyperparameters"]["epochs"] == 100
    assert row["duration_s"] == pytest.approx((row["ended_at"] - row["started_at"]).total_seconds(), abs=0.001)
    assert row["window_start_ns"] < row["window_end_ns"]


def test_an_interrupted_campaign_can_be_resumed(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with training(tmp_path, behaviour="slow_until_marked", marker=str(marker)) as process:
        session = next((tmp_path / "results").glob("run_*"))
        wait_until(lambda: any(path.read_text() for path in session.glob("*/events.jsonl")))  # its step comes before it
        live = json.loads(run("status", session, "--json").stdout)["processes"]
        assert [(one["role"], one["attempt"], one["leftover"]) for one in live] == [("foreground", 1, False)]
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)  # twice, as people do
        process.communicate(timeout=60)
    assert process.returncode == 130
    status = run("status", session).stdout
    assert "no process drives it now\nno training of it is in work on this machine" in status
    assert run("show", session).returncode == 0
    marker.touch()  # what is left of its 100 s needs no time any more
    document = run_json("resume", session)
    assert [row["verdict"] for row in document["runs"]] == ["valid", "valid"]
    assert document["session_id"] == session.name
