"""What an account is made of: its columns, the window it looks at, and the sheet on which it is put together.

It computes nothing (account, gpu_account do).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from profiler.energy import counters
from profiler.energy.sample import Sample
from profiler.energy.sources import Boundary
from profiler.verdict import Finding, that_hold


@dataclass(frozen=True)
class EnergyAccount:
    """The energy columns of a run. J, W, degrees C, percent, MiB; None exactly where `null_reasons` has the column.

    `cpu_package_energy_j` is the sum over the node's packages. With several GPUs energies, powers and memory are sums
    over them, temperature and utilisation are means and maxima. `samples` are the ticks of the grid in the window,
    `samples_missed` those of them that were not read. `energy_sources` says for each energy column where it comes from;
    `uncertainty_j` the half width of the interval that holds the truth in 95 of 100 windows, in J (what the sensor
    itself is off by is not in it), `uncertainty_parts_j` what that is made of, as "<column>.<cause>". `observations` is
    all that was seen of the conditions, `findings` what of it holds by the limits of `profiler.reasons`."""

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
    uncertainty_j: Mapping[str, float] = field(default_factory=dict)
    uncertainty_parts_j: Mapping[str, float] = field(default_factory=dict)
    observations: tuple[Finding, ...] = ()

    @property
    def findings(self) -> list[Finding]:
        return that_hold(self.observations)


FIGURES: Final = tuple(f.name for f in fields(EnergyAccount) if f.name.startswith(("cpu_", "dram_", "gpu_")))
GPU_FIGURES: Final = tuple(name for name in FIGURES if name.startswith("gpu_"))
ENERGIES: Final = tuple(name for name in FIGURES if name.endswith("_j"))


@dataclass
class Sheet:
    """An account in the making: figures, or reasons for their absence."""

    values: dict[str, float] = field(default_factory=dict)
    nulls: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    uncertainty_j: dict[str, float] = field(default_factory=dict)
    parts_j: dict[str, float] = field(default_factory=dict)
    observations: list[Finding] = field(default_factory=list)

    def put(self, column: str, value: float | None, reason: str | None) -> None:
        if value is not None:
            self.values[column] = value
        else:
            self.nulls[column] = reason or counters.NO_READING

    def unsure(self, column: str, parts_j: Mapping[str, float]) -> None:
        """The +- of a figure, from its independent causes (half widths in J)."""
        if column in self.values:
            self.uncertainty_j[column] = math.sqrt(sum(part**2 for part in parts_j.values()))
            self.parts_j |= {f"{column}.{cause}": part for cause, part in parts_j.items()}

    def note(self, reason: str, evidence: str, value: float | None = None, **more: Any) -> None:
        """Something seen of the conditions. With a `value` it is a finding only where that crosses the threshold."""
        self.observations.append(Finding(reason, evidence, value=value, **more))


@dataclass(frozen=True)
class Window:
    """Two boundaries, the trace between them in order of time, and the run's own start and end (CLOCK_MONOTONIC)."""

    start: Boundary
    end: Boundary
    samples: Sequence[Sample]
    t0_ns: int
    t1_ns: int

    @property
    def duration_s(self) -> float:
        return (self.t1_ns - self.t0_ns) / 1e9

    def outside_s(self, name: str) -> float:
        """How much of the time between the boundary reads of counter `name` lies outside of the run, in s."""
        first, last = self.start.readings[name].t_ns, self.end.readings[name].t_ns
        return (abs(self.t0_ns - first) + abs(last - self.t1_ns)) / 1e9

    def between_s(self, name: str) -> float:
        """The time between the boundary reads of counter `name`, in s."""
        return (self.end.readings[name].t_ns - self.start.readings[name].t_ns) / 1e9
