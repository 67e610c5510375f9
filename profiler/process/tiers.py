"""Which containment works on this machine, why not, and the line that fixes it. Tries each tier for real.

A tier is tried by making a keeper in it and ending that before any trainer: what a run needs is what is tested. It
changes nothing on the machine and decides nothing about a campaign.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from profiler.process.command import HOLDING_TIERS, TIERS, Command, TierUnavailableError
from profiler.process.launch import start

MEANING = {
    "pid_namespace": "the kernel ends a run's processes with its keeper, whatever happens",
    "cgroup": "one write ends a run's processes; only both halves of a keeper killed at once could leave some",
    "subreaper": "best effort: orphans are collected and killed; processes can survive a kill of the keeper",
}
IN_CONTAINER = (
    "start the container with --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
)
UNMASK_PROC = (
    "parts of /proc are masked, as containers do: start it with --security-opt systempaths=unconfined (Docker), "
    "--security-opt unmask=ALL (Podman), or securityContext.procMount: Unmasked (Kubernetes)"
)
DELEGATE = "run inside a delegated cgroup: systemd-run --user --scope -p Delegate=yes profiler ..."


@dataclass(frozen=True)
class Tier:
    """`available`: a run can be contained so here. `reason`: the failing step and the kernel's words ("" if
    available). `fix`: what to do about it ("" if nothing is known or needed). `holds`: no single kill -9 leaves a
    process; a tier that does not hold is used only with --allow-uncontained."""

    name: str
    available: bool
    reason: str
    fix: str
    holds: bool
    meaning: str


def probe() -> list[Tier]:
    """Every tier, best first. Takes about 50 ms each."""
    return [_try(name) for name in TIERS]


def best_tier() -> Tier | None:
    """The best tier that works here and holds; None if only best effort is left."""
    for name in HOLDING_TIERS:
        tier = _try(name)
        if tier.available:
            return tier
    return None


def _try(name: str) -> Tier:
    try:
        with start(Command(argv=("true",), env={}, cwd=Path("/"), stdout=None), tier=name):
            pass
    except TierUnavailableError as error:
        fix = fix_for(name, error.reason, read_sysctl, in_container())
        return Tier(name, False, error.reason, fix, name in HOLDING_TIERS, MEANING[name])
    return Tier(name, True, "", "", name in HOLDING_TIERS, MEANING[name])


def fix_for(tier: str, reason: str, sysctl: Callable[[str], str | None], container: bool) -> str:
    """The line that would make `tier` work, from the failing step in `reason` and the machine's settings."""
    if tier == "cgroup":
        return _fix_cgroup(reason, container)
    if tier != "pid_namespace":
        return ""
    for name, forbidding, allowing in (
        ("user/max_user_namespaces", "0", "15000"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ):
        if sysctl(name) == forbidding:
            return f"sudo sysctl -w {name.replace('/', '.')}={allowing}"
    if "mount /proc" in reason:
        return UNMASK_PROC
    return IN_CONTAINER if container else "run as root, or allow unprivileged user namespaces on this machine"


def _fix_cgroup(reason: str, container: bool) -> str:
    if "no cgroup v2" in reason:
        return "boot with cgroup v2: kernel parameter systemd.unified_cgroup_hierarchy=1"
    if "cgroup.kill" in reason:
        return "Linux 5.14 or later is needed"
    if container:
        return "mount /sys/fs/cgroup writable in the container: --cgroupns=private -v /sys/fs/cgroup:/sys/fs/cgroup:rw"
    return DELEGATE


def read_sysctl(name: str) -> str | None:
    """The value of ``/proc/sys/<name>``; None where this kernel has none."""
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None


def in_container() -> bool:
    """Whether this looks like a container: a hint for the fix text only."""
    marks = ("/.dockerenv", "/run/.containerenv")
    return any(Path(mark).exists() for mark in marks) or "KUBERNETES_SERVICE_HOST" in os.environ
