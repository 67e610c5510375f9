"""What must hold before a campaign starts, checked without starting anything. Nodes are checked elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from profiler.checkouts import problem, python_words
from profiler.errors import CannotRunError
from profiler.planned import Background
from profiler.planner import Plan, PlannedRun
from profiler.workloads import Catalog, ModelSpec


def check_campaign(plan: Plan, catalog: Catalog) -> None:
    """Raise CannotRunError naming everything of `plan` that cannot run: models without a trainer, commands that do not
    exist, trainers that cannot do what is asked of them."""
    problems = list(_trainers(plan, catalog))
    if problems:
        raise CannotRunError("cannot run this campaign:\n  " + "\n  ".join(problems))


def _trainers(plan: Plan, catalog: Catalog) -> Iterator[str]:
    wanted: dict[tuple[str | None, ...], ModelSpec] = {}
    for run in plan:
        wanted[run.repo, run.model, run.checkout, run.python] = catalog.of(run)
        yield from _several_gpus(run, wanted[run.repo, run.model, run.checkout, run.python])
        if run.background is not None:
            partner = run.background
            model = catalog.of(partner)
            wanted[partner.repo, partner.model, partner.checkout, partner.python] = model
            if partner.mode == "reuse":
                yield from (f"{run.experiment_id}: {fault}" for fault in _reuse_faults(partner, model))
    for spec in wanted.values():
        yield from (f"{spec.repo}/{spec.name}: {fault}" for fault in _command_faults(spec))


def _reuse_faults(partner: Background, model: ModelSpec) -> Iterator[str]:
    if not model.can_repeat:
        yield (
            "background.mode reuse needs a trainer that trains again by itself; "
            f"{partner.repo}/{partner.model} does not say `can_repeat: true` in its manifest: use mode loop"
        )
    if partner.timeout_seconds is not None:
        yield (
            f"background.timeout_seconds: {partner.timeout_seconds:g} would end the one process in which mode reuse "
            "trains again and again: leave it out, or use mode loop"
        )


def _several_gpus(run: PlannedRun, model: ModelSpec) -> Iterator[str]:
    if run.gpus > 1 and run.background is not None:
        yield f"{run.experiment_id}: gpus: {run.gpus}: a run beside a background has one GPU; leave `gpus` out"
    elif run.gpus > 1 and model.multi_gpu is None:
        yield (
            f"{run.experiment_id}: gpus: {run.gpus} needs a trainer that torchrun can start on each of them; "
            f"{model.repo}/{model.name} does not say `multi_gpu: torchrun` in its manifest: use gpus: 1"
        )


def _command_faults(spec: ModelSpec) -> Iterator[str]:
    own = spec.own_checkout
    if spec.command is None:
        yield "no trainer for this model yet in this version"
    elif not spec.command[0].startswith("{") and shutil.which(spec.command[0]) is None:
        yield f"its command {spec.command[0]!r} is not found on this machine"
    if own is not None and problem(spec, own.path):
        yield f"checkout: {problem(spec, own.path)}"
    if own is not None and own.python is not None and not _can_start(own.python):
        yield f"python: {own.python!r} is no program that can be started here"


def _can_start(python: str) -> bool:
    try:
        words = python_words(python)
    except ValueError:
        return False
    return bool(words) and shutil.which(words[0]) is not None
