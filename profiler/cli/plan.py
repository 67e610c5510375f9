"""``profiler plan``: shows every run that a config would do, and starts nothing."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.cli import output
from profiler.cli.progress import duration_text, energy_text
from profiler.cli.tables import Heading, print_table
from profiler.errors import UsageError

if TYPE_CHECKING:
    from profiler.config import Campaign
    from profiler.planner import Plan, PlannedRun


def execute(options: Namespace) -> int:
    """Plans the config and prints the plan, or proposes pairs. Always 0 when what it was given is sound."""
    if options.pairs:
        return _propose(options)
    if options.config is None:
        raise UsageError("plan needs a CONFIG, or --pairs; see: profiler plan --help")
    if options.memory_mib is not None or options.history:
        raise UsageError("--memory-mib and --history go with --pairs; a config says memory_limit_mib and history")
    from profiler import config

    return print_plan(config.load(Path(options.config), options.overrides), as_json=options.json)


def _propose(options: Namespace) -> int:
    """Prints a config (with --json its content) of pairs that fit; what fits nothing is named on stderr."""
    from profiler.documents import dump_yaml
    from profiler.memory import MemoryHistory
    from profiler.pairing import Candidate, propose
    from profiler.store.read import open_session
    from profiler.workloads import load_catalog

    if options.config is not None:
        raise UsageError(f"plan --pairs makes a config and takes none: leave out {options.config!r}")
    memory_mib = options.memory_mib if options.memory_mib is not None else _own_memory_mib()
    if memory_mib < 1:
        raise UsageError(f"--memory-mib must be at least 1, not {memory_mib}")
    rows = [row for folder in options.history for row in open_session(Path(folder)).attempts()]
    history = MemoryHistory.of_rows(rows)
    models = load_catalog().models()
    candidates = [Candidate(model, history.estimate(model, model.defaults())) for model in models]
    proposals, alone = propose(candidates, int(memory_mib))
    for line in alone:
        output.say(f"left out: {line}")
    items = [proposal.to_item() for proposal in proposals]
    if not items:
        raise UsageError(f"no pair of models fits {memory_mib:g} MiB")
    document = {
        "name": "pairs",
        "mode": "parallel",
        "memory_limit_mib": int(memory_mib),
        **_known_by(options.history),
        "experiments": items,
    }
    if options.json:
        output.print_json(document)
    else:
        output.print_result(dump_yaml(document).rstrip())
    return 0


def _known_by(history: Sequence[str]) -> dict[str, Any]:
    """The keys of a config whose memory is estimated from the same sessions; nothing of them is left out."""
    from profiler.config.paths import absolute_path

    return {"history": [absolute_path(folder) for folder in history], "use_deduplication": False} if history else {}


def _own_memory_mib() -> float:
    """The memory of this machine's smallest GPU."""
    from profiler.energy.nvml import Nvml, open_nvml

    nvml = open_nvml()
    if not isinstance(nvml, Nvml):
        raise UsageError(f"--pairs needs --memory-mib here: no GPU to ask ({nvml.reason})")
    with nvml:
        known = [gpu.memory_total_mib for gpu in nvml.devices if gpu.memory_total_mib is not None]
    if not known:
        raise UsageError("--pairs needs --memory-mib here: no GPU tells its memory")
    return min(known)


def print_plan(campaign: Campaign, *, as_json: bool) -> int:
    """Prints the campaign's plan to stdout."""
    from profiler.planner import make_plan

    plan = make_plan(campaign)
    for note in plan.notes:
        output.say(f"warning: {note}")
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
