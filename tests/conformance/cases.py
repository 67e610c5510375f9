"""The inputs: loads whose energy is a closed form, what the hardware shows of them, what a tool must say. Only data.

A load plays once, inside the tool's window. A GPU draws `outside_w` before and after it; a CPU draws next to nothing,
so that all windows around the load have the same energy. The truth follows from when the window opened and closed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from tests.fakes.powercap import INTEL_UNIT_NJ, RAW_STEPS, SERVER_DRAM_UNIT_NJ, Zone
from tests.fakes.virtual import SECOND, Profile

RANGE_UJ = (RAW_STEPS - 1) * INTEL_UNIT_NJ // 1000
START_UJ = 50_000_000_000
FLOOR_W = 0.05  # always drawn by each CPU zone on top of its load: a counter of real hardware never stands still


@dataclass(frozen=True)
class Load:
    """`steps`: (seconds, watts) in turn; `outside_w` before and after them."""

    steps: tuple[tuple[float, float], ...]
    outside_w: float = 0.0

    @cached_property
    def _profile(self) -> Profile:
        steps = (*self.steps, (1.0, self.outside_w))
        return Profile(tuple(watts for _, watts in steps), tuple(seconds for seconds, _ in steps))

    @property
    def seconds(self) -> float:
        return sum(seconds for seconds, _ in self.steps)

    def energy_j(self, elapsed_s: float) -> float:
        """Joules from the first step's begin until `elapsed_s` after it; negative before it."""
        return self.outside_w * elapsed_s if elapsed_s < 0 else self._profile.energy_j(round(elapsed_s * SECOND))


@dataclass(frozen=True)
class PlayedZone(Zone):
    """A zone that draws `share` of a load. At `reset_at_s` its counter begins anew from 0."""

    load: Load = Load(())
    share: float = 1.0
    reset_at_s: float | None = None

    def energy_nj(self, elapsed_s: float) -> int:
        played_j, start_uj = self.load.energy_j(max(0.0, elapsed_s)), self.start_uj
        if self.reset_at_s is not None and elapsed_s >= self.reset_at_s:
            played_j, start_uj = played_j - self.load.energy_j(self.reset_at_s), 0
        return start_uj * 1000 + round(self.share * played_j * 1e9)


@dataclass(frozen=True)
class Fault:
    """One read of energy_uj, the first from `at_s` on by whatever process: "empty" (0 bytes) or "fail" (ENODATA)."""

    kind: str
    at_s: float


@dataclass(frozen=True)
class Case:
    """One input. `zones` (a CPU) or a GPU, which draws the load. fault: of one read. killed: asks what stays behind.

    no_figure: the hardware does not tell, so that a number would be invented and "no figure, because" is right
    ("only"), or is as right as the number ("also"). not_claimed: peers that do not say they can do this, and why."""

    name: str
    asks: str
    load: Load
    zones: tuple[Zone, ...] = ()
    fault: Fault | None = None
    gpu_frozen: bool = False
    gpu_reset_at_s: float | None = None
    no_figure: str = "never"
    killed: bool = False
    not_claimed: dict[str, str] = field(default_factory=dict)

    @property
    def device(self) -> str:
        return "cpu" if self.zones else "gpu"


def package(load: Load, start_uj: int = START_UJ, reset_at_s: float | None = None) -> PlayedZone:
    return PlayedZone("intel-rapl:0", "package-0", start_uj=start_uj, load=load, reset_at_s=reset_at_s)


def before_wrap(load: Load, at_s: float) -> int:
    """Where the counter must begin so that it wraps `at_s` into the load."""
    return RANGE_UJ - round(load.energy_j(at_s) * 1e6)


def desktop(load: Load) -> tuple[Zone, ...]:
    """A package with core and uncore inside it, memory beside it, and psys around it all."""
    return (
        package(load),
        PlayedZone("intel-rapl:0:0", "core", start_uj=31_000_000_000, load=load, share=0.7),
        PlayedZone("intel-rapl:0:1", "uncore", start_uj=21_000_000_000, load=load, share=0.1),
        PlayedZone("intel-rapl:0:2", "dram", start_uj=9_000_000_000, unit_nj=SERVER_DRAM_UNIT_NJ, load=load, share=0.0),
        PlayedZone("intel-rapl:1", "psys", start_uj=77_000_000_000, load=load, share=1.6),
    )


