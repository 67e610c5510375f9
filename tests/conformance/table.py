"""docs/conformance.md from judged runs. Only text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.conformance.judge import NO_FIGURE, NOT_CLAIMED, NOT_RUN, RIGHT, WRONG, Judged
from tests.conformance.tools import SAMPLED, TOLERANCE

HEAD = """# Conformance

Who measures right, on inputs whose energy is known? Virtual hardware plays each load in real time: a powercap tree of
real files, and a `libnvidia-ml.so.1` under the real nvidia-ml-py. Every tool runs unmodified, through its public API,
in its own environment with pinned versions. The truth is the load's closed form.

{facts}

`{command}` makes this page anew (it needs root or user namespaces, a C compiler, and a package index for the peers).
The raw answer of every run: [{raw}](../{raw}).

All figures in J. **Bold**: wrong. -: not claimed by the tool. A figure is right within {tolerance} ({sampled} for
{samplers}, which take one sample a second by design) of the truth for the tool's own
window, which opens shortly before the load and closes shortly after it. "none" (no figure) is right where the hardware
does not tell. That a spoilt read or the death of the measuring process is survived, no peer promises; it is asked of
all because it happens to all. Real sensors have errors of their own, which virtual ones do not show.
"""


def page(judged: Sequence[Judged], facts: Sequence[str], command: str, raw: str) -> str:
    """The whole page. `facts`: lines about machine, date and versions."""
    own_first = sorted(judged, key=lambda one: not one.tool.ours)
    tools = list(dict.fromkeys((one.tool.name, one.tool.version) for one in own_first))
    cases = list({one.case.name: one.case for one in judged}.values())
    by = {(one.case.name, one.tool.name, one.tool.version): one for one in judged}
    samplers = dict.fromkeys(one.tool.name for one in judged if one.tool.tolerance > TOLERANCE)
    allowed = {"tolerance": f"{TOLERANCE:.0%}", "sampled": f"{SAMPLED:.0%}", "samplers": " and ".join(samplers)}
    listed = "\n".join(f"* {fact}" for fact in facts)
    lines = [HEAD.format(facts=listed, command=command, raw=raw, **allowed)]
    lines += _table(["input", "truth, J", *(f"{name} {version}" for name, version in tools)])
    for case in cases:
        of_case = [one for one in judged if one.case.name == case.name]
        row = [by.get((case.name, *tool)) for tool in tools]
        cells = ["not run" if one is None else cell(one) for one in row]
        lines.append(_row([case.asks, truth_of(of_case), *cells]))
    lines.append(_row(["**right of those claimed and run**", "", *(score(judged, tool) for tool in tools)]))
    return "\n".join([*lines, "", *_details(judged)]) + "\n"


def cell(one: Judged) -> str:
    """One cell of the table."""
    if one.verdict == NOT_CLAIMED:
        return "-"
    if one.verdict == NOT_RUN:
        return "could not run"
    if one.case.killed:
        return one.note if one.verdict == RIGHT else f"**{one.note}**"
    text = "none" if one.run.energy_j is None else figure(one.run.energy_j)
    return text if one.verdict == RIGHT else f"**{text}**"


def figure(energy_j: float) -> str:
    return f"{energy_j:,.0f}" if abs(energy_j) >= 10 else f"{energy_j:.2g}"


def truth_of(runs: Iterable[Judged]) -> str:
    """The least truth over the tools' windows; they differ by what is drawn outside of the load."""
    runs = list(runs)
    case = runs[0].case
    if case.killed:
        return "nothing left"
    if case.no_figure == "only":
        return "none"
    least = figure(case.load.energy_j(case.load.seconds))
    return f"{least} or none" if case.no_figure == "also" else least


def score(judged: Iterable[Judged], tool: tuple[str, str]) -> str:
    counted = [
        one.verdict
        for one in judged
        if (one.tool.name, one.tool.version) == tool and one.verdict in (RIGHT, WRONG, NO_FIGURE)
    ]
    return f"{counted.count(RIGHT)} of {len(counted)}"


def _details(judged: Iterable[Judged]) -> list[str]:
    """What the cells rest on, where it is more than a figure."""
    judged = list(judged)
    lines = ["## Wrong, or without a figure", ""]
    lines += _table(["input", "tool", "said", "truth of its window"])
    for one in judged:
        if one.verdict in (WRONG, NO_FIGURE):
            lines.append(_row([one.case.asks, f"{one.tool.name} {one.tool.version}", _said(one), _window(one)]))
    lines += ["", "## Not claimed, could not run, and figures with a remark", ""]
    lines += _table(["input", "tool", "why"])
    for one in judged:
        if one.note and one.verdict not in (WRONG, NO_FIGURE) and not one.case.killed:
            lines.append(_row([one.case.asks, f"{one.tool.name} {one.tool.version}", f"{one.verdict}: {one.note}"]))
    return lines


def _said(one: Judged) -> str:
    if one.run.left_running:
        return f"{one.note}: `{one.run.left_running[0][:60]}`"
    if one.run.error is not None:
        return one.run.error[:120]
    told = "none" if one.run.energy_j is None else f"{figure(one.run.energy_j)} J"
    return f"{told} ({one.note})" if one.note else told


def _window(one: Judged) -> str:
    if one.case.killed or one.case.no_figure == "only" or one.run.truth_j is None:
        return truth_of([one])
    least, most = (figure(energy_j) for energy_j in one.run.truth_j)
    return f"{least} J" if least == most else f"{least} to {most} J"


def _table(names: Sequence[str]) -> list[str]:
    return [_row(names), "|" + "---|" * len(names)]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(text.replace("|", "/").replace("\n", " ") for text in cells) + " |"
