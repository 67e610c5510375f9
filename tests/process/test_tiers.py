"""Tiers are tried for real, in worlds that forbid them for real; each refusal names the step and the fix."""

from __future__ import annotations

import ast
import os
import subprocess

import pytest

from profiler.process import tiers
from profiler.process.command import TIERS
from tests.process.harness import Place

pytestmark = pytest.mark.slow

PROBE = (
    "from profiler.process.tiers import *; print([(t.name, t.available, t.reason, t.fix, t.holds) for t in probe()])"
)
START = """
import sys
from pathlib import Path
from profiler.errors import ContainmentError
from profiler.process.command import Command
from profiler.process.launch import start
try:
    with start(Command(("true",), {}, Path("/")), allow_uncontained="allow" in sys.argv) as process:
        print(process.containment)
except ContainmentError as error:
    print(error)
"""


def in_world(place: Place, world: list[str], program: str, *arguments: str) -> str:
    """Output of a program in a world made by `world` (a command prefix run as root)."""
    if os.geteuid() != 0:
        pytest.skip("only root can make such a world")
    argv = [*world, place.python, "-S", "-c", program, *arguments]
    done = subprocess.run(argv, env=place.environment, cwd="/", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def user_world(*before: str) -> list[str]:
    """As an ordinary user after `before` was done as root in a mount namespace of its own."""
    as_user = 'exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"'
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", "; ".join([*before, as_user]), "sh"]


def test_probe_here(place: Place) -> None:
    found = {name: rest for name, *rest in ast.literal_eval(place.run(PROBE))}
    assert tuple(found) == TIERS
    assert found["pid_namespace"] == [True, "", "", True]
    for available, reason, fix, _ in found.values():
        assert available or (reason and fix)
    assert found["subreaper"][3] is False


def test_masked_proc_as_in_a_container(place: Place) -> None:
    world = user_world("mount -t tmpfs none /proc/sys/kernel")
    if place.uid == 0:
        pytest.skip("root may mount its own")
    found = ast.literal_eval(in_world(place, world, PROBE))
    _, available, reason, fix, _ = found[0]
    assert not available and "mount /proc" in reason and "systempaths=unconfined" in fix


def test_no_user_namespaces(place: Place) -> None:
    if place.uid == 0:
        pytest.skip("root needs none")
    inner = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all --inh-caps -all "$@"'
    world = ["unshare", "--user", "--map-root-user", "sh", "-c", f"{inner}", "sh"]
    found = ast.literal_eval(in_world(place, [*world, "setpriv", "--no-new-privs"], PROBE))
    _, available, reason, fix, _ = found[0]
    assert not available and "unshare user namespace" in reason
    assert fix == "sudo sysctl -w user.max_user_namespaces=15000"


def test_root_of_a_container_without_its_capabilities(place: Place) -> None:
    if place.uid != 0:
        pytest.skip("root's case")
    world = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-all"]
    _, available, reason, fix, _ = ast.literal_eval(in_world(place, world, PROBE))[0]
    assert available or (reason and fix)  # it goes on as an ordinary user would
    world = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
    _, available, reason, fix, _ = ast.literal_eval(in_world(place, world, PROBE))[0]
    assert not available and "write /proc/self/uid_map: Operation not permitted" in reason and fix


def test_refuses_without_a_tier_that_holds(place: Place) -> None:
    if place.uid == 0:
        pytest.skip("root has one")
    world = user_world("mount -t tmpfs none /proc/sys/kernel", "mount -t tmpfs none /sys/fs/cgroup")
    text = in_world(place, world, START)
    assert "no containment tier works here" in text and "--allow-uncontained" in text
    assert "pid_namespace: " in text and "cgroup: " in text
    assert in_world(place, world, START, "allow").strip() == "subreaper"


def test_delegated_cgroup_for_an_ordinary_user(place: Place) -> None:
    if place.uid == 0:
        pytest.skip("root needs no delegation")
    enter = (
        "root=$(awk '$3 == \"cgroup2\" {print $2; exit}' /proc/self/mounts); d=$root/delegated-$$; mkdir $d || exit 9; "
        "chown -R 65534 $d; echo $$ > $d/cgroup.procs"
    )
    if (
        os.geteuid() == 0
        and subprocess.run(["sh", "-c", f"{enter}; echo $$ > $root/cgroup.procs; rmdir $d"]).returncode
    ):
        pytest.skip("no writable cgroup v2 hierarchy")
    leave = "trap 'echo $$ > $root/cgroup.procs; rmdir $d' EXIT"
    as_user = 'setpriv --reuid 65534 --regid 65534 --clear-groups "$@"'
    world = ["sh", "-c", f"{enter}; {leave}; {as_user}", "sh"]
    found = {name: rest for name, *rest in ast.literal_eval(in_world(place, world, PROBE))}
    assert found["cgroup"] == [True, "", "", True]


@pytest.mark.parametrize(
    ("tier", "reason", "sysctl", "container", "words"),
    [
        ("pid_namespace", "mount /proc: no", {"kernel/apparmor_restrict_unprivileged_userns": "1"}, False, "userns=0"),
        ("pid_namespace", "unshare user namespace", {"kernel/unprivileged_userns_clone": "0"}, False, "clone=1"),
        ("pid_namespace", "unshare user namespace", {}, True, "--cap-add SYS_ADMIN"),
        ("pid_namespace", "unshare user namespace", {}, False, "run as root"),
        ("cgroup", "[Errno 2] no cgroup v2 hierarchy is mounted", {}, False, "unified_cgroup_hierarchy=1"),
        ("cgroup", "the kernel has no cgroup.kill", {}, False, "Linux 5.14"),
        ("cgroup", "[Errno 13] Permission denied", {}, False, "systemd-run --user --scope -p Delegate=yes"),
        ("cgroup", "[Errno 30] Read-only file system", {}, True, "--cgroupns=private"),
        ("subreaper", "anything", {}, False, ""),
    ],
)
def test_fixes(tier: str, reason: str, sysctl: dict[str, str], container: bool, words: str) -> None:
    assert words in tiers.fix_for(tier, reason, sysctl.get, container)
