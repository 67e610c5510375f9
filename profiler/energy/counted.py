"""One counter over one window: its readings from the boundaries and the trace, through the ledger. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from profiler.energy import counters, perf
from profiler.energy.counters import CounterEnergy, CounterInfo, EnergyCounter, Reading
from profiler.energy.figures import Sheet, Window
from profiler.energy.sample import Sample, reason_for


def ledger(counter: EnergyCounter, window: Window) -> CounterEnergy:
    """The counter's energy from boundary to boundary through the trace's readings of it."""
    info = counter.info
    first, last = window.start.readings.get(info.name), window.end.readings.get(info.name)
    if first is None or last is None:
        return counters.accumulate(info, ())
    trace = [reading for reading in trace_readings(info, window.samples) if first.t_ns < reading.t_ns < last.t_ns]
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


def source_text(ledgers: Sequence[tuple[CounterInfo, CounterEnergy]], window: Window) -> str:
    """Where a counter's figure comes from: source, counters, unit, interval, readings."""
    info = ledgers[0][0]
    names = ", ".join(counter.name for counter, _ in ledgers)
    readings, wraps, bridged = (
        sum(getattr(result, name) for _, result in ledgers) for name in ("readings", "wraps", "bridged")
    )
    return (
        f"{info.source} counter {names}, unit {info.unit}, {window.between_s(info.name):.3f} s between the boundary "
        f"reads, {readings} readings, {wraps} wraps, {bridged} readings bridged"
    )


def note_if_short(sheet: Sheet, window: Window, period_s: float, column: str) -> None:
    updates = window.duration_s / period_s
    evidence = f"{column}: {window.duration_s:.3f} s are {updates:.1f} updates of {period_s:g} s"
    sheet.note("too_short", evidence, updates, start_ns=window.t0_ns, end_ns=window.t1_ns)
