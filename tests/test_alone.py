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
    env = {**os.environ, "PYTHONPATH": str(HERE)}
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
    python(tmp_path, "pytest", "-n", "2", "--rootdir", ".")
    again = python(tmp_path, "tests.alone")
    assert again.returncode == rc, again.stdout + again.stderr
    assert said in again.stdout
    assert bool(again.stdout) == bool(said), "nothing is run where too many failed, or nobody knows which"


def test_a_run_that_never_was_is_no_success(tmp_path: Path) -> None:
    assert python(tmp_path, "tests.alone").returncode == 1
