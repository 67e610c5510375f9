"""What goes to stdout and stderr, and how values become JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from profiler.cli import output
from profiler.errors import CannotRunError, ConfigError, ConfigIssue


@dataclass(frozen=True)
class Point:
    x: float
    where: Path


def test_values_become_plain_json() -> None:
    value = {
        "nan": float("nan"),
        "inf": [float("inf"), -float("inf")],
        "exact": 0.1 + 0.2,
        "none": None,
        "yes": True,
        "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "point": Point(1.5, Path("/a")),
        "third": Fraction(1, 4),
        "numpy": [np.float64("nan"), np.int64(3), np.bool_(True), np.array([1, 2])],
        7: (1, 2),
    }
    assert output.json_ready(value) == {
        "nan": None,
        "inf": [None, None],
        "exact": 0.30000000000000004,
        "none": None,
        "yes": True,
        "time": "2026-01-02T03:04:05+00:00",
        "point": {"x": 1.5, "where": "/a"},
        "third": 0.25,
        "numpy": [None, 3, True, [1, 2]],
        "7": [1, 2],
    }


def test_a_refused_config_is_one_line_a_fault_or_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConfigError([ConfigIssue("c.yaml", "sed", 1, "unknown key", "seed"), ConfigIssue("c.yaml", "", None, "b")])
    output.report_error(error, as_json=False)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.splitlines() == [
        "error: c.yaml: sed: unknown key (did you mean 'seed'?)",
        "error: c.yaml: b",
    ]
    output.report_error(error, as_json=True)
    seen = capsys.readouterr()
    assert seen.err == ""
    assert json.loads(seen.out)["errors"][0] == {
        "file": "c.yaml",
        "path": "sed",
        "value": 1,
        "message": "unknown key",
        "suggestion": "seed",
    }


def test_any_other_refusal_has_the_same_shape(capsys: pytest.CaptureFixture[str]) -> None:
    output.report_error(CannotRunError("no way"), as_json=True)
    (entry,) = json.loads(capsys.readouterr().out)["errors"]
    assert entry == {"file": None, "path": None, "value": None, "message": "no way", "suggestion": None}


def script(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=False)


def test_strangers_that_print_do_not_reach_stdout() -> None:
    ended = script(
        "import os, subprocess\n"
        "from profiler.cli import output\n"
        "with output.stdout_kept_clean():\n"
        "    print('library')\n"
        "    os.write(1, b'c code\\n')\n"
        "    subprocess.run(['echo', 'child'])\n"
        "output.print_json({'a': 1})\n"
    )
    assert json.loads(ended.stdout) == {"a": 1}
    assert sorted(ended.stderr.split("\n")) == ["", "c code", "child", "library"]


def test_a_closed_stdout_is_no_error() -> None:
    line = f"exec {sys.executable} -m profiler >&-"
    ended = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_reader_that_goes_away_ends_nothing() -> None:
    text = (
        "import sys\n"
        "from profiler.cli import output\n"
        "for _ in range(20000): output.print_result('x' * 80)\n"
        "sys.exit(7)\n"
    )
    reading, writing = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", text], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    os.read(reading, 10)
    os.close(reading)
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 7


def test_a_poor_encoding_ends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ä─名.yaml"
    ended = subprocess.run(
        [sys.executable, "-m", "profiler", "plan", path],
        capture_output=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert ended.returncode == 2
    assert b"Traceback" not in ended.stderr
    assert b"\\u540d" in ended.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_stdout_is_told_and_ends_with_3(options: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "profiler", "list", *options], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 3
    assert ended.stderr == "error: cannot write to stdout: No space left on device\n"


def test_a_full_stderr_ends_nothing() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-m", "profiler", "plan", "/nonexistent"], stderr=full)
    assert ended.returncode == 2
