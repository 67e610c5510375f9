"""What failed beside others is run once more, and must pass then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent

TESTS = """
from pathlib import Path
import pytest

def first_time(name):
    seen = Path(name).exists()
    Path(name).touch()
    return not seen

@pytest.mark.parametrize("which", range({now_and_then}))
def test_now_and_then(which):
    assert not first_time(f"seen {{which}}")

@pytest.mark.parametrize("which", range({always}))
def test_always(which):
    assert False

def test_good():
    assert first_time("good"), "it did not fail, so it is not run again"
"""


def python(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env["PYTHONPATH"] = str(HERE)
    return subprocess.run([sys.executable, "-m", *args], cwd=folder, env=env, text=True, capture_output=True)


@pytest.mark.parametrize(
    ("now_and_then", "always", "rc", "said"),
    [
        (1, 0, 0, "1 of the tests above failed beside others and passed alone"),
        (3, 0, 0, "3 of the tests above failed beside others and passed alone"),
        (1, 1, 1, "2 of the tests above failed beside others and failed alone"),
        (4, 0, 1, ""),
        (0, 0, 1, ""),
    ],
)
def test_what_failed_is_run_once_more(now_and_then: int, always: int, rc: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "test_these.py").write_text(TESTS.format(now_and_then=now_and_then, always=always))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -q --strict-markers --timeout=300\n")
    first = python(tmp_path, "pytest", "-n", "2", "--rootdir", ".")
    again = python(tmp_path, "tests.alone", str(first.returncode or 1))
    assert again.returncode == rc, again.stdout + again.stderr
    assert said in again.stdout
    assert bool(again.stdout) == bool(said), "nothing is run where too many failed, or nobody knows which"


ENDED = """
import os, signal, time
from pathlib import Path
import pytest

def test_first():
    seen = Path("first").exists()
    Path("first").touch()
    assert seen

def test_second():
    {ends}

def test_never_seen():
    assert False
"""
INTERRUPTED = (
    "os.kill(os.environ.get('PYTEST_XDIST_WORKER') and os.getppid() or os.getpid(), signal.SIGINT); time.sleep(9)"
)
BROKEN = "def pytest_runtest_logreport(report):\n    if 'second' in report.nodeid: raise RuntimeError('broken')"


@pytest.mark.parametrize(
    ("ends", "plugin", "options"),
    [("pass", "", ["-x"]), (INTERRUPTED, "", []), ("pass", BROKEN, []), ("pass", "", ["--of-no-pytest"])],
    ids=["at the first failure", "interrupted", "by an error of pytest", "before it began"],
)
def test_a_run_that_ended_early_is_no_success(ends: str, plugin: str, options: list[str], tmp_path: Path) -> None:
    (tmp_path / "test_these.py").write_text(ENDED.format(ends=ends))
    python(tmp_path, "pytest", "test_these.py::test_first", "--rootdir", ".")  # what failed in the run before
    (tmp_path / "first").unlink()
    (tmp_path / "conftest.py").write_text(plugin)
    first = python(tmp_path, "pytest", "-n", "1", "--rootdir", ".", *options)
    again = python(tmp_path, "tests.alone", str(first.returncode))
    assert (again.returncode, again.stdout) == (first.returncode, "") and first.returncode > 1


def test_what_was_not_collected_is_not_run_again(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test_these.py").write_text("def test_good(): pass")
    first = python(tmp_path, "pytest", "-n", "2", "--rootdir", ".")
    assert "import file mismatch" in first.stdout
    again = python(tmp_path, "tests.alone", str(first.returncode))
    assert again.returncode != 0 and again.stdout == ""


def test_what_is_skipped_alone_did_not_pass(tmp_path: Path) -> None:
    (tmp_path / "test_these.py").write_text(
        "import os, pytest\n\ndef test_beside_others():\n"
        "    pytest.skip('alone') if 'PYTEST_XDIST_WORKER' not in os.environ else pytest.fail('beside')"
    )
    first = python(tmp_path, "pytest", "-n", "2", "--rootdir", ".")
    again = python(tmp_path, "tests.alone", str(first.returncode))
    assert again.returncode == 1 and "1 skipped" in again.stdout and "failed alone" in again.stdout


def test_a_run_that_never_was_is_no_success(tmp_path: Path) -> None:
    assert python(tmp_path, "tests.alone", "1").returncode == 1


def test_make_tells_how_the_run_ended() -> None:
    assert "|| $(BIN)/python -m tests.alone $$?\n" in (HERE / "Makefile").read_text()
