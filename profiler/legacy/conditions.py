"""Judges how an old run ended and what was beside it, by what the tree as a whole shows. It reads no file."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from profiler.legacy.findings import Seen
from profiler.legacy.identity import Identity
from profiler.legacy.knowledge import CPU_ONLY
from profiler.legacy.scores import Scores
from profiler.legacy.sources import OldRun
from profiler.legacy.traces import Tick

NOT_USED_PERCENT = 1.0
"""Below that mean utilisation of a training alone, it did not compute on the GPU."""
HARDLY_PERCENT = 5.0
LATE_SAMPLES = 3
"""So many first samples at 0 % mean that nothing was at work yet."""
_SUCCESS_WORDS = ("success", "completed")


@dataclass(frozen=True)
class Alone:
    """What a solo run of a model shows: mean GPU utilisation in %, and whose figure that is."""

    original_id: str
    util_percent: float


Tree = Mapping[tuple[str, str], Alone]


def trainings_alone(runs: Iterable[tuple[OldRun, Identity]]) -> Tree:
    """For each model that ran alone somewhere in the tree: the solo run that used the GPU most."""
    found: defaultdict[tuple[str, str], list[Alone]] = defaultdict(list)
    for run, identity in runs:
        util = mean_util(run)
        if not run.record.parallel and util is not None:
            found[identity.key].append(Alone(run.record.original_id, util))
    return {key: max(alone, key=lambda one: one.util_percent) for key, alone in found.items()}


def mean_util(run: OldRun) -> float | None:
    """Mean GPU utilisation in %, of the trace or as recorded; None where nothing was read."""
    values = [tick.util_percent for tick in run.trace.ticks if tick.util_percent is not None]
    if values:
        return math.fsum(values) / len(values)
    recorded = run.record.figures.get("gpu_util_avg_percent")
    # Without power there was no reading, and the 0 stands for "missing".
    return recorded if recorded or run.record.figures.get("gpu_power_avg_watts") else None


def repeated_ids(runs: Sequence[OldRun]) -> dict[str, int]:
    """Old id -> how many runs carry it, where it is more than one."""
    counts = Counter(run.record.original_id for run in runs)
    return {name: count for name, count in counts.items() if count > 1}


def judge_end(run: OldRun, scores: Scores) -> list[Seen]:
    """What the record says of the end, and what contradicts it."""
    record, seen = run.record, []
    if not run.proven:
        return [Seen("record_missing", "; ".join(run.problems))]
    if run.problems:
        seen.append(Seen("record_damaged", f"{'; '.join(run.problems)}; taken from {run.rows[0].path.name}"))
    missing = scores.nulls.get("primary_metric_value") == "missing"
    if record.success is not True:
        seen.append(Seen("recorded_failure", f"training_success is {record.success}; {record.error_message or ''}"))
        if scores.primary_value is not None:
            seen.append(Seen("failure_contradicted", f"{scores.primary} = {scores.primary_value!r}"))
    elif missing and scores.primary is not None:
        others = f"; there are {', '.join(record.metrics)}" if record.metrics else "; there is no metric at all"
        seen.append(Seen("success_without_metric", f"{scores.primary} is not in the record{others}"))
    if record.success and record.error_message and any(w in record.error_message.lower() for w in _SUCCESS_WORDS):
        seen.append(Seen("success_message_as_error", repr(record.error_message)))
    if record.retries:
        seen.append(Seen("failed_attempts_lost", f"retries = {record.retries}"))
    return seen


def judge_conditions(run: OldRun, identity: Identity, *, trusted: bool) -> list[Seen]:
    """What is known of the conditions of a run, its background aside. `trusted`: the user vouches for them."""
    seen = []
    if not trusted:
        seen.append(Seen("conditions_not_recorded", "no containment, no look at other processes on the GPU"))
    if run.left_out_of is not None:
        seen.append(Seen("left_out_of_safe_summary", run.left_out_of.name))
    util = mean_util(run)
    uses_gpu = identity.spec is not None and identity.spec.uses_gpu
    if uses_gpu and not run.record.parallel and util is not None and util < NOT_USED_PERCENT:
        seen.append(Seen("computed_on_cpu", f"mean GPU utilisation {util:.2f} %"))
    return seen


def judge_background(run: OldRun, background: Identity | None, alone: Tree) -> list[Seen]:
    """Whether the background of a parallel run can have been a load."""
    if background is None:
        return [Seen("background_unknown", "no `background` in the record")]
    seen = []
    known, shown = CPU_ONLY.get(background.key), alone.get(background.key)
    alone_text = f"alone it used the GPU {shown.util_percent:.2f} % of the time ({shown.original_id})" if shown else ""
    name = f"{background.repo} / {background.model}"
    if (shown is not None and shown.util_percent < NOT_USED_PERCENT) or (shown is None and known):
        text = "; ".join(part for part in (known or "", alone_text) if part)
        seen.append(Seen("background_never_used_gpu", f"{name}: {text}{_start_text(run.trace.ticks)}"))
        return seen
    if shown is not None and shown.util_percent < HARDLY_PERCENT:
        seen.append(Seen("background_hardly_used_gpu", f"{name}: {alone_text}"))
    if _idle_start(run.trace.ticks) >= LATE_SAMPLES:
        seen.append(Seen("background_started_late", _start_text(run.trace.ticks).removeprefix("; ")))
    return seen


def _idle_start(ticks: Sequence[Tick]) -> int:
    """How many samples at the start show a GPU at 0 %."""
    busy = (n for n, tick in enumerate(ticks) if tick.util_percent is None or tick.util_percent > 0)
    return next(busy, len(ticks))


def _start_text(ticks: Sequence[Tick]) -> str:
    count = _idle_start(ticks)
    powers = [tick.power_w for tick in ticks[:count] if tick.power_w is not None]
    return f"; 0 % in the first {count} samples, at {min(powers):.1f} to {max(powers):.1f} W" if powers else ""
