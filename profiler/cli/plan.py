"""``profiler plan``: shows every run that a config would do, and starts nothing."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.cli import output
from profiler.cli.progress import duration_text, energy_text
from profiler.cli.tables import Heading, print_table

if TYPE_CHECKING:
    from profiler.config import Campaign
    from profiler.planner import Plan, PlannedRun


def execute(options: Namespace) -> int:
    """Plans the config and prints the plan. Always 0 when the config is sound."""
    from profiler import config

    return print_plan(config.load(Path(options.config), options.overrides), as_json=options.json)


def print_plan(campaign: Campaign, *, as_json: bool) -> int:
    """Prints the campaign's plan to stdout; keys that only later versions obey are named on stderr."""
    from profiler.planner import make_plan

    plan = make_plan(campaign)
    for note in plan.notes:
        output.say(f"warning: {note}")
    for later in campaign.later:
        output.say(f"warning: {later.path}: planned, but `profiler run` refuses it in this version")
    if as_json:
        output.print_json(plan.to_json())
        return 0
    print_table(HEADINGS, map(_cells, plan))
    output.print_result(_totals(campaign, plan))
    return 0


HEADINGS = (
    Heading("#", figures=True),
    Heading("run"),
    Heading("mode"),
    Heading("values", long=True),
    Heading("background", long=True),
    Heading("MiB", figures=True),
    Heading("time", figures=True),
    Heading("GPU energy", figures=True),
)


def _cells(run: PlannedRun) -> tuple[str, ...]:
    background = "-"
    if run.background is not None:
        background = f"{run.background.repo}/{run.background.model} {_values(run.background.hyperparameters)}"
    return (
        str(run.index),
        run.experiment_id,
        run.mode,
        _values(run.hyperparameters, run.mutated),
        background,
        f"{run.memory_mib:.0f}" if run.memory_mib else "-",
        duration_text(run.estimated_seconds),
        energy_text(run.estimated_gpu_energy_j),
    )


def _values(hyperparameters: Mapping[str, Any], mutated: tuple[str, ...] = ()) -> str:
    """``name=value`` pairs; a mutated one carries a star. Floats are shortened for people; --json has every digit."""
    pairs = []
    for name, value in hyperparameters.items():
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        pairs.append(f"{name}={shown}{'*' if name in mutated else ''}")
    return " ".join(pairs)


def _totals(campaign: Campaign, plan: Plan) -> str:
    times = [run.estimated_seconds for run in plan]
    known = [seconds for seconds in times if seconds is not None]
    total = f"about {duration_text(sum(known))} of training" if known else "training time not known"
    if known and len(known) < len(times):
        total += f" in {len(known)} of them"
    return f"{campaign.name}: {len(plan)} runs, {total}, seed {plan.seed}   (* = mutated)"
