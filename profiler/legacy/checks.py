"""Checks the runs of an old tree: canonical names, values, figures and findings of each. It writes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from profiler.legacy.clock import common_offset, read_times
from profiler.legacy.conditions import (
    Tree,
    judge_background,
    judge_conditions,
    judge_end,
    repeated_ids,
    trainings_alone,
)
from profiler.legacy.energies import read_energies
from profiler.legacy.findings import Seen
from profiler.legacy.identity import Identity, background_of, folder_name, identify
from profiler.legacy.records import OldRecord
from profiler.legacy.rows import Imported
from profiler.legacy.scores import read_scores
from profiler.legacy.sources import OldRun
from profiler.legacy.values import read_values
from profiler.workloads import Catalog


def check_all(runs: Sequence[OldRun], catalog: Catalog, *, trusted: bool) -> list[Imported]:
    """Every run of a tree, numbered in the given order. `trusted`: the user vouches for the conditions."""
    identities = [identify(run, catalog) for run in runs]
    alone = trainings_alone((run, identity) for run, (identity, _) in zip(runs, identities, strict=True))
    repeated, offset_s = repeated_ids(runs), common_offset(runs)
    out = []
    for index, (run, (identity, seen)) in enumerate(zip(runs, identities, strict=True), start=1):
        values, of_values = read_values(run, identity)
        scores, of_scores = read_scores(run, identity)
        times, of_times = read_times(run, offset_s)
        energies = read_energies(run)
        background = background_of(run.record.background, catalog) if run.record.background else None
        count = repeated.get(run.record.original_id)
        findings = [
            *judge_end(run, scores),
            *seen,
            *([Seen("id_repeated", f"{run.record.original_id}: {count} runs")] if count else []),
            *of_values,
            *of_scores,
            *energies.seen,
            *_background(run, background[0] if background else None, alone),
            *judge_conditions(run, identity, trusted=trusted),
            *of_times,
            *_summaries(run),
        ]
        name = folder_name(identity, index, parallel=run.record.parallel)
        out.append(Imported(run, index, name, identity, background, values, scores, energies, times, tuple(findings)))
    return out


def _background(run: OldRun, background: Identity | None, alone: Tree) -> list[Seen]:
    return judge_background(run, background, alone) if run.record.parallel else []


def _summaries(run: OldRun) -> list[Seen]:
    """Where the rows of summaries say something else than the record that speaks."""
    seen = []
    for row in run.rows:
        where = f"{row.path.name}:{row.line}"
        if row.unended:
            seen.append(Seen("summary_cut", where))
        texts = _differences(run.record, row.record)
        if texts:
            seen.append(Seen("summary_differs", f"{where}: {'; '.join(texts)}"))
    return seen


def _differences(record: OldRecord, row: OldRecord) -> list[str]:
    """What a row says differently. A cell that is blank says nothing; values as text, since a CSV has no types."""
    own, others = _facts(record), _facts(row)
    return [
        f"{name} is {value} there, {own.get(name)} here"
        for name, value in others.items()
        if value is not None and not _alike(own.get(name), value)
    ]


def _facts(record: OldRecord) -> dict[str, object]:
    return {
        "repository": record.repo or None,
        "model": record.model or None,
        "training_success": record.success,
        "duration_seconds": record.duration_s,
        "retries": record.retries,
        **record.figures,
        **{f"hyperparam_{name}": value for name, value in record.hyperparameters.items()},
        **{f"perf_{name}": value for name, value in record.metrics.items()},
    }


def _alike(one: object, other: object) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return str(one) == str(other)
