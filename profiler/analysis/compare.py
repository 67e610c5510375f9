"""Compares two sets of runs, or two series of measured commands, figure by figure. Rows in, `Comparison` out.

Devices of different models are never mixed: runs are compared on the GPU that both sides have; where there is none in
common, the comparison names both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from profiler.analysis.comparison import Comparison, GroupComparison, OutcomeComparison, Side
from profiler.analysis.difference import difference
from profiler.analysis.identity import Setting, boards_of, gpu_of, setting_of
from profiler.analysis.outcomes import METRIC, OUTCOMES, TOTAL, unit_of, value
from profiler.analysis.regression import holm
from profiler.analysis.results import ALPHA
from profiler.analysis.selection import Row, Rows, Selection, select
from profiler.analysis.workload import facts_of
from profiler.workloads import Catalog

OF_A_COMMAND = ("cpu_package_energy_j", "dram_energy_j", "gpu_energy_j", TOTAL, "duration_s", "cpu_s")


def compare_rows(
    a: Rows,
    b: Rows,
    catalog: Catalog | None = None,
    *,
    names: tuple[str, str] = ("A", "B"),
    safe_only: bool = True,
) -> Comparison:
    """B against A, for every model, mode and background that either has. `safe_only`: contaminated runs stay out;
    failed ones always do. `catalog` knows the units of metrics. CannotRunError where scipy is not installed."""
    sides = select(a, safe_only=safe_only), select(b, safe_only=safe_only)
    settings = sorted({setting_of(row) for side in sides for row in side.rows})
    groups = [group for setting in settings for group in _groups(setting, sides, catalog)]
    return _comparison(names, sides, groups, _host_notes(sides), safe_only=safe_only)


def compare_commands(a: Sequence[Row], b: Sequence[Row], *, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """B against A, of measurements as `profiler measure --json` gives them. Those of a command that failed stay out."""
    sides = _succeeded(a), _succeeded(b)
    outcomes = tuple(
        difference(name, unit_of(name), sides[0].rows, sides[1].rows, pairable=False) for name in OF_A_COMMAND
    )
    commands = [sorted({" ".join(map(str, row.get("argv") or ())) for row in rows}) for rows in (a, b)]
    group = GroupComparison(
        title=" against ".join(", ".join(names) for names in commands),
        repo=None,
        model=None,
        mode=None,
        background=None,
        a_gpu=None,
        b_gpu=None,
        a_runs=len(sides[0].rows),
        b_runs=len(sides[1].rows),
        outcomes=outcomes,
        notes=tuple(_board_notes(a, b)),
    )
    return _comparison(names, sides, [group], (), safe_only=False)


def _succeeded(rows: Sequence[Row]) -> Selection:
    good = tuple(row for row in rows if row.get("exit_code") == 0)
    failed = len(rows) - len(good)
    return Selection(good, len(rows), {"failed": failed} if failed else {})


def _board_notes(a: Sequence[Row], b: Sequence[Row]) -> Iterator[str]:
    """Boards of one model differ too, by some percent."""
    used = [boards_of(rows) for rows in (a, b)]
    if used[0] != used[1]:
        names = [", ".join(sorted(boards)) or "none known" for boards in used]
        yield f"different GPUs: A {names[0]}; B {names[1]}"


def _groups(setting: Setting, sides: tuple[Selection, Selection], catalog: Catalog | None) -> Iterator[GroupComparison]:
    """A group for each GPU model that both sides have; else one that names both, or says why there is none."""
    a, b = ([row for row in side.rows if setting_of(row) == setting] for side in sides)
    gpus_a, gpus_b = ({gpu_of(row) for row in rows} for rows in (a, b))
    common = sorted(gpus_a & gpus_b, key=str)
    left = sum(gpu_of(row) not in common for row in [*a, *b])
    notes = (f"{left} runs on other GPU models are left out",) if left else ()
    for gpu in common:
        here = [[row for row in rows if gpu_of(row) == gpu] for rows in (a, b)]
        yield _group(setting, here[0], here[1], catalog, (gpu, gpu), (*notes, *_board_notes(*here)))
    if common:
        return
    names = [", ".join(sorted(map(_device, gpus))) or None for gpus in (gpus_a, gpus_b)]
    empty = _empty(setting, a, b, (names[0], names[1]))
    if not a or not b:
        yield replace(empty, reason=f"no usable run in {'A' if not a else 'B'}")
    elif len(gpus_a) == len(gpus_b) == 1:
        note = f"different devices: A on {names[0]}, B on {names[1]}; the difference is one of devices, too"
        yield _group(setting, a, b, catalog, (names[0], names[1]), (note,))
    else:
        yield replace(empty, reason=f"no GPU model in common: A on {names[0]}; B on {names[1]}")


def _device(gpu: str | None) -> str:
    return gpu or "no GPU"


def _empty(
    setting: Setting, a: Sequence[Row], b: Sequence[Row], gpus: tuple[str | None, str | None]
) -> GroupComparison:
    beside = f" beside {setting.background}" if setting.background else ""
    return GroupComparison(
        title=f"{setting.repo}/{setting.model} {setting.mode}{beside}",
        repo=setting.repo,
        model=setting.model,
        mode=setting.mode,
        background=setting.background or None,
        a_gpu=gpus[0],
        b_gpu=gpus[1],
        a_runs=len(a),
        b_runs=len(b),
    )


def _group(
    setting: Setting,
    a: Sequence[Row],
    b: Sequence[Row],
    catalog: Catalog | None,
    gpus: tuple[str | None, str | None],
    notes: tuple[str, ...],
) -> GroupComparison:
    facts = facts_of(catalog, setting.repo, setting.model)
    seen = next((str(row["primary_metric"]) for row in [*a, *b] if row.get("primary_metric")), METRIC)
    outcomes = []
    for column in OUTCOMES:
        if column == "gpu_energy_foreground_j" and not any(value(row, column) is not None for row in [*a, *b]):
            continue
        unit = facts.metric_unit if column == METRIC else unit_of(column)
        found = difference(column, unit, a, b, pairable=True)
        outcomes.append(replace(found, outcome=facts.metric_name or seen) if column == METRIC else found)
    return replace(_empty(setting, a, b, gpus), outcomes=tuple(outcomes), notes=notes)


def _host_notes(sides: tuple[Selection, Selection]) -> tuple[str, ...]:
    hosts = [sorted({str(row["host"]) for row in side.rows if row.get("host")}) for side in sides]
    if hosts[0] == hosts[1]:
        return ()
    return (f"different machines: A on {', '.join(hosts[0]) or 'unknown'}; B on {', '.join(hosts[1]) or 'unknown'}",)


def _comparison(
    names: tuple[str, str],
    sides: tuple[Selection, Selection],
    groups: Sequence[GroupComparison],
    notes: tuple[str, ...],
    *,
    safe_only: bool,
) -> Comparison:
    corrected = iter(holm([o.p for group in groups for o in group.outcomes if o.p is not None]))
    judged = tuple(
        replace(group, outcomes=tuple(o if o.p is None else _judged(o, next(corrected)) for o in group.outcomes))
        for group in groups
    )
    reason = None
    if not any(outcome.different is not None for group in judged for outcome in group.outcomes):
        empty = [f"{name}: {side.nothing}" for name, side in zip("AB", sides, strict=True) if not side.rows]
        reason = "; ".join(empty) or "too little data: nothing could be judged"
    a, b = (Side(name, side.given, len(side.rows), side.excluded) for name, side in zip(names, sides, strict=True))
    return Comparison(a, b, judged, safe_only, notes, reason=reason)


def _judged(outcome: OutcomeComparison, p: float) -> OutcomeComparison:
    return replace(outcome, p_adjusted=p, different=p < ALPHA)
