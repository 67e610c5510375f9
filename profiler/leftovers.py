"""What runs of this tool are held on this machine, and the end of those that nobody owns any more. Prints nothing.

Both functions return plain JSON documents: they are also asked on the other nodes of a cluster.
"""

from __future__ import annotations

from typing import Any

from profiler import host
from profiler.driver_lock import drivers_here
from profiler.process.find import KeeperInfo, find_keepers, leftover_cgroups, pids_of, reap, reap_cgroup


def held_runs() -> dict[str, Any]:
    """{"hostname", "processes": [one object a run in work], "leftover_cgroups": [paths], "drivers": [one object a live
    campaign]}. Ends nothing."""
    return {
        "hostname": host.hostname(),
        "processes": [held_run(keeper) for keeper in find_keepers()],
        "leftover_cgroups": [str(path) for path in leftover_cgroups()],
        "drivers": drivers_here(),
    }


def end_leftovers() -> dict[str, Any]:
    """End what has no live owner. {"hostname", "ended": [...], "remaining_pids": [those the kernel still holds]}."""
    ended: list[dict[str, Any]] = []
    remaining: set[int] = set()
    for keeper in find_keepers():
        if keeper.leftover:
            entry = held_run(keeper)
            remaining |= reap(keeper)
            ended.append({"name": f"{entry['run'] or entry['role'] or 'run'} of keeper {keeper.pid}", **entry})
    for folder in leftover_cgroups():
        remaining |= reap_cgroup(folder)
        ended.append({"name": f"cgroup {folder}", "pids": []})
    return {"hostname": host.hostname(), "ended": ended, "remaining_pids": sorted(remaining)}


def held_run(keeper: KeeperInfo) -> dict[str, Any]:
    """What is known of one run in work."""
    labels = keeper.labels
    return {
        "keeper_pid": keeper.pid,
        "session": labels.get("session"),
        "session_key": labels.get("key"),
        "run": labels.get("run"),
        "attempt": int(labels["attempt"]) if labels.get("attempt", "").isdigit() else None,
        "role": labels.get("role"),
        "containment": keeper.containment,
        "owner_pid": keeper.owner_pid,
        "leftover": keeper.leftover,
        "pids": sorted(pids_of(keeper)),
    }
