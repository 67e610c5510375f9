"""``profiler measure`` with stdin, repetitions and a second command: real commands in real time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from profiler.energy.account import FIGURES
from tests.cli.program import profiler
from tests.fakes.nvml import FakeNvml

pytestmark = pytest.mark.slow


def piped(text: str, *line: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "profiler", "measure", *line]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def test_a_filter_in_a_pipe_works() -> None:
    ended = piped("b\na\n", "--", "sort")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("a\nb\n\nended ")


def test_a_reader_that_leaves_early_does_not_wait_for_the_writer() -> None:
    command = f"yes | {sys.executable} -m profiler measure -- head -n 1"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout.splitlines()[0]) == (0, "y")


def test_a_closed_stdin_is_dev_null() -> None:
    line = f"exec 0<&-; {sys.executable} -m profiler measure -- sh -c 'readlink /proc/self/fd/0'"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout.startswith("/dev/null\n")


def test_every_repetition_is_there_and_the_means_stand_where_one_measurement_has_its_figures(
    fake_nvml: FakeNvml,
) -> None:
    fake_nvml.power(200.0)
    ended = profiler(
        "measure", "--json", "--repeat", "3", "--warmup", "1", "--", "sleep", "0.5", environment=fake_nvml.env
    )
    document = ended.json()
    assert (ended.code, document["exit_code"], document["failed"]) == (0, 0, 0)
    assert (len(document["repetitions"]), len(document["warmups"])) == (3, 1)
    durations = [one["duration_s"] for one in document["repetitions"]]
    assert document["duration_s"] == pytest.approx(sum(durations) / 3)
    energy = document["statistics"]["gpu_energy_j"]
    assert energy["n"] == 3
    assert energy["low"] < energy["mean"] == document["gpu_energy_j"] < energy["high"]
    assert energy["mean"] == pytest.approx(200 * document["duration_s"], rel=0.05)
    assert document["samples"] == sum(one["samples"] for one in document["repetitions"])
    for column in FIGURES:
        assert document[column] is not None or document["null_reasons"][column]


def test_two_commands_run_in_turn_and_the_difference_is_found(tmp_path: Path) -> None:
    order = tmp_path / "order"
    slow, fast = (f"sh -c 'printf {mark} >> {order}; sleep {s}'" for mark, s in (("B", 0.4), ("A", 0.2)))
    ended = profiler("measure", "--json", "--repeat", "4", "--vs", slow, "--", *["sh", "-c", fast[7:-1]])
    document = ended.json()
    assert ended.code == 0
    assert order.read_text() == "ABBAABBA"
    found = document["comparison"]["duration_s"]
    assert found["low"] <= 0.2 <= found["high"] or found["difference"] == pytest.approx(0.2, abs=0.1)
    assert found["difference"] > 0 and found["percent_low"] < found["percent_high"]
    assert document["versus"]["argv"][0] == "sh"
    people = profiler("measure", "--repeat", "2", "--vs", "true", "--", "sleep", "0.2")
    assert "B against A, with 95 % intervals\ntime " in people.out


def test_a_repetition_that_fails_is_told_and_decides_the_exit_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"if [ -e {mark} ]; then exit 0; fi; touch {mark}; exit 7"
    ended = profiler("measure", "--json", "--repeat", "3", "--", "sh", "-c", script)
    document = ended.json()
    assert (ended.code, document["exit_code"], document["failed"]) == (7, 7, 1)
    assert document["statistics"]["duration_s"]["n"] == 2
    assert "repetition 1/3: failed: ended with exit code 7" in ended.err


def test_a_command_that_cannot_start_is_tried_once() -> None:
    ended = profiler("measure", "--json", "--repeat", "5", "--", "no-such-command-here")
    document = ended.json()
    assert (ended.code, len(document["repetitions"])) == (127, 1)
    assert document["null_reasons"]["duration_s"] == "no_valid_repetition"
    assert "no-such-command-here" in ended.err


def test_repeated_commands_get_the_same_input_each(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert piped("x\n", "--repeat", "3", "--input", "-", "--output", str(log), "--", "cat").returncode == 0
    assert log.read_text() == "x\nx\nx\n"
    source = tmp_path / "in"
    source.write_text("y\n")
    assert piped("", "--repeat", "2", "--input", str(source), "--output", str(log), "--", "cat").returncode == 0
    assert log.read_text().endswith("y\ny\n")


def test_the_result_can_lie_in_a_file_and_leave_the_pipe_alone(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    ended = piped("b\na\n", "--json", "--result", str(result), "--", "sort")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "a\nb\n", "")
    assert json.loads(result.read_text())["exit_code"] == 0
    mark = tmp_path / "mark"
    refused = profiler("measure", "--result", "/no/such/folder/x", "--", "touch", mark)
    assert (refused.code, mark.exists()) == (3, False)
    assert "/no/such/folder/x" in refused.err


def test_input_that_nobody_will_read_is_told() -> None:
    ended = piped("x\n", "--repeat", "2", "--", "cat")
    assert "--input -" in ended.stderr


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--repeat", "0"], "0"),
        (["--repeat", "two"], "two"),
        (["--warmup", "-1"], "-1"),
        (["--vs", ""], "--vs"),
        (["--vs", "'open"], "--vs"),
        (["--timeout", "0"], "seconds above 0"),
        (["--idle-seconds", "-1"], "seconds above 0"),
        (["--idle-seconds", "1e10"], "below 1e9"),
        (["--input", "/no/such/file"], "/no/such/file"),
    ],
)
def test_bad_options_start_nothing(options: list[str], word: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    ended = profiler("measure", *options, "--", "touch", mark)
    assert ended.code == 2
    assert word in ended.err
    assert not mark.exists()


def test_an_output_that_cannot_be_written_is_named() -> None:
    ended = profiler("measure", "--output", "/no/such/folder/log", "--", "true")
    assert ended.code == 3
    assert "/no/such/folder/log" in ended.err
