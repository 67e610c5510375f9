"""Keepers are found with labels, owner and processes; leftovers are ended, and nothing else is."""

from __future__ import annotations

import ast
import os
import signal
import subprocess

import pytest

from profiler.errors import UsageError
from profiler.process.enclosure import members
from profiler.process.find import KeeperInfo, find_keepers, leftover_cgroups, pids_of, reap, reap_cgroup
from tests.process.harness import Owner, Place, wait_until

pytestmark = pytest.mark.slow

LABELS = {"session": "run_20260101_000000", "run": "003", "attempt": "2", "role": "foreground"}


def keeper_of(owner: Owner) -> KeeperInfo:
    return next(info for info in find_keepers() if info.pid == owner.started["pid"])


def test_finds_a_keeper_with_labels_owner_and_processes(place: Place, tier: str) -> None:
    with place.owner(["sh", "-c", "sleep 60 & setsid sleep 60 & sleep 60"], labels=LABELS, tier=tier) as owner:
        owner.ask("release")
        info = keeper_of(owner)
        assert info.labels == LABELS and info.containment == tier and info.uid == place.uid
        assert info.guard_pid == owner.started["guard_pid"]
        assert info.owner_pid == owner.process.pid and not info.leftover
        assert info.namespace_inode == owner.namespace
        wait_until(lambda: len(pids_of(info)) == 5)  # guard, shell, three sleeps
        if tier == "pid_namespace":
            assert members(owner.namespace) == pids_of(info)
        owner.ask("stop 0")
        assert owner.started["pid"] not in {info.pid for info in find_keepers()} and pids_of(info) == set()


def test_an_ordinary_user_finds_its_own(place: Place) -> None:
    program = (
        "from profiler.process.find import *; print([(k.pid, k.leftover, len(pids_of(k))) for k in find_keepers()])"
    )
    with place.owner(["sleep", "60"]) as owner:
        owner.ask("release")
        wait_until(lambda: len(members(owner.namespace)) == 2)  # the guard forks when it has heard
        found = {pid: rest for pid, *rest in ast.literal_eval(place.run(program))}
        assert found[owner.started["pid"]] == [False, 2]


def test_reap_ends_a_leftover_only(place: Place) -> None:
    with place.owner(place.trainer("nasty")) as owner, place.owner(["sleep", "60"]) as other:
        owner.ask("release")
        info = keeper_of(owner)
        with pytest.raises(UsageError, match="is alive"):
            reap(info)
        # the one way to outlive an owner: both halves are stopped and cannot see its end
        for part in ("guard_pid", "pid"):
            os.kill(owner.started[part], signal.SIGSTOP)
        owner.kill()
        owner.process.wait()
        assert keeper_of(owner).leftover
        assert reap(keeper_of(owner)) == set()
        assert place.survivors([owner.namespace], 0.2, {other.process.pid, *other_pids(other)}) == set()
        assert other.ask("poll") is None


def other_pids(owner: Owner) -> set[int]:
    return {owner.started["pid"], *members(owner.namespace)}


def test_decoys_of_the_same_name_are_no_keepers(place: Place) -> None:
    with place.owner(["sleep", "60"]) as owner:
        cmdline = open(f"/proc/{owner.started['pid']}/cmdline").read().rstrip("\0").split("\0")  # noqa: PTH123, SIM115
        gone = [part if not part.startswith("owner=") else "owner=4194303:1" for part in cmdline]
        decoys = [subprocess.Popen(argv, executable="/bin/sleep", stderr=-3) for argv in (["sleep", "60"],)]
        code = "import time; time.sleep(60)"
        decoys += [subprocess.Popen([*argv[:3], "-c", code, *argv[3:]]) for argv in (cmdline, gone)]
        script = place.folder / "profiler" / "process" / "keeper.py"
        fake = place.folder / "decoy" / "profiler" / "process" / "keeper.py"
        fake.parent.mkdir(parents=True, exist_ok=True)
        fake.write_text(code)
        decoys += [subprocess.Popen([str(fake) if part == str(script) else part for part in gone])]
        try:
            pids = {decoy.pid for decoy in decoys}
            wait_until(lambda: all(os.path.exists(f"/proc/{pid}/stat") for pid in pids))  # noqa: PTH110
            assert not pids & {info.pid for info in find_keepers()}
            assert owner.started["pid"] in {info.pid for info in find_keepers()}
        finally:
            for decoy in decoys:
                decoy.kill()
                decoy.wait()


def test_a_cgroup_without_its_keeper_is_found_and_ended(place: Place) -> None:
    with place.owner(place.trainer("daemons", 3), tier="cgroup") as owner:
        if "error" in owner.started:
            pytest.skip(owner.started["message"])
        owner.say("release")
        keepers = {info.pid for info in find_keepers()}
        assert owner.started["pid"] in keepers
        assert not [folder for folder in leftover_cgroups() if str(owner.started["pid"]) in folder.name]
    with place.owner(place.trainer("nasty"), tier="cgroup") as owner:
        (place.folder / "out").write_text("")
        owner.ask("release")
        wait_until(lambda: "up" in (place.folder / "out").read_text())
        os.kill(owner.started["pid"], signal.SIGSTOP)  # or it would clean up between the two kills
        for part in ("guard_pid", "pid"):
            os.kill(owner.started[part], signal.SIGKILL)
        assert owner.ask("wait 60")["why"] == "keeper_killed"
        left = [folder for folder in leftover_cgroups() if str(owner.started["pid"]) in folder.name]
        assert len(left) == 1 and len((left[0] / "cgroup.procs").read_text().split()) >= 5
        assert reap_cgroup(left[0]) == set() and not left[0].exists()
    assert place.survivors(seconds=0.5) == set()
