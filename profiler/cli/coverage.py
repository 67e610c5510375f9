"""``profiler coverage``: which values were run, which are missing, and the config that fills the holes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.cli import output
from profiler.cli.progress import duration_text, energy_text
from profiler.cli.tables import Heading, print_table
from profiler.errors import UsageError

if TYPE_CHECKING:
    from profiler.analysis.coverage import Estimate, GroupCoverage, Wanted
    from profiler.analysis.history import Past
    from profiler.workloads import Catalog

HEADINGS = (
    Heading("model"),
    Heading("mode"),
    Heading("runs", figures=True),
    Heading("default"),
    Heading("values", long=True),
    Heading("missing", figures=True),
    Heading("time", figures=True),
    Heading("GPU", figures=True),
    Heading("CPU", figures=True),
    Heading("setting", long=True),
    Heading("problem", long=True),
)


def execute(options: Namespace) -> int:
    """Prints the coverage; 0 whether something is missing or not. Writes the config where one is asked for."""
    from profiler.analysis.coverage import cover
    from profiler.analysis.history import find_sessions, read_past
    from profiler.workloads import load_catalog

    target = Path(options.output) if options.output else None
    if target is not None:
        _check_target(target)
    catalog = load_catalog()
    wanted = _wanted(options, catalog)
    past = read_past(find_sessions(map(Path, options.sessions)), catalog)
    groups = cover(past, catalog, wanted)
    written = _write(target, groups, past, catalog, wanted.target) if target is not None else None
    _warn(past)
    if options.json:
        output.print_json(_document(groups, past, wanted, written))
        return 0
    print_table(HEADINGS, [_cells(one) for one in groups])
    output.print_result(_totals(groups, past, wanted))
    if target is not None:
        output.print_result(f"config  {written}" if written else "nothing is missing that could be run here: no config")
    return 0


def _wanted(options: Namespace, catalog: Catalog) -> Wanted:
    from profiler.analysis.coverage import Wanted
    from profiler.documents import nearest

    names = None if options.mutate in (None, ("all",)) else options.mutate
    known = {p.name for spec in catalog.models() for p in spec.hyperparameters.values() if p.range is not None}
    for name in names or ():
        if name not in known:
            close = nearest(name, sorted(known))
            hint = f" (did you mean {close!r}?)" if close else ""
            raise UsageError(f"no model has a hyper-parameter {name!r} that can be mutated{hint}")
    return Wanted(options.target, options.safe, options.alone, tuple(options.modes or ()), names, options.all_models)


def _check_target(target: Path) -> None:
    """Never replaces a file that somebody wrote by hand."""
    from profiler.analysis.hole_config import MARK

    if not target.exists():
        return
    if not target.is_file() or not target.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        raise UsageError(f"{target} is there already and was not made by this command; give another name with -o")


def _write(
    target: Path, groups: Sequence[GroupCoverage], past: Past, catalog: Catalog, wanted_values: int
) -> Path | None:
    """The file, or None where nothing can be filled."""
    from profiler.analysis.hole_config import hole_config
    from profiler.store.files import write_whole
    from profiler.store.layout import SessionFolder

    if not any(one.missing_runs and one.problem is None for one in groups):
        return None
    if not any(SessionFolder(root).campaign_yaml.exists() for root in past.sessions):
        output.say("warning: no session here has a config (imports have none): governor, gate and limits are defaults")
    write_whole(target.resolve(), hole_config(groups, past.sessions, catalog, wanted_values).encode())
    return target


def _warn(past: Past) -> None:
    for session_id, count in past.not_run.items():
        output.say(f"warning: {count} planned runs of {session_id} have not ended; `profiler resume` does them first")
    for why, count in past.left_out.items():
        output.say(f"warning: {count} runs are not counted: {why}")


def _cells(one: GroupCoverage) -> tuple[str, ...]:
    group, estimate = one.group, one.estimate
    values = " ".join(f"{p.name}={len(p.values)}/{p.target}" for p in one.parameters)
    return (
        f"{group.spec.repo}/{group.spec.name}",
        group.mode,
        str(one.counted),
        "yes" if one.default_runs else "MISSING",
        values or "-",
        str(one.missing_runs),
        duration_text(estimate.seconds) if one.missing_runs else "-",
        energy_text(estimate.gpu_energy_j) if one.missing_runs else "-",
        energy_text(estimate.cpu_energy_j) if one.missing_runs else "-",
        " ".join(f"{name}={value}" for name, value in group.setting_values.items()) or "-",
        (one.problem or "-") if one.missing_runs else "-",
    )


def _totals(groups: Sequence[GroupCoverage], past: Past, wanted: Wanted) -> str:
    missing = sum(one.missing_runs for one in groups)
    kind = "safe" if wanted.safe else "valid"
    text = f"{len(past.sessions)} sessions, {sum(one.counted for one in groups)} {kind} runs counted: "
    if not missing:
        return text + f"nothing is missing to {wanted.target} values and a default run"
    stuck = sum(one.missing_runs for one in groups if one.problem)
    seconds, without = _sum(groups, "seconds")
    text += f"{missing} runs are missing"
    if seconds is None:
        text += "; how long they train is not known, no past run tells"
    else:
        text += f", about {duration_text(seconds)} of training"
        text += f" without {without} of them that no past run tells about" if without else ""
    return text + (f"; {stuck} cannot be run here" if stuck else "")


def _sum(groups: Sequence[GroupCoverage], name: str) -> tuple[float | None, int]:
    """The sum of an estimate over the groups that have it, and how many missing runs are without."""
    known = [getattr(one.estimate, name) for one in groups if one.missing_runs]
    without = sum(one.missing_runs for one in groups if one.missing_runs and getattr(one.estimate, name) is None)
    found = [value for value in known if value is not None]
    return (sum(found) if found or not known else None), without


def _document(groups: Sequence[GroupCoverage], past: Past, wanted: Wanted, written: Path | None) -> dict[str, Any]:
    sums = {name: _sum(groups, name) for name in ("seconds", "gpu_energy_j", "cpu_energy_j")}
    return {
        "target": wanted.target,
        "safe": wanted.safe,
        "alone": wanted.alone,
        "sessions": [str(path) for path in past.sessions],
        "groups": [_group(one) for one in groups],
        "missing_runs": sum(one.missing_runs for one in groups),
        **{f"estimated_{name}": value for name, (value, _) in sums.items()},
        "runs_without_estimate": {f"estimated_{name}": without for name, (_, without) in sums.items()},
        "not_run": dict(past.not_run),
        "left_out": dict(past.left_out),
        "config": str(written) if written else None,
    }


def _group(one: GroupCoverage) -> dict[str, Any]:
    return {
        "repo": one.group.spec.repo,
        "model": one.group.spec.name,
        "mode": one.group.mode,
        "setting": one.group.setting_values,
        "counted_runs": one.counted,
        "default_runs": one.default_runs,
        "hyperparameters": {
            parameter.name: {
                "distinct": len(parameter.values),
                "values": list(parameter.values),
                "target": parameter.target,
                "possible": parameter.possible,
                "missing": len(parameter.proposed),
                "proposed": list(parameter.proposed),
            }
            for parameter in one.parameters
        },
        "missing_runs": one.missing_runs,
        **_estimate(one.estimate),
        "problem": one.problem,
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "estimated_seconds": estimate.seconds,
        "estimated_gpu_energy_j": estimate.gpu_energy_j,
        "estimated_cpu_energy_j": estimate.cpu_energy_j,
        "null_reasons": {f"estimated_{name}": why for name, why in estimate.null_reasons.items()},
    }
