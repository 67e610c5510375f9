"""Energy, power, temperature and utilisation of an old run, computed anew from its files beside the recorded figures.

Pure: it gets what was read and returns columns of `runs`, why others are null, and what was wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any

from profiler.legacy.findings import Seen
from profiler.legacy.sources import OldRun
from profiler.legacy.traces import Tick
from profiler.store.export import EXPERIMENT_ENERGY

HOLE_SHARE = 0.05
COVERED_SHARE = 0.9
LATE_S = 2.5
"""Samples come every 1.03 s and are stamped in whole seconds: 2 s apart is usual, more is a hole."""
SAME_SHARE = 1e-6
CPU_STEP_J = 0.02
"""perf and the older tool printed two decimals."""

NO_TRACE = "no_power_samples"
NOT_COVERED = "trace_does_not_cover_window"
GAP = "trace_gap"
ZERO = "zero_means_missing"
UNVERIFIABLE = "recorded_sum_not_verifiable"


@dataclass
class Energies:
    """Columns of `runs` that are known, reasons for those that are not, the source of each energy."""

    values: dict[str, Any] = field(default_factory=dict)
    nulls: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    uncertainty_j: dict[str, float] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def put(self, column: str, value: float | None, why_null: str) -> None:
        if value is None:
            self.nulls[column] = why_null
        else:
            self.values[column] = value


def trapezoid_j(ticks: Sequence[Tick]) -> float | None:
    """Energy in J between the first and the last tick with a power: trapezoids over the real time stamps. None for
    fewer than two such ticks."""
    known = [(tick.t_ns, tick.power_w) for tick in ticks if tick.power_w is not None]
    if len(known) < 2:
        return None
    return math.fsum((a_w + b_w) / 2 * (b_ns - a_ns) for (a_ns, a_w), (b_ns, b_w) in pairwise(known)) / 1e9


def read_energies(run: OldRun) -> Energies:
    """All figures of a run."""
    out = Energies()
    _cpu(run, out)
    _gpu_energy(run, out)
    _indicators(run, out)
    if run.trace.problems:
        out.seen.append(Seen("damaged_files", "; ".join(run.trace.problems)))
    return out


def _cpu(run: OldRun, out: Energies) -> None:
    """perf's own words before cpu_energy.txt before the record."""
    trace, recorded = run.trace, run.record.figures
    package_j = _first(trace.perf_package_j, trace.package_j, recorded.get("cpu_energy_pkg_joules"))
    ram_j = _first(trace.perf_ram_j, trace.ram_j, recorded.get("cpu_energy_ram_joules"))
    package_j, ram_j = _no_zero(package_j, "cpu_package_energy_j", out), _no_zero(ram_j, "dram_energy_j", out)
    out.put("cpu_package_energy_j", package_j, out.nulls.get("cpu_package_energy_j", "not_recorded"))
    out.put("dram_energy_j", ram_j, out.nulls.get("dram_energy_j", "not_recorded"))
    known = package_j is not None and ram_j is not None
    total_j = round(package_j + ram_j, 6) if package_j is not None and ram_j is not None else None
    out.put("cpu_energy_total_j", total_j, out.nulls.get("cpu_package_energy_j") or out.nulls.get("dram_energy_j", ""))
    where = "perf" if trace.perf_package_j is not None else "the record"
    for column in ("cpu_package_energy_j", "dram_energy_j", "cpu_energy_total_j"):
        if column in out.values:
            out.sources[column] = f"imported from {where}: RAPL by perf stat, whole machine, two decimals"
    if package_j is not None or ram_j is not None:
        out.seen.append(Seen("cpu_energy_is_system_wide", f"package {package_j} J, RAM {ram_j} J"))
    _compare_cpu(run, total_j if known else None, out)


def _compare_cpu(run: OldRun, total_j: float | None, out: Energies) -> None:
    trace, recorded = run.trace, run.record.figures
    texts = []
    for name, values in (
        ("package", (trace.perf_package_j, trace.package_j, recorded.get("cpu_energy_pkg_joules"))),
        ("RAM", (trace.perf_ram_j, trace.ram_j, recorded.get("cpu_energy_ram_joules"))),
        ("total", (total_j, recorded.get("cpu_energy_total_joules"))),
    ):
        known = [value for value in values if value is not None]
        if known and max(known) - min(known) > CPU_STEP_J:
            texts.append(f"{name}: {' / '.join(f'{value} J' for value in known)}")
    if texts:
        out.seen.append(Seen("cpu_energy_inconsistent", "; ".join(texts)))


def _no_zero(value: float | None, column: str, out: Energies) -> float | None:
    """A machine that is switched on uses more than 0 J."""
    if value != 0:
        return value
    out.nulls[column] = ZERO
    out.seen.append(Seen("zero_means_missing", f"{column} recorded as 0"))
    return None


def _gpu_energy(run: OldRun, out: Energies) -> None:
    recorded_j = run.record.figures.get("gpu_energy_total_joules")
    energy_j = trapezoid_j(run.trace.ticks)
    if energy_j is None:
        zero = _no_zero(recorded_j, "gpu_energy_j", out) is None and recorded_j is not None
        why = ZERO if zero else UNVERIFIABLE if recorded_j is not None else NO_TRACE
        for column in ("gpu_energy_j", "gpu_energy_integral_j"):
            out.nulls[column] = why
        if recorded_j:
            out.seen.append(Seen("gpu_joules_unverifiable", f"recorded {recorded_j:.1f} J"))
        return
    if recorded_j == 0:
        out.seen.append(Seen("zero_means_missing", f"GPU joules recorded as 0, the trace gives {energy_j:.1f} J"))
    elif recorded_j is not None:
        out.seen.append(Seen("gpu_joules_are_a_sum", _difference(run, recorded_j, energy_j)))
    _put_gpu_energy(run, energy_j, out)


