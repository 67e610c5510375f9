"""The order of a plan's runs: as written, shuffled, in blocks against drift, or the longest first.

Pure; the same seed, the same order.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Literal

from profiler.mutation import stream
from profiler.planned import PlannedRun
from profiler.solo import solo_key

Order = Literal["as_written", "shuffled", "blocked", "longest_first"]


def ordered(runs: Sequence[PlannedRun], order: Order, seed: int) -> list[PlannedRun]:
    """`runs` in that order, numbered anew.

    blocked: the first block has one run of every item (of each kind that the item makes: mutated, baseline, solo), the
    second block the next one of each, and so on; within a block the order is drawn. Whatever drifts in the course of a
    campaign then meets all items alike.

    Except as written, the first run alone of each partner comes before their first pair: that one's energy is split by
    it.

    longest_first: by estimated time, so that no long run is left over when all others have ended; those of unknown time
    come first, as written.
    """
    if order == "as_written":
        return list(runs)
    return _numbered(_yardsticks_first(_arranged(runs, order, seed)))


def _arranged(runs: Sequence[PlannedRun], order: Order, seed: int) -> list[PlannedRun]:
    if order == "longest_first":
        return sorted(runs, key=_negative_seconds)
    draw = stream(seed, "order", order)
    if order == "shuffled":
        return draw.sample(list(runs), len(runs))
    kinds: defaultdict[Hashable, list[PlannedRun]] = defaultdict(list)
    for run in runs:
        kinds[_kind(run)].append(run)
    blocks = ([run for run in block if run is not None] for block in zip_longest(*kinds.values()))
    return [run for block in blocks for run in draw.sample(block, len(block))]


def _yardsticks_first(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """`runs`, but the first one alone of each partner of a pair right before the first pair that would come earlier."""
    alone: dict[Hashable, PlannedRun] = {}
    for run in runs:
        if run.background is None:
            alone.setdefault(solo_key(run), run)
    found: dict[int, PlannedRun] = {}
    for run in runs:
        partners = () if run.background is None else (run, run.background)
        before = [alone[solo_key(one)] for one in partners if solo_key(one) in alone]
        found |= {one.index: one for one in (*before, run) if one.index not in found}
    return list(found.values())


def block_numbers(runs: Iterable[PlannedRun]) -> Iterator[int]:
    """For each run of a plan in blocks, in plan order, the number of its block, from 1."""
    seen: Counter[Hashable] = Counter()
    for run in runs:
        seen[_kind(run)] += 1
        yield seen[_kind(run)]


def _kind(run: PlannedRun) -> Hashable:
    """Equal for the runs of which a block has one."""
    values = tuple(sorted(run.hyperparameters.items())) if run.foreground_mode == "default" else ()
    return run.item, run.repo, run.model, run.foreground_mode, run.background is None, values


def _negative_seconds(run: PlannedRun) -> float:
    return -math.inf if run.estimated_seconds is None else -run.estimated_seconds


def _numbered(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    return [
        replace(run, index=index, experiment_id=experiment_id(run.repo, run.model, index, run.background is not None))
        for index, run in enumerate(runs, start=1)
    ]


def experiment_id(repo: str, model: str, index: int, paired: bool) -> str:
    """The name of a run's folder."""
    return f"{repo}_{model}_{index:03d}{'_parallel' if paired else ''}"
