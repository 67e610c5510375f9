"""What a run's processes are known by, in each tier: real keepers, real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from profiler.gpu_processes import describe_process
from profiler.process.command import TIERS, Command, TierUnavailableError
from profiler.process.contained import ContainedProcess
from profiler.process.enclosure import is_in, members
from profiler.process.launch import start
from tests.process.harness import wait_until

PARENT = """
import os, time
if os.fork() == 0:
    os.setsid()  # a daemon of its own session is in it all the same
    print("up", flush=True)
time.sleep(60)
"""


def started(folder: Path, tier: str, stack: ExitStack) -> ContainedProcess:
    folder.mkdir()
    command = Command((sys.executable, "-S", "-c", PARENT), dict(os.environ), folder, folder / "log")
    try:
        process = stack.enter_context(start(command, tier=tier, allow_uncontained=True))
    except TierUnavailableError as error:
        pytest.skip(error.reason)
    process.release()
    wait_until(lambda: (folder / "log").read_text() == "up\n")
    return process


@pytest.mark.parametrize("tier", TIERS)
def test_two_runs_are_told_apart_by_their_enclosures(tier: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        one, other = (started(tmp_path / name, tier, stack) for name in ("one", "other"))
        if tier == "subreaper":
            assert (one.enclosure, other.enclosure) == (None, None)
            assert members(one.enclosure) == set()
            return
        assert one.enclosure is not None
        assert other.enclosure is not None
        here, there = members(one.enclosure), members(other.enclosure)
        assert min(len(here), len(there)) >= 2, "the trainer and its daemon"
        assert not here & there
        assert os.getpid() not in here
        row = vars(describe_process("GPU", max(here), 100.0, 1))
        assert is_in(row, one.enclosure)
        assert not is_in(row, other.enclosure)
        assert not is_in(vars(describe_process("GPU", os.getpid(), 100.0, 1)), one.enclosure)
    if tier == "cgroup":  # the inode of a PID namespace may be somebody else's by now
        assert not members(one.enclosure) | members(other.enclosure)


def test_a_process_that_is_gone_lives_nowhere() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    gone = describe_process("GPU", child.pid, None, 1)
    assert (gone.pid_namespace, gone.cgroup) == (None, None)
    assert not is_in(vars(gone), "profiler-keeper-1")