def mirrored(load: Load) -> tuple[Zone, ...]:
    """Two dies of one socket that both show the socket's counter."""
    first = PlayedZone("intel-rapl:0", "package-0-die-0", start_uj=START_UJ, load=load)
    return first, Zone("intel-rapl:1", "package-0-die-1", mirrors="intel-rapl:0")


def frozen() -> tuple[Zone, ...]:
    return (Zone("intel-rapl:0", "package-0", text="4242424242\n"),)


STEADY = Load(((10.0, 100.0),))
LATE = Load(((9.0, 0.0), (1.0, 1000.0), (0.25, 0.0)))
SHORT = Load(((0.5, 200.0),))
SOCKET = Load(((10.0, 68.0),))
GPU = Load(((10.0, 300.0),), outside_w=300.0)
SPIKE = Load(((9.9, 100.0), (0.1, 300.0)), outside_w=100.0)
RISE = Load(((2.5, 70.0), (2.5, 600.0)), outside_w=70.0)
BURSTS = Load(tuple((0.1, watts) for _ in range(50) for watts in (600.0, 100.0)), outside_w=100.0)
EMPTY, FAILED = Fault("empty", 4.5), Fault("fail", 4.5)
SAMPLED = "one sample a second, by design"
TOO_SHORT = {"perun": SAMPLED, "carbontracker": SAMPLED}
DIES = {"pyjoules": "knows packages named package-N only"}


def wrapping(at_s: float) -> tuple[Zone, ...]:
    return (package(STEADY, before_wrap(STEADY, at_s)),)


CASES: tuple[Case, ...] = (
    Case("cpu-steady", "CPU: 100 W for 10 s", STEADY, (package(STEADY),)),
    Case("cpu-late", "0 W for 9 s, then 1000 W for 1 s", LATE, (package(LATE),)),
    Case("cpu-short", "200 W for 0.5 s", SHORT, (package(SHORT),), not_claimed=TOO_SHORT),
    Case("cpu-empty-read", "100 W for 10 s; one read is empty", STEADY, (package(STEADY),), EMPTY),
    Case("cpu-failed-read", "100 W for 10 s; one read fails", STEADY, (package(STEADY),), FAILED),
    Case("cpu-wrap", "100 W for 10 s; the counter wraps after 5 s", STEADY, wrapping(5.0)),
    Case("cpu-wrap-first", "... wraps after 0.3 s", STEADY, wrapping(0.3)),
    Case("cpu-wrap-last", "... wraps 0.02 s before the end", STEADY, wrapping(9.98)),
    Case("cpu-empty-wrap", "... one read is empty at 4.5 s, wraps after 7 s", STEADY, wrapping(7.0), EMPTY),
    Case("cpu-reset", "... restarts from 0 after 5 s", STEADY, (package(STEADY, reset_at_s=5.0),), no_figure="also"),
    Case("cpu-mirrored", "two dies show one counter: 68 W for 10 s", SOCKET, mirrored(SOCKET), not_claimed=DIES),
    Case("cpu-desktop", "core, uncore, memory, psys beside a package's 100 W", STEADY, desktop(STEADY)),
    Case("cpu-frozen", "the counter never moves", STEADY, frozen(), no_figure="only"),
    Case("gpu-steady", "GPU: 300 W for 10 s, also before and after", GPU),
    Case("gpu-spike", "100 W; 300 W in the last 0.1 s of 10 s", SPIKE),
    Case("gpu-start", "70 W for 2.5 s, 600 W for 2.5 s", RISE),
    Case("gpu-bursts", "600 W and 100 W in turn, 0.1 s each, for 10 s", BURSTS),
    Case("gpu-reset", "300 W; the counter restarts from 0 after 5 s", GPU, gpu_reset_at_s=5.0, no_figure="also"),
    Case("gpu-frozen", "300 W; the counter stands, the sensor works", GPU, gpu_frozen=True, no_figure="also"),
    Case("killed", "3 s after SIGKILL of the measuring process", STEADY, (package(STEADY),), killed=True),
)
