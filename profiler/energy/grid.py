"""The grid of the trace: tick k is due at start + k / rate, for ever, whatever was late. Only arithmetic.

A tick that was not read before the next one was due is missed; a late loop skips to the tick that is current.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Grid:
    """Ticks at `rate_hz` from `start_ns` (CLOCK_MONOTONIC) on."""

    start_ns: int
    rate_hz: Fraction
    # Asked for at every tick; a fraction gives its parts by two calls.
    _ticks: int = field(init=False, repr=False)
    _in_ns: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ticks", self.rate_hz.numerator)
        object.__setattr__(self, "_in_ns", SECOND_NS * self.rate_hz.denominator)

    def due_ns(self, tick: int) -> int:
        return self.start_ns + tick * self._in_ns // self._ticks

    def tick_at(self, t_ns: int) -> int:
        """The last tick that was due at `t_ns` or before."""
        tick = (t_ns - self.start_ns) * self._ticks // self._in_ns
        return tick + 1 if self.due_ns(tick + 1) <= t_ns else tick

    @property
    def period_ns(self) -> int:
        return self.due_ns(1) - self.due_ns(0)


def rate(rate_hz: float) -> Fraction:
    """The rate as an exact fraction. Raises ValueError outside of (0, 1000] Hz."""
    if not 0 < rate_hz <= 1000:
        raise ValueError(f"the sampling rate must be above 0 and at most 1000 Hz, not {rate_hz!r}")
    return Fraction(rate_hz).limit_denominator(1000)
