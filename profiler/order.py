"""The order of a plan's runs: as written, shuffled, or in blocks against drift. Pure; the same seed, the same order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Literal

from profiler.mutation import stream
from profiler.planned import PlannedRun

Order = Literal["as_written", "shuffled", "blocked"]


def ordered(runs: Sequence[PlannedRun], order: Order, seed: int) -> list[PlannedRun]:
    """`runs` in that order, numbered anew.

    blocked: the first block has one run of every item (of each kind that the item makes: mutated, baseline, solo), the
    second block the next one of each, and so on; within a block the order is drawn. Whatever drifts in the course of a
    campaign then meets all items alike.
    """
    if order == "as_written":
        return list(runs)
    draw = stream(seed, "order", order)
    if order == "shuffled":
        return _numbered(draw.sample(list(runs), len(runs)))
    kinds: defaultdict[tuple[object, ...], list[PlannedRun]] = defaultdict(list)
    for run in runs:
        kinds[run.item, run.repo, run.model, run.foreground_mode, run.background is None].append(run)
    blocks = ([run for run in block if run is not None] for block in zip_longest(*kinds.values()))
    return _numbered([run for block in blocks for run in draw.sample(block, len(block))])


def _numbered(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    return [
        replace(run, index=index, experiment_id=experiment_id(run.repo, run.model, index, run.background is not None))
        for index, run in enumerate(runs, start=1)
    ]


def experiment_id(repo: str, model: str, index: int, paired: bool) -> str:
    """The name of a run's folder."""
    return f"{repo}_{model}_{index:03d}{'_parallel' if paired else ''}"
