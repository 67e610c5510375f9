"""``profiler reap``: ends what earlier runs left over on this machine. What has a live owner is left alone."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from profiler.cli import output
from profiler.cli.main import CANNOT
from profiler.cli.status import keeper_json


def execute(options: Namespace) -> int:
    """Ends the leftovers and prints them. 0 when none is left, 3 when the kernel still holds some process."""
    ended, remaining = _end_leftovers()
    if options.json:
        output.print_json({"ended": ended, "remaining_pids": sorted(remaining)})
    else:
        for entry in ended:
            count = f" ({len(entry['pids'])} processes)" if entry["pids"] else ""
            output.print_result(f"ended {entry['name']}{count}")
        if not ended:
            output.print_result("nothing was left over on this machine")
    if remaining:
        output.say(f"error: still there: PIDs {', '.join(map(str, sorted(remaining)))}; look at them with: ps -fp PID")
    return CANNOT if remaining else 0


def _end_leftovers() -> tuple[list[dict[str, Any]], set[int]]:
    from profiler.process.find import find_keepers, leftover_cgroups, reap, reap_cgroup

    ended: list[dict[str, Any]] = []
    remaining: set[int] = set()
    for keeper in find_keepers():
        if not keeper.leftover:
            continue
        entry = keeper_json(keeper)
        remaining |= reap(keeper)
        ended.append({"name": f"{entry['run'] or entry['role'] or 'run'} of keeper {keeper.pid}", **entry})
    for folder in leftover_cgroups():
        remaining |= reap_cgroup(folder)
        ended.append({"name": f"cgroup {folder}", "pids": []})
    return ended, remaining
