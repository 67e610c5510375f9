"""``profiler reap``: ends what earlier runs left over, here or on every node. What has a live owner is left alone."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from profiler.cli import output
from profiler.cli.main import CANNOT


def execute(options: Namespace) -> int:
    """Ends the leftovers and prints them. 0 when none is left, 3 when the kernel still holds some process or a node did
    not answer."""
    answers = _ask(options.address)
    if options.json:
        output.print_json(answers[0] if options.address is None else {"nodes": answers})
    else:
        for answer in answers:
            _print(answer, where="on this machine" if options.address is None else f"on {answer['hostname']}")
    return CANNOT if any(answer.get("error") or answer["remaining_pids"] for answer in answers) else 0


def _ask(address: str | None) -> list[dict[str, Any]]:
    from profiler.leftovers import end_leftovers

    if address is None:
        return [end_leftovers()]
    from profiler._own import on_every_node

    with output.stdout_kept_clean():
        return on_every_node(address, end_leftovers)


def _print(answer: dict[str, Any], where: str) -> None:
    if "error" in answer:
        output.say(f"error: {answer['hostname']} did not answer: {answer['error']}")
        return
    for entry in answer["ended"]:
        count = f" ({len(entry['pids'])} processes)" if entry["pids"] else ""
        output.print_result(f"ended {entry['name']}{count} {where}")
    if not answer["ended"]:
        output.print_result(f"nothing was left over {where}")
    if answer["remaining_pids"]:
        pids = ", ".join(map(str, answer["remaining_pids"]))
        output.say(f"error: still there {where}: PIDs {pids}; look at them with: ps -fp PID")
