"""Virtual time and virtual devices for tests without sleep: power profiles in closed form, seen through real sensors.

`VirtualTime` moves only when someone waits on it or a device takes time to answer. The devices read it.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import accumulate

from profiler.energy.counters import Clock, CounterInfo, Reading
from profiler.energy.nvml_values import GpuReading, NvmlReadError, PowerSample, PowerStamps

SECOND = 1_000_000_000


class VirtualTime:
    """Clocks that a test moves. `delays_ns`: how late each wait ends, in turn; then it is on time."""

    def __init__(self, start_ns: int = 1_000 * SECOND, delays_ns: Sequence[int] = ()) -> None:
        self.now_ns = start_ns
        self.utc_offset_ns = 1_700_000_000 * SECOND
        self._delays = list(delays_ns)

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return self.now_ns + self.utc_offset_ns

    def wait_until(self, t_ns: int, stop: threading.Event) -> bool:
        self.now_ns = max(self.now_ns, t_ns)
        if self._delays:
            self.now_ns += self._delays.pop(0)
        return not stop.is_set()

    def pass_s(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)


@dataclass(frozen=True)
class Profile:
    """Power over time in steps: `watts[i]` holds for `seconds[i]`, the last one for ever. Starts at `start_ns`; before
    that the first power held."""

    watts: tuple[float, ...]
    seconds: tuple[float, ...]
    start_ns: int = 0
    _ends: tuple[float, ...] = field(init=False, repr=False, default=())
    _joules: tuple[float, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", (0.0, *accumulate(self.seconds)))
        parts = (watts * seconds for watts, seconds in zip(self.watts, self.seconds, strict=True))
        object.__setattr__(self, "_joules", (0.0, *accumulate(parts)))

    def power_w(self, t_ns: int) -> float:
        index = bisect_right(self._ends, (t_ns - self.start_ns) / SECOND) - 1
        return self.watts[min(max(index, 0), len(self.watts) - 1)]

    def energy_j(self, t_ns: int) -> float:
        """Joules since `start_ns`; negative before it."""
        elapsed_s = (t_ns - self.start_ns) / SECOND
        index = max(0, bisect_right(self._ends, elapsed_s) - 1)
        watts = self.watts[min(index, len(self.watts) - 1)]
        return self._joules[index] + watts * (elapsed_s - self._ends[index])


def constant(watts: float) -> Profile:
    return Profile((watts,), (1.0,))


class VirtualCounter:
    """An energy counter over a profile. It moves every `info.update_period_s`, at `phase_ns`; `call_ns` is how long a
    read takes; `faults` may turn a reading into another one."""

    def __init__(
        self,
        profile: Profile,
        info: CounterInfo,
        clock: VirtualTime | None = None,
        *,
        start_units: int = 1_000_000,
        phase_ns: int = 0,
        call_ns: int = 0,
        faults: Callable[[Reading], Reading] = lambda reading: reading,
    ) -> None:
        self.profile = profile
        self.info = info
        self.reads = 0
        self._clock = clock
        self._start_units = start_units
        self._phase_ns = phase_ns
        self._call_ns = call_ns
        self._faults = faults

    def units_at(self, t_ns: int) -> int:
        period_ns = round(self.info.period_s * SECOND)
        updated_ns = (t_ns - self._phase_ns) // period_ns * period_ns + self._phase_ns
        units = self._start_units + int(self.profile.energy_j(updated_ns) / float(self.info.joules_per_unit))
        return units if self.info.wrap_units is None else units % self.info.wrap_units

    def read(self, clock_ns: Clock = time.monotonic_ns) -> Reading:
        self.reads += 1
        before_ns = clock_ns()
        if self._clock is not None:
            self._clock.now_ns += self._call_ns
        t_ns = (before_ns + clock_ns()) // 2
        return self._faults(Reading(t_ns, self.units_at(t_ns)))

    def close(self) -> None:
        """Nothing is open."""


PACKAGE = CounterInfo(
    name="package-0",
    source="powercap",
    device="package-0",
    scope="cpu_package",
    joules_per_unit=Fraction(1, 10**6),
    wrap_units=262_143_328_911,
    max_power_w=2000.0,
    update_period_s=0.001,
)
DRAM = replace(PACKAGE, name="dram-0", device="dram-0", scope="dram", wrap_units=65_712_999_628)
BOARD = CounterInfo(
    name="gpu-0",
    source="nvml",
    device="GPU-0",
    scope="gpu",
    joules_per_unit=Fraction(1, 1000),
    wrap_units=None,
    max_power_w=1400.0,
    update_period_s=0.1,
    unit="mJ",
)


class VirtualGpu:
    """A GPU as `NvmlDevice` shows one: instant power that moves every 100 ms (the mean of the 100 ms before), and a
    counter. `power_kind` None: the board tells no power. `call_ns`: how long `read` takes. `window_s`: the part of the
    100 ms that its sensor sees; `buffer_s`: distance of the samples in its power buffer (None: it has none)."""

    def __init__(
        self,
        profile: Profile,
        clock: VirtualTime | None = None,
        *,
        index: int = 0,
        power_kind: str | None = "instant",
        counter: VirtualCounter | None = None,
        phase_ns: int = 0,
        call_ns: int = 0,
        before_read: Callable[[], None] = lambda: None,
        window_s: float = 0.1,
        buffer_s: float | None = None,
        update_s: float = 0.1,
    ) -> None:
        self._update_ns = round(update_s * SECOND)
        self._window_ns = round(window_s * SECOND)
        self._buffer_ns = None if buffer_s is None else round(buffer_s * SECOND)
        self.index = index
        self.uuid = f"GPU-{index}"
        self.name = "Virtual GPU"
        self.profile = profile
        self._clock = clock
        self._kind = power_kind
        self._phase_ns = phase_ns
        self._call_ns = call_ns
        self._before_read = before_read
        info = replace(BOARD, name=f"gpu-{index}", device=self.uuid)
        self._counter = counter or VirtualCounter(profile, info, clock, phase_ns=phase_ns, call_ns=3_000_000)

    def energy_counter(self) -> VirtualCounter:
        return self._counter

    def read(self, clock_ns: Clock = time.monotonic_ns) -> GpuReading:
        self._before_read()
        if self._clock is not None:
            self._clock.now_ns += self._call_ns
        t_ns = clock_ns()
        power_w = self._power_w(t_ns) if self._kind else None
        nulls = {} if self._kind else {"power_w": "nvml_not_supported", "power_kind": "nvml_not_supported"}
        return GpuReading(t_ns, power_w, self._kind, 40.0, 90.0, 30.0, 1000.0, 1980.0, 0, nulls)

    def _power_w(self, t_ns: int) -> float:
        updated_ns = (t_ns - self._phase_ns) // self._update_ns * self._update_ns + self._phase_ns
        return self._mean_w(updated_ns, self._window_ns)

    def _mean_w(self, end_ns: int, window_ns: int) -> float:
        return (self.profile.energy_j(end_ns) - self.profile.energy_j(end_ns - window_ns)) / window_ns * SECOND

    def power_stamps(self, after_us: int = 0) -> PowerStamps:
        """The last 119 samples, each the mean of the time since the one before."""
        if self._buffer_ns is None:
            raise NvmlReadError("nvml_not_supported")
        assert self._clock is not None
        newest = self._clock.now_ns // self._buffer_ns
        stamps = [number * self._buffer_ns for number in range(newest - 118, newest + 1)]
        return PowerStamps(
            0, [(t // 1000, 1000 * self._mean_w(t, self._buffer_ns)) for t in stamps if t // 1000 > after_us]
        )

    def power_samples(self, after_us: int = 0) -> tuple[PowerSample, ...]:
        return self.power_stamps(after_us).samples(after_us)
