"""The matrix as text: one line a victim and signal, and docs/faults.md around it."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from tests.faults.campaign_matrix import Outcome
from tests.faults.cells import VICTIMS, Cell, all_cells, pairs

HEAD = ("victim", "signal", "kills", "limit s", "late", "survivors", "clean median s", "clean max s",
        "all gone median s", "all gone max s", "left at the end")  # fmt: skip

TEXT = """# What is left after a kill

Made by `python -m tests.faults --table docs/faults.md` (`make faults`) from [{results}]({link}).

Each kill strikes a whole campaign at a random moment of a phase (starting, training, stopping, cooling), with an
embedded Ray or a cluster of `ray start`, with single runs or pairs, as root and as an ordinary user. The trainers set
their own sessions, fork twice, scrub their environment, ignore TERM and move to a new PID every 30 ms.

* *survivors*: processes seen in one second, all its scans united: after the *limit* where the driver was killed or the
  run was not clean by then, else right after the first three clean scans. They are found by a
  marker in command line or environment, by their PID namespace, and by their keeper. After a KILL of the driver that
  includes every process of an embedded Ray. Where the campaign goes on (one attempt was struck) only the struck run
  counts.
* *limit*: 2 s. Ten where something was asked to end, since a trainer may use its grace of 5 s, and where gcs or raylet
  was struck: the driver gives a gcs 3 s to come back before it ends the campaign.
* *late*: kills after which the first clean scan was over only after the limit. A scan takes as long as the busy
  machine lets it, so this may be the scan or the run; it does not count as proven.
* *clean*: from the signal until the run's processes were gone. *all gone*: until the driver, and Ray where it was
  embedded, had ended too.
* An EnergyActor that is struck ends nothing: Ray starts it again, the run goes on. Such campaigns are ended by TERM
  afterwards; *left at the end* counts what a campaign left then, and after every other kind of end.

{table}

{pairs}

Machine: {machine}, shared with other work while this ran, so the times are upper bounds.
"""


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    places = list(VICTIMS)

    def key(outcome: Outcome) -> tuple[int, str]:
        return places.index(outcome.cell.victim), outcome.cell.signal

    lines = []
    for (place, name), group in groupby(sorted(outcomes, key=key), key):
        some = list(group)
        clean = [outcome.clean_s for outcome in some if outcome.clean_s is not None]
        ends = [outcome.end_s for outcome in some if outcome.end_s is not None]
        limit = " or ".join(sorted({f"{outcome.cell.limit_s:g}" for outcome in some}, key=float))
        late = sum(outcome.clean_s is not None and outcome.clean_s > outcome.cell.limit_s for outcome in some)
        survivors, left = sum(len(outcome.survivors) for outcome in some), sum(len(outcome.left) for outcome in some)
        lines.append(
            (
                places[place],
                name,
                str(len(some)),
                limit,
                str(late),
                str(survivors),
                *_spread(clean),
                *_spread(ends),
                str(left),
            )
        )
    return lines


def _spread(times: Sequence[float]) -> tuple[str, str]:
    return (f"{statistics.median(times):.2f}", f"{max(times):.2f}") if times else ("-", "-")


def table(outcomes: Sequence[Outcome]) -> str:
    good = [outcome for outcome in outcomes if outcome.problem is None]
    lines = [HEAD, *rows(good)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in lines]  # fmt: skip
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    survivors, left = sum(len(o.survivors) for o in good), sum(len(o.left) for o in outcomes)
    late = sum(o.clean_s is not None and o.clean_s > o.cell.limit_s for o in good)
    total = f"**{len(good)} kills, {late} late, {survivors} survivors, {left} left at the end.**"
    missed = len(outcomes) - len(good)
    return "\n".join([text[0], rule, *text[1:], "", total, *([f"{missed} strikes missed."] if missed else [])])


def page(outcomes: Sequence[Outcome], results: Path) -> str:
    cells = [outcome.cell for outcome in outcomes if outcome.problem is None]
    wanted = set().union(*map(pairs, all_cells(["root", "user"])))
    seen = set().union(*map(pairs, cells)) if cells else set()
    told = f"Pairs of factor values seen: {len(wanted & seen)} of {len(wanted)}; " + _combinations(cells)
    return TEXT.format(
        results=results.name,
        link=os.path.relpath(results, "docs"),
        table=table(outcomes),
        pairs=told,
        machine=f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}",
    )


def _combinations(cells: Sequence[Cell]) -> str:
    return f"whole combinations: {len(set(cells))} of {len(all_cells(['root', 'user']))}."
