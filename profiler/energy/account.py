"""The energy of one window: boundary readings and trace in, one `EnergyAccount` out. Pure; it opens no device.

The counter gives the figure, from the boundary reading at the start through the trace (which shows wraps) to the
reading at the end. The integral of sampled power is the second, independent path. Every column is a number or has its
reason in `null_reasons`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Final

from profiler import host
from profiler.energy import counters, integral, perf
from profiler.energy.counters import CounterEnergy, CounterInfo, EnergyCounter, Reading, Unavailable
from profiler.energy.coverage import Coverage, cover
from profiler.energy.integral import Integral, Point
from profiler.energy.sample import Sample, reason_for
from profiler.energy.sources import Boundary, Sources
from profiler.verdict import Finding

GAP_LIMIT: Final = 0.02
GAP_MIN_DURATION_S: Final = 10.0
SHORT_PERIODS: Final = 5
CLOCK_TOLERANCE_S: Final = 0.5
NOT_SUPPORTED: Final = "nvml_not_supported"

_ABSENT: Final = {"cpu_package": "no_rapl_zones", "dram": "no_dram_zone", "gpu": "no_gpu"}


@dataclass(frozen=True)
class EnergyAccount:
    """The energy columns of a run. J, W, degrees C, percent, MiB; None exactly where `null_reasons` has the column.

    `cpu_package_energy_j` is the sum over the node's packages. `energy_sources` says for each energy column where it
    comes from; `uncertainty_j` how far it can be off at the edges of the window, in J."""

    cpu_package_energy_j: float | None = None
    dram_energy_j: float | None = None
    cpu_energy_total_j: float | None = None
    gpu_energy_j: float | None = None
    gpu_energy_integral_j: float | None = None
    gpu_power_mean_w: float | None = None
    gpu_power_min_w: float | None = None
    gpu_power_max_w: float | None = None
    gpu_temp_mean_c: float | None = None
    gpu_temp_max_c: float | None = None
    gpu_util_mean_percent: float | None = None
    gpu_util_max_percent: float | None = None
    gpu_memory_peak_mib: float | None = None
    samples: int = 0
    samples_missed: int = 0
    energy_sources: Mapping[str, str] = field(default_factory=dict)
    null_reasons: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    uncertainty_j: Mapping[str, float] = field(default_factory=dict)


FIGURES: Final = tuple(f.name for f in fields(EnergyAccount) if f.name.startswith(("cpu_", "dram_", "gpu_")))
ENERGIES: Final = tuple(name for name in FIGURES if name.endswith("_j"))


@dataclass
class _Draft:
    """An account in the making: figures, or reasons for their absence."""

    values: dict[str, float] = field(default_factory=dict)
    nulls: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    uncertainty_j: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def put(self, column: str, value: float | None, reason: str | None) -> None:
        if value is not None:
            self.values[column] = value
        else:
            self.nulls[column] = reason or counters.NO_READING


@dataclass(frozen=True)
class _Window:
    """What every part of the account looks at."""

    start: Boundary
    end: Boundary
    samples: Sequence[Sample]
    t0_ns: int
    t1_ns: int

    @property
    def duration_s(self) -> float:
        return (self.t1_ns - self.t0_ns) / 1e9


def account(
    start: Boundary,
    end: Boundary,
    samples: Sequence[Sample],
    sources: Sources,
    gpu_uuid: str | None,
    t0_ns: int,
    t1_ns: int,
) -> EnergyAccount:
    """The account of the window [t0_ns, t1_ns] (CLOCK_MONOTONIC) on this node, with the GPU `gpu_uuid` if any.

    `start` and `end` enclose the window; `samples` are the trace between them, better with a tick more on each side."""
    ordered = sorted(samples, key=lambda row: row.t_mono_ns)
    window = _Window(start, end, ordered, t0_ns, t1_ns)
    draft = _Draft()
    coverage = cover(ordered, t0_ns, t1_ns)
    for scope, column in (("cpu_package", "cpu_package_energy_j"), ("dram", "dram_energy_j")):
        _cpu_scope(draft, window, sources, scope, column, coverage)
    _cpu_total(draft)
    _gpu(draft, window, sources, gpu_uuid, coverage)
    _clocks(draft, start, end)
    if not any(column in draft.values for column in ENERGIES):
        draft.findings.append(Finding("no_energy_source", _why_nothing(draft)))
    return EnergyAccount(
        **{column: draft.values.get(column) for column in FIGURES},
        samples=coverage.samples,
        samples_missed=coverage.missed,
        energy_sources=draft.sources,
        null_reasons=draft.nulls,
        findings=tuple(draft.findings),
        uncertainty_j=draft.uncertainty_j,
    )


def _why_nothing(draft: _Draft) -> str:
    return "; ".join(f"{column}: {draft.nulls[column]}" for column in ENERGIES if column in draft.nulls)


def _cpu_scope(draft: _Draft, window: _Window, sources: Sources, scope: str, column: str, coverage: Coverage) -> None:
    """The sum over all counters of a scope; null as soon as one of them is unknown, because a part is no sum."""
    present = [counter for counter in sources.counters if counter.info.scope == scope]
    absent = _unavailable(sources.unavailable, scope)
    if not present or absent is not None:
        draft.put(column, None, absent or _ABSENT[scope])
        return
    ledgers = [(counter.info, ledger(counter, window.start, window.end, window.samples)) for counter in present]
    failed = [(info, result) for info, result in ledgers if result.units is None]
    if failed:
        info, result = failed[0]
        draft.put(column, None, result.null_reason)
        _gap_finding(draft, info, result, coverage)
        return
    exact = sum(Fraction(info.joules_per_unit) * (result.units or 0) for info, result in ledgers)
    draft.put(column, float(exact), None)
    draft.sources[column] = _counter_text(ledgers, window)
    draft.uncertainty_j[column] = _cpu_edge_j(float(exact), present, window)
    _short_finding(draft, window, max(info.period_s for info, _ in ledgers), column)


def _unavailable(unavailable: Iterable[Unavailable], scope: str) -> str | None:
    return next((entry.reason for entry in unavailable if entry.scope == scope), None)


def ledger(counter: EnergyCounter, start: Boundary, end: Boundary, samples: Sequence[Sample]) -> CounterEnergy:
    """The counter's energy from boundary to boundary through the trace's readings of it."""
    info = counter.info
    first, last = start.readings.get(info.name), end.readings.get(info.name)
    if first is None or last is None:
        return counters.accumulate(info, ())
    trace = [reading for reading in trace_readings(info, samples) if first.t_ns < reading.t_ns < last.t_ns]
    if info.source != perf.SOURCE:
        return counters.accumulate(info, [first, *trace, last])
    # A perf event counts from its own opening, so the sampler's readings are on another scale than the boundaries'.
    # They need no unwrapping, but they do show a counter that stopped.
    if counters.accumulate(info, trace).null_reason == counters.NOT_ADVANCING:
        return counters.accumulate(info, [first, Reading(last.t_ns, None, counters.NOT_ADVANCING)])
    return counters.accumulate(info, [first, last])


def trace_readings(info: CounterInfo, samples: Iterable[Sample]) -> list[Reading]:
    """What the trace knows of one counter: its readings and its failed readings, not the ticks it was not asked."""
    found = []
    for row in samples:
        if row.missed or (row.source, row.device, row.scope) != (info.source, info.device, info.scope):
            continue
        reason = reason_for("energy_j", row.null_reason)
        if row.counter_units is not None or reason is not None:
            found.append(Reading(row.t_mono_ns, row.counter_units, reason))
    return found


def _counter_text(ledgers: Sequence[tuple[CounterInfo, CounterEnergy]], window: _Window) -> str:
    info = ledgers[0][0]
    names = ", ".join(counter.name for counter, _ in ledgers)
    readings = sum(result.readings for _, result in ledgers)
    wraps = sum(result.wraps for _, result in ledgers)
    bridged = sum(result.bridged for _, result in ledgers)
    span_s = (window.end.readings[info.name].t_ns - window.start.readings[info.name].t_ns) / 1e9
    return (
        f"{info.source} counter {names}, unit {info.unit}, {span_s:.3f} s between the boundary reads, "
        f"{readings} readings, {wraps} wraps, {bridged} readings bridged"
    )


def _cpu_edge_j(energy_j: float, present: Sequence[EnergyCounter], window: _Window) -> float:
    """What the boundary reads cover outside of the window, and one update at each edge, at the mean power."""
    span_ns = _outside_ns(window, present[0].info.name) + window.t1_ns - window.t0_ns
    edge_s = _outside_ns(window, present[0].info.name) / 1e9 + 2 * present[0].info.period_s
    return energy_j / (span_ns / 1e9) * edge_s if span_ns > 0 else 0.0


def _outside_ns(window: _Window, name: str) -> int:
    first, last = window.start.readings[name].t_ns, window.end.readings[name].t_ns
    return abs(window.t0_ns - first) + abs(last - window.t1_ns)


def _gap_finding(draft: _Draft, info: CounterInfo, result: CounterEnergy, coverage: Coverage) -> None:
    if result.null_reason == counters.WRAP_AMBIGUOUS:
        evidence = f"{info.name}: {coverage.longest_hole_s:.1f} s without a reading could hide a wrap of the counter"
        draft.findings.append(Finding("sampler_gap", evidence))


def _short_finding(draft: _Draft, window: _Window, period_s: float, column: str) -> None:
    if window.duration_s < SHORT_PERIODS * period_s:
        evidence = f"{column}: {window.duration_s:.3f} s is less than {SHORT_PERIODS} updates of {period_s:g} s"
        draft.findings.append(Finding("too_short", evidence))


def _cpu_total(draft: _Draft) -> None:
    parts = ("cpu_package_energy_j", "dram_energy_j")
    missing = next((draft.nulls[part] for part in parts if part in draft.nulls), None)
    total = None if missing else sum(draft.values[part] for part in parts)
    draft.put("cpu_energy_total_j", total, missing)
    if total is not None:
        draft.sources["cpu_energy_total_j"] = "cpu_package_energy_j + dram_energy_j"
        draft.uncertainty_j["cpu_energy_total_j"] = sum(draft.uncertainty_j[part] for part in parts)


def _gpu(draft: _Draft, window: _Window, sources: Sources, gpu_uuid: str | None, coverage: Coverage) -> None:
    rows = [row for row in window.samples if row.scope == "gpu" and row.device == gpu_uuid]
    if not rows and gpu_uuid not in sources.gpu_counters:
        reason = "no_gpu_used" if sources.gpus else _unavailable(sources.unavailable, "gpu") or _ABSENT["gpu"]
        for column in FIGURES:
            if column.startswith("gpu_"):
                draft.put(column, None, reason)
        return
    points, kind = power_points(rows)
    integrated = integral.integrate(points, window.t0_ns, window.t1_ns)
    _gpu_power(draft, window, rows, points, kind, integrated)
    _gpu_energy(draft, window, sources.gpu_counters.get(gpu_uuid or ""), points, integrated, coverage)
    _gpu_indicators(draft, window, rows)


def power_points(rows: Iterable[Sample]) -> tuple[list[Point], str]:
    """The power curve of one GPU and its kind. Instant power alone where there is any: the 1 s average lags."""
    known = [(row.power_kind or "", Point(row.t_mono_ns, row.power_w)) for row in rows if row.power_w is not None]
    kind = "instant" if any(k == "instant" for k, _ in known) else "average"
    return [point for k, point in known if k == kind], kind


def _gpu_power(
    draft: _Draft, window: _Window, rows: Sequence[Sample], points: Sequence[Point], kind: str, integrated: Integral
) -> None:
    inside = [point.power_w for point in points if window.t0_ns <= point.t_ns <= window.t1_ns]
    why_none = _row_reason(rows, "power_w")
    draft.put("gpu_power_min_w", min(inside, default=None), why_none)
    draft.put("gpu_power_max_w", max(inside, default=None), why_none)
    energy_j = integrated.energy_j
    reason = why_none if integrated.null_reason == integral.NO_SAMPLES else integrated.null_reason
    draft.put("gpu_energy_integral_j", energy_j, reason)
    draft.put("gpu_power_mean_w", None if energy_j is None else energy_j / window.duration_s, reason)
    if energy_j is not None:
        draft.sources["gpu_energy_integral_j"] = (
            f"nvml {kind} power, trapezoids over {integrated.samples} samples in {window.duration_s:.3f} s, "
            f"largest distance {integrated.largest_hole_s:.3f} s"
        )


def _row_reason(rows: Sequence[Sample], column: str) -> str:
    """Why the trace has no value of a column: the last reason given, or that no sample fell into the window."""
    given = [reason_for(column, row.null_reason) for row in reversed(rows)]
    return next((reason for reason in given if reason), "no_sample_in_window")


def _gpu_energy(
    draft: _Draft,
    window: _Window,
    counter: EnergyCounter | None,
    points: Sequence[Point],
    integrated: Integral,
    coverage: Coverage,
) -> None:
    result = ledger(counter, window.start, window.end, window.samples) if counter is not None else None
    if counter is None or result is None or result.null_reason == NOT_SUPPORTED:
        _gpu_energy_from_power(draft, integrated, coverage)
        return
    draft.put("gpu_energy_j", result.joules, result.null_reason)
    if result.joules is None:
        return
    info = counter.info
    draft.sources["gpu_energy_j"] = _counter_text([(info, result)], window)
    edges = [integral.power_at(points, t_ns) for t_ns in (window.t0_ns, window.t1_ns)]
    power_w = max((power for power in edges if power is not None), default=result.joules / window.duration_s)
    draft.uncertainty_j["gpu_energy_j"] = power_w * (info.period_s + _outside_ns(window, info.name) / 1e9)
    _short_finding(draft, window, info.period_s, "gpu_energy_j")
    _compare_paths(draft, window, info, result.joules, points)


def _gpu_energy_from_power(draft: _Draft, integrated: Integral, coverage: Coverage) -> None:
    """A board without an energy counter: the integral is the figure, and says so."""
    draft.put("gpu_energy_j", integrated.energy_j, draft.nulls.get("gpu_energy_integral_j"))
    if integrated.energy_j is not None:
        draft.sources["gpu_energy_j"] = "no energy counter on this board; " + draft.sources["gpu_energy_integral_j"]
    elif integrated.null_reason == integral.HOLE:
        evidence = f"{coverage.longest_hole_s:.1f} s without a power reading, and the board has no energy counter"
        draft.findings.append(Finding("sampler_gap", evidence))


def _compare_paths(
    draft: _Draft, window: _Window, info: CounterInfo, counter_j: float, points: Sequence[Point]
) -> None:
    """Notes a gap between the two paths, over the time between the boundary reads, which the counter covers."""
    t0_ns, t1_ns = (edge.readings[info.name].t_ns for edge in (window.start, window.end))
    same = integral.integrate(points, t0_ns, t1_ns).energy_j
    if same is None or window.duration_s <= GAP_MIN_DURATION_S:
        return
    gap = (same - counter_j) / counter_j
    if abs(gap) > GAP_LIMIT:
        evidence = f"integral {same:.1f} J, counter {counter_j:.1f} J: {100 * gap:+.1f} % in {window.duration_s:.1f} s"
        draft.findings.append(Finding("counter_integral_gap", evidence))


def _gpu_indicators(draft: _Draft, window: _Window, rows: Sequence[Sample]) -> None:
    inside = [row for row in rows if window.t0_ns <= row.t_mono_ns <= window.t1_ns]
    for stem, column in (("gpu_temp_{}_c", "temp_c"), ("gpu_util_{}_percent", "util_percent")):
        seen = [value for row in inside if (value := getattr(row, column)) is not None]
        reason = _row_reason(rows, column)
        draft.put(stem.format("mean"), sum(seen) / len(seen) if seen else None, reason)
        draft.put(stem.format("max"), max(seen, default=None), reason)
    memory = [row.memory_mib for row in inside if row.memory_mib is not None]
    draft.put("gpu_memory_peak_mib", max(memory, default=None), _row_reason(rows, "memory_mib"))


def _clocks(draft: _Draft, start: Boundary, end: Boundary) -> None:
    if start.anchor is None or end.anchor is None:
        return
    moved = host.shift(start.anchor, end.anchor)
    if moved.suspended_s > CLOCK_TOLERANCE_S:
        draft.findings.append(Finding("suspended", f"the machine slept for {moved.suspended_s:.1f} s"))
    if abs(moved.stepped_s) > CLOCK_TOLERANCE_S:
        draft.findings.append(Finding("clock_stepped", f"the wall clock was moved by {moved.stepped_s:+.1f} s"))
