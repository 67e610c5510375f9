"""Names the bits of NVML's clocks-event ("throttle") reasons and says which of them make a run not comparable.

Throttled means: the hardware was slowed down because it was too hot, or because power delivery asked for it. Not
throttled: idle and clocks set by somebody (a state, not an event), and `sw_power_cap`: a board at its own power limit
is how a large GPU runs under full load (an H100 holds about 695 W of 700 W all through a matrix product), so it is
described, and is no reason against a run. Where the limit itself was lowered, it is the same for every run of the node.
"""

from __future__ import annotations

from typing import Final

_REASONS: Final = (
    (0x001, "gpu_idle", False),
    (0x002, "application_clocks", False),
    (0x004, "sw_power_cap", False),
    (0x008, "hw_slowdown", True),
    (0x010, "sync_boost", False),
    (0x020, "sw_thermal_slowdown", True),
    (0x040, "hw_thermal_slowdown", True),
    (0x080, "hw_power_brake", True),
    (0x100, "display_clocks", False),
    (0x200, "board_limit", False),
    (0x400, "reliability_limit", False),
)
_KNOWN: Final = sum(bit for bit, _, _ in _REASONS)
THROTTLED_MASK: Final = sum(bit for bit, _, throttled in _REASONS if throttled)


def describe_throttle_reasons(mask: int) -> list[str]:
    """Names of the bits set in `mask`, lowest first; bits of a newer driver as `unknown_0x...`."""
    names = [name for bit, name, _ in _REASONS if mask & bit]
    unknown = mask & ~_KNOWN
    return [*names, f"unknown_{unknown:#x}"] if unknown else names


def is_throttled(mask: int) -> bool:
    """True when `mask` holds a slowdown by heat or power delivery."""
    return bool(mask & THROTTLED_MASK)
