"""The energy of one window: boundary readings and trace in, one `EnergyAccount` out. Pure; it opens no device.

The counter gives the figure, from the boundary reading at the start through the trace (which shows wraps) to the
reading at the end. The integral of sampled power is the second, independent path (gpu_account). Every column is a
number or has its reason in `null_reasons`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from profiler import host
from profiler.energy import counters
from profiler.energy.counted import ledger, note_if_short, source_text
from profiler.energy.counters import CounterEnergy, CounterInfo, Unavailable
from profiler.energy.coverage import Coverage, cover
from profiler.energy.cpu_edges import to_the_edges
from profiler.energy.figures import ENERGIES, FIGURES, GPU_FIGURES, EnergyAccount, Sheet, Window
from profiler.energy.gpu_account import write_gpus
from profiler.energy.passport import Passport
from profiler.energy.sample import Sample
from profiler.energy.sources import Boundary, Sources

__all__ = ["ENERGIES", "FIGURES", "EnergyAccount", "account"]

_ABSENT: Final = {"cpu_package": "no_rapl_zones", "dram": "no_dram_zone", "gpu": "no_gpu"}


def account(
    start: Boundary,
    end: Boundary,
    samples: Sequence[Sample],
    sources: Sources,
    gpu_uuid: str | Sequence[str] | None,
    t0_ns: int,
    t1_ns: int,
) -> EnergyAccount:
    """The account of the window [t0_ns, t1_ns] (CLOCK_MONOTONIC) on this node, with the GPU or GPUs it used, if any.

    `start` and `end` enclose the window; `samples` are the trace between them, better with a tick more on each side."""
    ordered = sorted(samples, key=lambda row: row.t_mono_ns)
    window = Window(start, end, ordered, t0_ns, t1_ns)
    sheet = Sheet()
    coverage = cover(ordered, t0_ns, t1_ns)
    for scope, column in (("cpu_package", "cpu_package_energy_j"), ("dram", "dram_energy_j")):
        _write_cpu(sheet, window, sources, scope, column, coverage)
    _write_cpu_total(sheet)
    _write_gpu(sheet, window, sources, [gpu_uuid] if isinstance(gpu_uuid, str) else list(gpu_uuid or ()))
    _note_clocks(sheet, start, end)
    if not any(column in sheet.values for column in ENERGIES):
        sheet.note("no_energy_source", "; ".join(f"{column}: {sheet.nulls[column]}" for column in ENERGIES))
    return EnergyAccount(
        **{column: sheet.values.get(column) for column in FIGURES},
        samples=coverage.samples,
        samples_missed=coverage.missed,
        energy_sources=sheet.sources,
        null_reasons=sheet.nulls,
        uncertainty_j=sheet.uncertainty_j,
        uncertainty_parts_j=sheet.parts_j,
        observations=tuple(sheet.observations),
    )


def _write_cpu(sheet: Sheet, window: Window, sources: Sources, scope: str, column: str, coverage: Coverage) -> None:
    """The sum over all counters of a scope; null as soon as one of them is unknown, because a part is no sum."""
    present = [counter for counter in sources.counters if counter.info.scope == scope]
    absent = _unavailable(sources.unavailable, scope)
    if not present or absent is not None:
        nothing_at_all = sheet.nulls.get("cpu_package_energy_j") if not sources.counters else None
        sheet.put(column, None, absent or nothing_at_all or _ABSENT[scope])
        return
    ledgers = [(counter.info, ledger(counter, window)) for counter in present]
    failed = next(((info, result) for info, result in ledgers if result.units is None), None)
    if failed is not None:
        sheet.put(column, None, failed[1].null_reason)
        _note_hole(sheet, *failed, coverage)
        return
    found = to_the_edges(window, ledgers)
    sheet.put(column, found.energy_j if found.energy_j > 0 else None, counters.BELOW_STEP)
    before_s, after_s = found.outside_s
    sheet.sources[column] = (
        f"{source_text(ledgers, window)}, read {1000 * before_s:.1f} ms before the start and {1000 * after_s:.1f} ms "
        f"after the end, taken off at the power outside, +- {found.half_width_j:.3g} J"
    )
    sheet.unsure(column, found.parts_j)
    note_if_short(sheet, window, max(info.period_s for info, _ in ledgers), column)


def _unavailable(unavailable: Iterable[Unavailable], scope: str) -> str | None:
    return next((entry.reason for entry in unavailable if entry.scope == scope), None)


def _note_hole(sheet: Sheet, info: CounterInfo, result: CounterEnergy, coverage: Coverage) -> None:
    if result.null_reason == counters.WRAP_AMBIGUOUS:
        evidence = f"{info.name}: {coverage.longest_hole_s:.1f} s without a reading could hide a wrap of the counter"
        sheet.note("sampler_gap", evidence, start_ns=coverage.hole_ns[0], end_ns=coverage.hole_ns[1])


def _write_cpu_total(sheet: Sheet) -> None:
    parts = ("cpu_package_energy_j", "dram_energy_j")
    missing = next((sheet.nulls[part] for part in parts if part in sheet.nulls), None)
    total_j = None if missing else sum(sheet.values[part] for part in parts)
    sheet.put("cpu_energy_total_j", total_j, missing)
    if total_j is not None:
        sheet.sources["cpu_energy_total_j"] = "cpu_package_energy_j + dram_energy_j"
        sheet.unsure("cpu_energy_total_j", {part: sheet.uncertainty_j[part] for part in parts})


def _write_gpu(sheet: Sheet, window: Window, sources: Sources, uuids: Sequence[str]) -> None:
    traced = {row.device for row in window.samples if row.scope == "gpu"}
    if uuids and all(uuid in traced or uuid in sources.gpu_counters for uuid in uuids):
        write_gpus(sheet, window, sources.gpu_counters, uuids)
        _cite_passports(sheet, window, [sources.passports[uuid] for uuid in uuids if uuid in sources.passports])
        return
    reason = _unavailable(sources.unavailable, "gpu") or _ABSENT["gpu"]
    if sources.gpus:
        reason = "gpu_not_visible" if uuids else "no_gpu_used"
    for column in GPU_FIGURES:
        sheet.put(column, None, reason)


def _cite_passports(sheet: Sheet, window: Window, passports: Sequence[Passport]) -> None:
    """What is known of the power sensors, with the figures; and whether the run was too short for them."""
    if passports:
        sheet.sources["gpu_sensor"] = "; ".join(found.text() for found in passports)
    for found in passports:
        period_s = found.update_period_s
        if period_s is not None and "gpu_energy_integral_j" in sheet.values:
            note_if_short(sheet, window, period_s, "gpu_energy_integral_j")


def _note_clocks(sheet: Sheet, start: Boundary, end: Boundary) -> None:
    if start.anchor is None or end.anchor is None:
        return
    moved = host.shift(start.anchor, end.anchor)
    edges = {"start_ns": start.anchor.monotonic_ns, "end_ns": end.anchor.monotonic_ns}
    sheet.note("suspended", f"the machine slept for {moved.suspended_s:.1f} s", moved.suspended_s, **edges)
    sheet.note("clock_stepped", f"the wall clock was moved by {moved.stepped_s:+.1f} s", abs(moved.stepped_s), **edges)
