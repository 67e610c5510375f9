"""What a run's processes are known by, in each tier: real keepers, real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from profiler.gpu_processes import describe_process
from profiler.process.command import HOLDING_TIERS, TIERS, Command, TierUnavailableError
from profiler.process.contained import ContainedProcess
from profiler.process.enclosure import cgroup_folders, is_in, members, namespace_inode
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a PID namespace without a user namespace")
def test_namespaces_that_a_run_makes_are_in_its_own(tmp_path: Path) -> None:
    sandbox = ("unshare", "--fork", "--pid", "--mount-proc", "unshare", "--fork", "--pid", "sleep", "61")
    with start(Command(sandbox, dict(os.environ), tmp_path, tmp_path / "log"), tier="pid_namespace") as process:
        process.release()
        wait_until(lambda: any(_argv(pid) == "sleep 61" for pid in members(process.enclosure)))
        (inside,) = (pid for pid in members(process.enclosure) if _argv(pid) == "sleep 61")
        assert namespace_inode(inside) != process.enclosure
        assert describe_process("GPU", inside, 100.0, 1).pid_namespace == process.enclosure
    assert describe_process("GPU", os.getpid(), 100.0, 1).pid_namespace == namespace_inode("self")


WITHIN = """
import os, sys, time
from pathlib import Path
from profiler.process.command import Command
from profiler.process.launch import start
here = Path.cwd()
with start(Command(("sleep", "62"), dict(os.environ), here, here / "inner.log"), tier=sys.argv[1]) as process:
    process.release()
    print(process.enclosure, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("inner", HOLDING_TIERS)
@pytest.mark.parametrize("outer", HOLDING_TIERS)
def test_runs_that_a_run_makes_are_in_its_own(outer: str, inner: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = Command((sys.executable, "-c", WITHIN, inner), environment, tmp_path, tmp_path / "log")
    with ExitStack() as stack:
        try:
            process = stack.enter_context(start(command, tier=outer))
        except TierUnavailableError as error:
            pytest.skip(error.reason)
        process.release()
        wait_until(lambda: (tmp_path / "log").read_text() != "")
        said = (tmp_path / "log").read_text()
        if "TierUnavailableError" in said:
            pytest.skip(said)
        wait_until(lambda: any(_argv(pid) == "sleep 62" for pid in members(process.enclosure)))
        (inside,) = (pid for pid in members(process.enclosure) if _argv(pid) == "sleep 62")
        row = vars(describe_process("GPU", inside, 100.0, 1))
        assert process.enclosure is not None
        assert is_in(row, process.enclosure)
        if "cgroup" in (outer, inner):  # of two namespaces only the outer one is seen from here
            assert is_in(row, said.strip() if inner == "cgroup" else int(said))
    for folder in cgroup_folders(said.strip()):
        folder.rmdir()  # its keeper was killed with the outer run


def _argv(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def test_a_process_that_is_gone_lives_nowhere() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    gone = describe_process("GPU", child.pid, None, 1)
    assert (gone.pid_namespace, gone.cgroup) == (None, None)
    assert not is_in(vars(gone), "profiler-keeper-1")
