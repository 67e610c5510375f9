"""The account of a window with any number of GPUs: one account each, and one for all of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from profiler.energy.account import EnergyAccount, account
from profiler.energy.sample import Sample
from profiler.energy.sources import Boundary, Sources

SEE_EACH: Final = "several_gpus"
_ADD_UP: Final = ("gpu_energy_j", "gpu_energy_integral_j", "gpu_power_mean_w")
_HIGHEST: Final = ("gpu_temp_max_c", "gpu_util_max_percent")


def account_of(
    start: Boundary,
    end: Boundary,
    samples: Sequence[Sample],
    sources: Sources,
    gpu_uuids: Sequence[str],
    t0_ns: int,
    t1_ns: int,
) -> tuple[EnergyAccount, Mapping[str, EnergyAccount]]:
    """The account over all of `gpu_uuids`, and that of each by UUID. As `account` otherwise.

    Over several GPUs energies and mean power are sums, null as soon as one is unknown; of temperature and utilisation
    only the highest is given; what has no meaning over several devices is null with the reason `several_gpus`."""
    each = {uuid: account(start, end, samples, sources, uuid, t0_ns, t1_ns) for uuid in gpu_uuids}
    if not each:
        return account(start, end, samples, sources, None, t0_ns, t1_ns), {}
    if len(each) == 1:
        return next(iter(each.values())), each
    return _together(each), each


def _together(each: Mapping[str, EnergyAccount]) -> EnergyAccount:
    accounts = list(each.values())
    first = accounts[0]
    values: dict[str, float | None] = {}
    nulls = {column: reason for column, reason in first.null_reasons.items() if not column.startswith("gpu_")}
    for column in _gpu_names():
        values[column], reason = _figure(column, accounts)
        if reason is not None:
            nulls[column] = reason
    sources = {column: text for column, text in first.energy_sources.items() if not column.startswith("gpu_")}
    for column in ("gpu_energy_j", "gpu_energy_integral_j"):
        if values[column] is not None:
            sources[column] = f"sum over {len(each)} GPUs: {first.energy_sources[column]}"
    uncertainty = {column: value for column, value in first.uncertainty_j.items() if not column.startswith("gpu_")}
    if values["gpu_energy_j"] is not None:
        uncertainty["gpu_energy_j"] = sum(one.uncertainty_j.get("gpu_energy_j", 0.0) for one in accounts)
    return replace(
        first,
        **values,  # type: ignore[arg-type]
        energy_sources=sources,
        null_reasons=nulls,
        findings=tuple(dict.fromkeys(finding for one in accounts for finding in one.findings)),
        uncertainty_j=uncertainty,
    )


def _figure(column: str, accounts: Sequence[EnergyAccount]) -> tuple[float | None, str | None]:
    """The figure over all GPUs and None, or None and the reason."""
    if column not in (*_ADD_UP, *_HIGHEST):
        return None, SEE_EACH
    seen = [getattr(one, column) for one in accounts]
    missing = next((one.null_reasons[column] for one in accounts if getattr(one, column) is None), None)
    if missing is not None:
        return None, missing
    return (sum(seen) if column in _ADD_UP else max(seen)), None


def _gpu_names() -> list[str]:
    return [field.name for field in fields(EnergyAccount) if field.name.startswith("gpu_")]


def energy_columns(energy: EnergyAccount) -> dict[str, Any]:
    """An account as a flat object; its findings as a list of {reason, evidence}."""
    columns = {field.name: getattr(energy, field.name) for field in fields(energy)}
    columns["findings"] = [{"reason": finding.reason, "evidence": finding.evidence} for finding in energy.findings]
    return columns


def gpu_columns(each: Mapping[str, EnergyAccount]) -> dict[str, dict[str, Any]]:
    """The GPU columns of each GPU by UUID, with the reasons of those that are null."""
    names = _gpu_names()
    return {
        uuid: {
            **{name: getattr(one, name) for name in names},
            "null_reasons": {name: reason for name, reason in one.null_reasons.items() if name in names},
        }
        for uuid, one in each.items()
    }
