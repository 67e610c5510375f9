"""The GPU's part of an account: counter, integral, power, temperature, utilisation, memory. It opens no device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from profiler.energy import counters, edges, integral, power_buffer
from profiler.energy.counted import ledger, note_if_short, source_text
from profiler.energy.counters import CounterInfo, EnergyCounter
from profiler.energy.edges import Power
from profiler.energy.figures import GPU_FIGURES, Sheet, Window
from profiler.energy.integral import Integral, Point
from profiler.energy.nvml_values import PowerSample
from profiler.energy.power_buffer import Piece
from profiler.energy.sample import Sample, reason_for

GAP_MIN_DURATION_S: Final = 10.0
NOT_SUPPORTED: Final = "nvml_not_supported"

_COMBINE: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "gpu_temp_mean_c": lambda values: sum(values) / len(values),
    "gpu_util_mean_percent": lambda values: sum(values) / len(values),
    "gpu_temp_max_c": max,
    "gpu_util_max_percent": max,
}


def write_gpus(
    sheet: Sheet,
    window: Window,
    counters_by_uuid: Mapping[str, EnergyCounter],
    uuids: Sequence[str],
) -> None:
    """Fills the GPU columns for the GPUs `uuids` (at least one)."""
    sheets = [_one_gpu(window, counters_by_uuid.get(uuid), uuid) for uuid in uuids]
    for column in GPU_FIGURES:
        reason = next((one.nulls[column] for one in sheets if column in one.nulls), None)
        combine = _COMBINE.get(column, sum)
        sheet.put(column, None if reason else combine([one.values[column] for one in sheets]), reason)
        texts = [one.sources[column] for one in sheets if column in one.sources]
        if texts and reason is None:
            sheet.sources[column] = "; ".join(texts)
        if reason is None and column in sheets[0].uncertainty_j:
            causes = [name for name in sheets[0].parts_j if name.startswith(f"{column}.")]
            sums = {name.partition(".")[2]: sum(one.parts_j.get(name, 0.0) for one in sheets) for name in causes}
            sheet.unsure(column, sums)
    for one in sheets:
        sheet.observations.extend(one.observations)
    if len(uuids) > 1:
        _extremes_of_sums(sheet, window, uuids)


def _extremes_of_sums(sheet: Sheet, window: Window, uuids: Sequence[str]) -> None:
    """Smallest and largest total power, largest total memory: sums of the ticks at which every GPU answered."""
    power: dict[int, list[float]] = defaultdict(list)
    memory: dict[int, list[float]] = defaultdict(list)
    for row in _inside(window, [row for row in window.samples if row.device in uuids]):
        if row.power_w is not None:
            power[row.tick].append(row.power_w)
        if row.memory_mib is not None:
            memory[row.tick].append(row.memory_mib)
    watts, mib = ([sum(v) for v in by_tick.values() if len(v) == len(uuids)] for by_tick in (power, memory))
    totals = (("gpu_power_min_w", watts, min), ("gpu_power_max_w", watts, max), ("gpu_memory_peak_mib", mib, max))
    for column, values, extreme in totals:
        if column in sheet.values:
            del sheet.values[column]
            sheet.put(column, extreme(values) if values else None, "no_common_tick")


@dataclass(frozen=True)
class _Trace:
    """The trace of one GPU: its rows, its power curve with the kind of power, and what its power buffer knows."""

    rows: Sequence[Sample]
    points: Sequence[Point]
    kind: str
    buffered: Sequence[Piece]

    def integrate(self, t0_ns: int, t1_ns: int) -> Integral:
        whole = integral.integrate(self.points, t0_ns, t1_ns)
        return power_buffer.refine(whole, self.points, self.buffered, t0_ns, t1_ns)


def _one_gpu(window: Window, counter: EnergyCounter | None, uuid: str) -> Sheet:
    sheet = Sheet()
    rows = [row for row in window.samples if row.scope == "gpu" and row.device == uuid]
    trace = _Trace(rows, *power_points(rows), power_buffer.pieces(window.samples, uuid, _newest(window, uuid)))
    integrated = trace.integrate(window.t0_ns, window.t1_ns)
    _write_power(sheet, window, trace, integrated, power_buffer.covered_s(trace.buffered, window.t0_ns, window.t1_ns))
    _write_energy(sheet, window, counter, trace, integrated)
    _write_indicators(sheet, window, rows)
    return sheet


def _newest(window: Window, uuid: str) -> Sequence[PowerSample]:
    """The buffer as it was at the window's end; nothing where the clock of its stamps was set in the window, for those
    from before that lie among those from after it."""
    first, last = window.start.anchor, window.end.anchor
    if first is not None and last is not None:
        set_by_ns = last.utc_offset_ns - first.utc_offset_ns
        if abs(set_by_ns) > power_buffer.CLOCK_SET_NS:
            return ()
    return window.end.power.get(uuid, ())


def power_points(rows: Iterable[Sample]) -> tuple[list[Point], str]:
    """The power curve of one GPU and its kind. Instant power alone where there is any: the 1 s average lags."""
    known = [(row.power_kind or "", Point(row.t_mono_ns, row.power_w)) for row in rows if row.power_w is not None]
    kind = "instant" if any(k == "instant" for k, _ in known) else "average"
    return [point for k, point in known if k == kind], kind


def _inside(window: Window, rows: Iterable[Sample]) -> list[Sample]:
    return [row for row in rows if window.t0_ns <= row.t_mono_ns <= window.t1_ns]


def _row_reason(rows: Sequence[Sample], column: str) -> str:
    """Why the trace has no value of a column: the last reason given, or that no sample fell into the window."""
    given = [reason_for(column, row.null_reason) for row in reversed(rows)]
    return next((reason for reason in given if reason), "no_sample_in_window")


def _write_power(sheet: Sheet, window: Window, trace: _Trace, integrated: Integral, buffered_s: float) -> None:
    inside = [point.power_w for point in trace.points if window.t0_ns <= point.t_ns <= window.t1_ns]
    why_none = _row_reason(trace.rows, "power_w")
    sheet.put("gpu_power_min_w", min(inside, default=None), why_none)
    sheet.put("gpu_power_max_w", max(inside, default=None), why_none)
    energy_j = integrated.energy_j
    reason = why_none if integrated.null_reason == integral.NO_SAMPLES else integrated.null_reason
    sheet.put("gpu_energy_integral_j", energy_j, reason)
    sheet.put("gpu_power_mean_w", None if energy_j is None else energy_j / window.duration_s, reason)
    if energy_j is not None:
        sheet.sources["gpu_energy_integral_j"] = (
            f"nvml {trace.kind} power, trapezoids over {integrated.samples} samples in {window.duration_s:.3f} s, "
            f"largest distance {integrated.largest_hole_s:.3f} s"
            + (f"; {buffered_s:.3f} s of them from the driver's power buffer (20 ms)" if buffered_s else "")
        )
        sheet.unsure("gpu_energy_integral_j", integral.unsure_j(trace.points, window.t0_ns, window.t1_ns))


def _write_energy(
    sheet: Sheet,
    window: Window,
    counter: EnergyCounter | None,
    trace: _Trace,
    integrated: Integral,
) -> None:
    result = ledger(counter, window) if counter is not None else None
    if counter is None or result is None or result.null_reason == NOT_SUPPORTED:
        _energy_from_power(sheet, integrated)
        return
    if result.joules is None:
        sheet.put("gpu_energy_j", None, result.null_reason)
        return
    info = counter.info
    energy_j, parts_j, how = _at_the_edges(window, info, result.joules, trace)
    sheet.put("gpu_energy_j", energy_j, counters.BELOW_STEP)
    sheet.sources["gpu_energy_j"] = f"{source_text([(info, result)], window)}, {how}"
    sheet.unsure("gpu_energy_j", parts_j)
    note_if_short(sheet, window, info.period_s, "gpu_energy_j")
    _compare_paths(sheet, window, info, result.joules, trace)


def _at_the_edges(
    window: Window, info: CounterInfo, joules: float, trace: _Trace
) -> tuple[float | None, dict[str, float], str]:
    """The counter's energy moved from its own steps to the edges of the window: J, +- J by cause, and how it was done.

    None where less than nothing is left: the window is shorter than what its edges are unsure by."""
    name = info.name
    # The 1 s average lags too far behind to say anything about an edge.
    power = Power(trace.points if trace.kind == "instant" else (), joules / window.between_s(name))
    first = edges.start_edge(info, window.start.readings[name], window.start.steps.get(name), power, window.t0_ns)
    last = edges.end_edge(info, window.end.readings[name], window.end.steps.get(name), power, window.t1_ns)
    energy_j = joules + last.correction_j - first.correction_j
    caught = sum(name in boundary.steps for boundary in (window.start, window.end))
    half_width_j = edges.half_width_j(first, last)
    how = f"{caught} of 2 edges at a step of the counter, interpolated by power: {energy_j - joules:+.2f} J"
    parts_j = {"start": edges.half_width_j(first), "end": edges.half_width_j(last), "resolution": info.joules(1)}
    return (energy_j if energy_j > 0 else None), parts_j, f"{how}, +- {half_width_j:.2f} J"


def _energy_from_power(sheet: Sheet, integrated: Integral) -> None:
    """A board without an energy counter: the integral is the figure, and says so."""
    sheet.put("gpu_energy_j", integrated.energy_j, sheet.nulls.get("gpu_energy_integral_j"))
    if integrated.energy_j is not None:
        sheet.sources["gpu_energy_j"] = "no energy counter on this board; " + sheet.sources["gpu_energy_integral_j"]
        sheet.unsure("gpu_energy_j", {"integral": sheet.uncertainty_j["gpu_energy_integral_j"]})
    elif integrated.null_reason == integral.HOLE:
        hole = f"{integrated.largest_hole_s:.1f} s without a power reading, and the board has no energy counter"
        sheet.note("sampler_gap", hole, start_ns=integrated.hole_ns[0], end_ns=integrated.hole_ns[1])


def _compare_paths(sheet: Sheet, window: Window, info: CounterInfo, counter_j: float, trace: _Trace) -> None:
    """Notes the gap between the two paths, over the time between the boundary reads, which the counter covers."""
    t0_ns, t1_ns = (edge.readings[info.name].t_ns for edge in (window.start, window.end))
    same = trace.integrate(t0_ns, t1_ns).energy_j
    if same is None or window.duration_s <= GAP_MIN_DURATION_S:
        return
    gap = 100 * (same - counter_j) / counter_j
    evidence = f"integral {same:.1f} J, counter {counter_j:.1f} J: {gap:+.1f} % in {window.duration_s:.1f} s"
    sheet.note("counter_integral_gap", evidence, abs(gap), start_ns=t0_ns, end_ns=t1_ns)


def _write_indicators(sheet: Sheet, window: Window, rows: Sequence[Sample]) -> None:
    inside = _inside(window, rows)
    for stem, column in (("gpu_temp_{}_c", "temp_c"), ("gpu_util_{}_percent", "util_percent")):
        seen = [value for row in inside if (value := getattr(row, column)) is not None]
        reason = _row_reason(rows, column)
        sheet.put(stem.format("mean"), sum(seen) / len(seen) if seen else None, reason)
        sheet.put(stem.format("max"), max(seen, default=None), reason)
    memory = [row.memory_mib for row in inside if row.memory_mib is not None]
    sheet.put("gpu_memory_peak_mib", max(memory, default=None), _row_reason(rows, "memory_mib"))
