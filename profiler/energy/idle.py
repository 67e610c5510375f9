"""The power of an idle device, out of the trace of a time in which nothing ran. Pure; it waits for nothing (cooling).

A baseline is only as good as the proof that the device was idle: utilisation 0 in every sample, enough samples, and a
power that stands still. Where one of these fails there is no baseline, and the reason says which.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Final

from profiler.energy.sample import NODE, Sample

MIN_SAMPLES: Final = 10
MIN_SPAN_S: Final = 1.0
# How far the two halves of the time may lie apart before the power counts as still falling (or rising).
MAX_DRIFT_W: Final = 2.0
MAX_DRIFT_SHARE: Final = 0.03
MIN_NODE_SPAN_NS: Final = 750_000_000
# A machine that rests runs its own services all the same.
MAX_NODE_BUSY_PERCENT: Final = 10.0
AVERAGE_LAG_NS: Final = 1_000_000_000

NO_SAMPLES: Final = "no_idle_samples"
NOT_IDLE: Final = "not_idle"
NOT_STEADY: Final = "idle_power_not_steady"
NODE_BUSY: Final = "node_not_idle"
NO_COUNTER: Final = "no_cpu_counter_in_trace"


@dataclass(frozen=True, slots=True)
class IdlePower:
    """Mean power of an idle device in W and its +- (95 of 100), or None with `null_reason`. `samples`: what it is
    made of."""

    power_w: float | None
    uncertainty_w: float
    samples: int
    null_reason: str | None

    @classmethod
    def unknown(cls, reason: str, samples: int = 0) -> IdlePower:
        return cls(None, 0.0, samples, reason)


@dataclass(frozen=True)
class Resting:
    """The idle power of some GPUs together, and of all CPU packages together, at one time."""

    gpu: IdlePower
    cpu: IdlePower


def together(found: Sequence[IdlePower]) -> IdlePower:
    """The idle power of several devices (at least one): unknown as soon as one of them is. What one is unsure of may
    have the same cause in all, so these add up."""
    failed = next((one for one in found if one.power_w is None), None)
    if failed is not None:
        return failed
    unsure_w = sum(one.uncertainty_w for one in found)
    return IdlePower(sum(one.power_w or 0.0 for one in found), unsure_w, min(one.samples for one in found), None)


def idle_power(samples: Sequence[Sample], t0_ns: int, t1_ns: int) -> IdlePower:
    """The idle power of ONE device from its rows in [t0_ns, t1_ns] (CLOCK_MONOTONIC); other rows must be left out.

    At least 10 powers over at least 1 s are needed. Rows that know no utilisation (CPU counters) are taken as they
    are: whether the node was idle is `node_idle`'s to say."""
    inside = [row for row in samples if t0_ns <= row.t_mono_ns <= t1_ns and not row.missed]
    if any(row.util_percent for row in inside):
        return IdlePower.unknown(NOT_IDLE, len(inside))
    power_w = _powers(inside, t0_ns)
    if len(power_w) < MIN_SAMPLES or (inside[-1].t_mono_ns - inside[0].t_mono_ns) / 1e9 < MIN_SPAN_S:
        return IdlePower.unknown(NO_SAMPLES, len(power_w))
    level_w, half = mean(power_w), len(power_w) // 2
    drift_w = abs(mean(power_w[half:]) - mean(power_w[:half]))
    if drift_w > max(MAX_DRIFT_W, MAX_DRIFT_SHARE * level_w):
        return IdlePower.unknown(NOT_STEADY, len(power_w))
    # What drifts by itself may drift on: half of the drift is added to what chance leaves open.
    return IdlePower(level_w, drift_w / 2 + 2 * stdev(power_w) / math.sqrt(len(power_w)), len(power_w), None)


def _powers(inside: Sequence[Sample], t0_ns: int) -> list[float]:
    """Instant power (or that between two counter readings). Where the board knows its 1 s average only, what it says
    in the first second is about the time before."""
    direct = [row.power_w for row in inside if row.power_w is not None and row.power_kind != "average"]
    if direct:
        return direct
    return [row.power_w for row in inside if row.power_w is not None and row.t_mono_ns >= t0_ns + AVERAGE_LAG_NS]


def cpu_idle_power(samples: Sequence[Sample], t0_ns: int, t1_ns: int) -> IdlePower:
    """The idle power of all CPU packages together in [t0_ns, t1_ns], out of the whole trace: None where the node had
    work, or where one of the packages tells none."""
    packages: dict[str, list[Sample]] = {}
    for row in samples:
        if row.scope == "cpu_package":
            packages.setdefault(row.device, []).append(row)
    if not packages:
        return IdlePower.unknown(NO_COUNTER)
    if not node_idle(samples, t0_ns, t1_ns):
        return IdlePower.unknown(NODE_BUSY)
    return together([idle_power(rows, t0_ns, t1_ns) for rows in packages.values()])


def node_idle(samples: Sequence[Sample], t0_ns: int, t1_ns: int) -> bool:
    """Whether the node's CPUs rested in [t0_ns, t1_ns]: on average at most 10 % busy, by the trace's node rows. Each
    utilisation is of the time since the one before, so what counts is not how many there are but the time between."""
    busy = [
        (row.t_mono_ns, row.util_percent)
        for row in samples
        if row.source == NODE and t0_ns <= row.t_mono_ns <= t1_ns and row.util_percent is not None
    ]
    if not busy or busy[-1][0] - busy[0][0] < MIN_NODE_SPAN_NS:
        return False
    return mean(percent for _, percent in busy) <= MAX_NODE_BUSY_PERCENT
