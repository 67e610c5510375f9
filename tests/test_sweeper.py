"""The sweeper ends the processes of its driver's Ray, and no others. Ray itself is played by small programs here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.harness import wait_until

DRIVER = """
import os, subprocess, sys, time
from cluster.sweeper import swept
ray, session, how = sys.argv[1:]
session = f"{session}/session_2026-01-01_00-00-00_000000_{os.getpid()}"
os.makedirs(session + "/logs")
quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
with swept(ray):
    programs = [
        subprocess.Popen([sys.executable, ray + "/agent.py", "--session-dir=" + session], **quiet),
        subprocess.Popen(["ray::Agent", "300"], executable="/bin/sleep",
                         **{**quiet, "stdout": open(session + "/logs/agent.out", "w")}),
    ]
    decoys = [
        subprocess.Popen(["tail", "-f", session + "/logs/agent.out"], **quiet),
        subprocess.Popen(["ray::Agent", "300"], executable="/bin/sleep", **quiet),
        subprocess.Popen([sys.executable, ray + "/agent.py", "--session-dir=" + session + "7"], **quiet),
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", ray, session], **quiet),
    ]
    print(*[process.pid for process in programs], flush=True)
    print(*[process.pid for process in decoys], flush=True)
    time.sleep(300 if how == "killed" else 0.5)
"""


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def ray_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "packages" / "ray"
    folder.mkdir(parents=True)
    (folder / "agent.py").write_text("import time; time.sleep(300)")
    return folder


@pytest.fixture
def started(ray_folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple]:
    words = [sys.executable, "-c", DRIVER, str(ray_folder), str(tmp_path / "ray"), request.param]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        programs, decoys = (list(map(int, driver.stdout.readline().split())) for _ in range(2))
        yield driver, programs, decoys
        driver.kill()
        for pid in decoys:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("started", ["killed"], indirect=True)
def test_a_killed_driver_takes_its_ray_along(started: tuple) -> None:
    driver, programs, decoys = started
    time.sleep(0.3)
    assert all(map(lives, programs))
    driver.kill()
    wait_until(lambda: not any(map(lives, programs)))
    time.sleep(0.3)
    assert all(map(lives, decoys))


@pytest.mark.parametrize("started", ["ended"], indirect=True)
def test_nothing_outlives_the_block(started: tuple) -> None:
    driver, programs, decoys = started
    assert driver.wait(30) == 0
    assert not any(map(lives, programs))
    assert all(map(lives, decoys))
