"""Right or wrong: one verdict for one run. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tests.conformance.cases import Case
from tests.conformance.stage import NO_ANSWER, Run
from tests.conformance.tools import Tool

RIGHT, WRONG, NO_FIGURE = "right", "wrong", "no figure"
NOT_CLAIMED, NOT_RUN = "not claimed", "could not run"
VERDICTS = (RIGHT, WRONG, NO_FIGURE, NOT_CLAIMED, NOT_RUN)


@dataclass(frozen=True)
class Judged:
    """A run with its verdict. `note`: what the verdict rests on, where it is not the figure alone."""

    case: Case
    tool: Tool
    run: Run
    verdict: str
    note: str = ""


def unclaimed(case: Case, tool: Tool) -> str | None:
    """Why the tool does not claim to do this, or None."""
    if case.device not in tool.devices:
        return f"does not measure a {case.device.upper()}"
    return case.not_claimed.get("" if tool.peer is None else tool.peer.name)


def judge(case: Case, tool: Tool, run: Run) -> Judged:
    """What a tool does not claim is never wrong; what could not be run is neither right nor wrong."""
    why = unclaimed(case, tool)
    if why is not None:
        return Judged(case, tool, run, NOT_CLAIMED, why)
    if run.error is not None:  # a tool that the input itself ended has been run
        return Judged(case, tool, run, NO_FIGURE if run.error.startswith(NO_ANSWER) else NOT_RUN, run.error)
    if case.killed:
        left = len(run.left_running or ())
        return Judged(case, tool, run, WRONG if left else RIGHT, f"{left} left running" if left else "nothing left")
    if run.energy_j is None:
        verdict = NO_FIGURE if case.no_figure == "never" else RIGHT
        return Judged(case, tool, run, verdict, run.reason or "no reason given")
    return Judged(case, tool, run, RIGHT if _is_true(case, tool, run) else WRONG, _met(case, run))


def _is_true(case: Case, tool: Tool, run: Run) -> bool:
    if case.no_figure == "only" or run.truth_j is None or run.energy_j is None:
        return False
    least_j, most_j = run.truth_j
    return least_j * (1 - tool.tolerance) <= run.energy_j <= most_j * (1 + tool.tolerance)


def _met(case: Case, run: Run) -> str:
    return "" if case.fault is None or run.fault_met else "made no read for the fault to meet"
