"""One row of the trace: what was seen on one device at one tick of the grid. It reads nothing and stores nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

TICK_MISSED: Final = "tick_missed"
NODE: Final = "node"


class Seen(NamedTuple):
    """What a reading fills of a row: the last fields of `Sample`, in its order."""

    energy_j: float | None = None
    counter_units: int | None = None
    power_w: float | None = None
    power_kind: str | None = None
    temp_c: float | None = None
    util_percent: float | None = None
    memory_util_percent: float | None = None
    memory_mib: float | None = None
    clock_mhz: float | None = None
    throttle_reasons: int | None = None
    null_reason: str | None = None


class Sample(NamedTuple):
    """A row of `samples`. A named tuple: a sampler makes 150 a second, and a frozen dataclass takes five times as long.

    t_mono_ns: CLOCK_MONOTONIC when the device was read (for a missed tick: when it was due).
    t_utc_ns: the same moment in UTC, by the anchor taken when the sampler started (a stepped clock moves no row).
    tick: number on the grid; lateness_ns: read minus due; missed: the tick passed without a reading.
    source, device, scope: "powercap", "perf", "nvml" or "node"; the counter's device or the GPU's UUID; what it covers.
    energy_j: joules since the sampler started, unwrapped; counter_units: the raw counter, None where not read.
    power_w with power_kind: "instant" and "average" are the device's own; "interval" is the counter's advance since the
        reading before, by its time.
    memory_mib: in use on the GPU, or of the node's RAM. null_reason: why something of this row is None, either one
        reason for the whole row or "field=reason" pairs joined by ";".
    """

    t_mono_ns: int
    t_utc_ns: int
    boot_id: str
    tick: int
    lateness_ns: int
    missed: bool
    source: str
    device: str
    scope: str
    energy_j: float | None = None
    counter_units: int | None = None
    power_w: float | None = None
    power_kind: str | None = None
    temp_c: float | None = None
    util_percent: float | None = None
    memory_util_percent: float | None = None
    memory_mib: float | None = None
    clock_mhz: float | None = None
    throttle_reasons: int | None = None
    null_reason: str | None = None


def join_reasons(reasons: Mapping[str, str]) -> str | None:
    """One `null_reason` for a row's fields; None when nothing is missing."""
    return ";".join(f"{field}={reason}" for field, reason in sorted(reasons.items())) or None


def reason_for(field: str, null_reason: str | None) -> str | None:
    """The reason for `field` out of a row's `null_reason`, the undoing of `join_reasons`."""
    if null_reason is None or "=" not in null_reason:
        return null_reason
    return dict(part.split("=", 1) for part in null_reason.split(";")).get(field)
