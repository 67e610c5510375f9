"""Figures that follow from an account: energy above idle, and the run's share of the CPU packages. Pure arithmetic.

Net energy is what a device drew above its idle power, which was measured right before the run. The CPU share is an
attribution: the counters know the node only, so its packages' energy is split by CPU time, and the method is named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from profiler.energy.figures import EnergyAccount
from profiler.energy.idle import IdlePower
from profiler.energy.sources import Boundary

CPU_TIME: Final = "cpu_time"
NOT_MEASURED: Final = IdlePower.unknown("idle_not_measured")
# The kernel's account of a node's busy time moves in steps of 10 ms for each CPU.
LEAST_BUSY_S: Final = 0.2
NO_CPU_TIME: Final = "cpu_time_unknown"
BELOW_RESOLUTION: Final = "cpu_time_below_resolution"


@dataclass(frozen=True)
class Derived:
    """Columns of `runs`; None exactly where `null_reasons` has the column.

    `gpu_energy_net_j`, `cpu_package_energy_net_j`: the gross figure less idle power times duration (may be below 0 by
    what they are unsure of). `cpu_share_percent`: CPU seconds of the run's process tree by those of all processes of
    the node; `cpu_package_energy_run_j`: that share of the packages' energy, idle power included, by the method
    `cpu_share_method`. `uncertainty_j`: the +- by column, as in `EnergyAccount`."""

    gpu_energy_net_j: float | None = None
    cpu_package_idle_power_w: float | None = None
    cpu_package_energy_net_j: float | None = None
    cpu_share_percent: float | None = None
    cpu_package_energy_run_j: float | None = None
    cpu_share_method: str | None = None
    null_reasons: dict[str, str] = field(default_factory=dict)
    uncertainty_j: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """The run behind an account: its length, and the CPU seconds of its process tree (None: unknown)."""

    duration_s: float | None
    cpu_s: float | None
    before: Boundary
    after: Boundary

    @property
    def busy_s(self) -> float | None:
        """CPU seconds that the whole node was busy between the boundaries."""
        if self.before.cpu_busy_s is None or self.after.cpu_busy_s is None:
            return None
        return self.after.cpu_busy_s - self.before.cpu_busy_s


def derive(account: EnergyAccount, run: Run, gpu_idle: IdlePower, cpu_idle: IdlePower) -> Derived:
    """The figures of one run. `gpu_idle`, `cpu_idle`: the devices' power right before it (`NOT_MEASURED`: unknown)."""
    nulls: dict[str, str] = {}
    unsure: dict[str, float] = {}
    gpu_net_j = _net(account, "gpu_energy_j", "gpu_energy_net_j", run.duration_s, gpu_idle, nulls, unsure)
    cpu_net_j = _net(
        account, "cpu_package_energy_j", "cpu_package_energy_net_j", run.duration_s, cpu_idle, nulls, unsure
    )
    if cpu_idle.power_w is None:
        no_counter = account.null_reasons.get("cpu_package_energy_j")
        nulls["cpu_package_idle_power_w"] = no_counter or cpu_idle.null_reason or NOT_MEASURED.null_reason or ""
    net = Derived(gpu_net_j, cpu_idle.power_w, cpu_net_j, null_reasons=nulls, uncertainty_j=unsure)
    return _with_share(net, account, _share(run))


def _with_share(net: Derived, account: EnergyAccount, share: float | str) -> Derived:
    nulls, unsure = dict(net.null_reasons), dict(net.uncertainty_j)
    if isinstance(share, str):
        nulls |= dict.fromkeys(("cpu_share_percent", "cpu_share_method", "cpu_package_energy_run_j"), share)
        return replace(net, null_reasons=nulls)
    package_j, run_j = account.cpu_package_energy_j, None
    if package_j is None:
        nulls["cpu_package_energy_run_j"] = account.null_reasons["cpu_package_energy_j"]
    else:
        run_j = share * package_j
        unsure["cpu_package_energy_run_j"] = share * account.uncertainty_j.get("cpu_package_energy_j", 0.0)
    return replace(
        net,
        cpu_share_percent=100 * share,
        cpu_package_energy_run_j=run_j,
        cpu_share_method=CPU_TIME,
        null_reasons=nulls,
        uncertainty_j=unsure,
    )


def _net(
    account: EnergyAccount,
    gross: str,
    column: str,
    duration_s: float | None,
    idle: IdlePower,
    nulls: dict[str, str],
    unsure: dict[str, float],
) -> float | None:
    gross_j: float | None = getattr(account, gross)
    if gross_j is None:
        nulls[column] = account.null_reasons[gross]
    elif idle.power_w is None or duration_s is None:
        nulls[column] = idle.null_reason or "not_started"
    else:
        unsure[column] = math.hypot(account.uncertainty_j.get(gross, 0.0), idle.uncertainty_w * duration_s)
        return gross_j - idle.power_w * duration_s
    return None


def _share(run: Run) -> float | str:
    """Between 0 and 1, or the reason why it is not known."""
    if run.cpu_s is None or run.busy_s is None:
        return NO_CPU_TIME
    if run.busy_s < LEAST_BUSY_S:
        return BELOW_RESOLUTION
    return min(1.0, run.cpu_s / run.busy_s)