def _difference(run: OldRun, recorded_j: float, energy_j: float) -> str:
    sum_w = math.fsum(tick.power_w for tick in run.trace.ticks if tick.power_w is not None)
    is_sum = "which is the sum of the samples" if _same(sum_w, recorded_j) else f"the samples' sum is {sum_w:.1f}"
    off = 100 * (recorded_j - energy_j) / energy_j if energy_j else math.inf
    return f"recorded {recorded_j:.1f} J, {is_sum}; trapezoid {energy_j:.1f} J: recorded {off:+.1f} %"


def _put_gpu_energy(run: OldRun, energy_j: float, out: Energies) -> None:
    ticks = [tick for tick in run.trace.ticks if tick.power_w is not None]
    span_s = (ticks[-1].t_ns - ticks[0].t_ns) / 1e9
    hole_s = max((b.t_ns - a.t_ns) / 1e9 for a, b in pairwise(ticks))
    duration_s = run.record.duration_s
    of = f" of {duration_s:.1f} s" if duration_s is not None else ""
    text = (
        f"imported trace, whole GPU: trapezoids over {len(ticks)} samples in {span_s:g} s{of}, times in whole seconds, "
        f"largest distance {hole_s:g} s"
    )
    out.values["gpu_energy_integral_j"] = energy_j
    out.sources["gpu_energy_integral_j"] = text
    out.put("gpu_power_mean_w", energy_j / span_s if span_s > 0 else None, NOT_COVERED)
    why = None
    if hole_s > LATE_S:
        missing = sum(b.t_ns - a.t_ns > LATE_S * 1e9 for a, b in pairwise(ticks))
        out.seen.append(Seen("trace_has_holes", f"{missing} distances over {LATE_S} s, the largest {hole_s:g} s"))
        why = GAP if hole_s > max(LATE_S, HOLE_SHARE * span_s) else None
    if duration_s is not None and span_s < COVERED_SHARE * duration_s:
        out.seen.append(Seen("trace_shorter_than_run", f"{span_s:g} of {duration_s:.1f} s"))
        why = NOT_COVERED
    out.put("gpu_energy_j", energy_j if why is None else None, why or "")
    if why is None:
        out.sources["gpu_energy_j"] = f"no counter was recorded; {text}"
        uncovered_s = max(0.0, (duration_s or span_s) - span_s)
        mean_w = energy_j / span_s if span_s > 0 else 0.0
        # Both ends are rounded to whole seconds, and the trace may end before the run does.
        out.uncertainty_j["gpu_energy_j"] = out.values["gpu_energy_uncertainty_j"] = (1.0 + uncovered_s) * mean_w


def _indicators(run: OldRun, out: Energies) -> None:
    """Extremes and means: from the trace where there is one, else as recorded."""
    ticks, recorded = run.trace.ticks, run.record.figures
    for name, column, compute in (
        ("gpu_power_min_watts", "gpu_power_min_w", _over("power_w", min)),
        ("gpu_power_max_watts", "gpu_power_max_w", _over("power_w", max)),
        ("gpu_power_avg_watts", "", _over("power_w", fmean)),
        ("gpu_temp_avg_celsius", "gpu_temp_mean_c", _over("temp_c", fmean)),
        ("gpu_temp_max_celsius", "gpu_temp_max_c", _over("temp_c", max)),
        ("gpu_util_avg_percent", "gpu_util_mean_percent", _over("util_percent", fmean)),
        ("gpu_util_max_percent", "gpu_util_max_percent", _over("util_percent", max)),
    ):
        computed, told = compute(ticks), recorded.get(name)
        if computed is not None and told is not None and not _same(computed, told):
            out.seen.append(Seen("figure_differs_from_trace", f"{name}: recorded {told}, the trace gives {computed}"))
        if column:
            out.put(column, _first(computed, told), "not_recorded")
    _power_without_trace(run, out)


def _power_without_trace(run: OldRun, out: Energies) -> None:
    """A GPU that is switched on draws more than 0 W and is warmer than 0 degrees: such a 0 was no reading."""
    if "gpu_power_mean_w" not in out.values:
        out.put("gpu_power_mean_w", run.record.figures.get("gpu_power_avg_watts"), NO_TRACE)
    zero = [
        column
        for column in ("gpu_power_mean_w", "gpu_power_min_w", "gpu_power_max_w", "gpu_temp_mean_c", "gpu_temp_max_c")
        if out.values.get(column) == 0
    ]
    for column in zero:
        del out.values[column]
        out.nulls[column] = ZERO
    if zero:
        out.seen.append(Seen("zero_means_missing", f"0 in {', '.join(zero)}"))
        if run.trace.ticks == () and "gpu_power_mean_w" in zero:
            for column in ("gpu_util_mean_percent", "gpu_util_max_percent"):
                if out.values.get(column) == 0:
                    del out.values[column]
                    out.nulls[column] = ZERO


def _over(name: str, combine: Callable[[Sequence[float]], float]) -> Callable[[Sequence[Tick]], float | None]:
    def compute(ticks: Sequence[Tick]) -> float | None:
        values = [value for tick in ticks if (value := getattr(tick, name)) is not None]
        return combine(values) if values else None

    return compute


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=SAME_SHARE, abs_tol=1e-9)


def recorded_figures(run: OldRun) -> Mapping[str, float]:
    """Every number of the record under its old name: energies, then perf_<metric>."""
    energies = {name: run.record.figures[name] for name in EXPERIMENT_ENERGY if name in run.record.figures}
    others = {name: value for name, value in run.record.figures.items() if name not in energies}
    return {**energies, **others, **{f"perf_{name}": value for name, value in run.record.metrics.items()}}
