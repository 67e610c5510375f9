"""Random power profiles in real time through the virtual libnvidia-ml.so.1: how near the account comes to the truth.

    python -m tests.energy.realtime --profiles 50 --side 5 [-o FILE]

Each profile is a training on a virtual GPU of its own clockwork: real nvidia-ml-py, the real sampler, real time. Its
energy has a closed form. Prints one JSON document: errors, and how often the stated interval held the truth.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from profiler.energy import priority
from profiler.energy.meter import Meter
from tests.energy.test_accuracy import IDLE_W, bursts, cut, ramp, steady, steps
from tests.fakes import nvml
from tests.fakes.nvml import FakeNvml, Segment

SEED = 20261122
SHORT_S, LONG_S = 1.0, 10.0
# The load begins this long after the window: nobody has read the counter for that time yet.
LEAD_NS = 5_000_000
IDLE_S = (0.5, 1.5)  # between two profiles on a GPU


@dataclass(frozen=True)
class Outcome:
    """One profile: length of the run, J as the account has it with its +-, and the truth of the same window; `late_ms`:
    how long after the load the window was closed."""

    kind: str
    seconds: float
    energy_j: float
    uncertainty_j: float
    truth_j: float
    late_ms: float

    @property
    def error(self) -> float:
        """Relative."""
        return abs(self.energy_j - self.truth_j) / self.truth_j

    @property
    def held(self) -> bool:
        return abs(self.energy_j - self.truth_j) <= self.uncertainty_j


@dataclass(frozen=True)
class Load:
    kind: str
    segments: tuple[Segment, ...]

    @property
    def seconds(self) -> float:
        return sum(segment.seconds for segment in self.segments)


def loads(count: int, seed: int, lengths: Sequence[float] = ()) -> Iterator[Load]:
    """`count` loads of 1 to 10 s (or of the given `lengths`), in the kinds of the thousand in virtual time."""
    rng = Random(seed)
    for _ in range(count):
        seconds = rng.choice(lengths or [SHORT_S, LONG_S, rng.uniform(SHORT_S, LONG_S)])
        make = rng.choice([steps, bursts, ramp, steady])
        watts, parts = cut(make(rng, seconds), seconds)
        yield Load(make.__name__, tuple(Segment(part, level) for level, part in zip(watts, parts, strict=True)))


class Player:
    """Plays loads on the GPUs of one state file, which several threads write."""

    def __init__(self, fake: FakeNvml) -> None:
        self._fake = fake
        self._lock = threading.Lock()

    def begin(self, gpu: int, load: Load) -> int:
        """Lets the load begin a little later, idling after it; returns when it will have ended (CLOCK_MONOTONIC)."""
        with self._lock:
            start_ns = time.monotonic_ns() + LEAD_NS
            device = self._fake.gpus[gpu]
            device.eras = device.eras[-2:]  # the sensors look back no further
            self._fake.play([*load.segments, Segment(1.0, IDLE_W)], gpu=gpu, start_ns=start_ns)
        return start_ns + round(load.seconds * 1e9)

    def energy_j(self, gpu: int, t0_ns: int, t1_ns: int) -> float:
        with self._lock:
            return (self._fake.energy_mj(t1_ns, gpu) - self._fake.energy_mj(t0_ns, gpu)) / 1000


def measure(meter: Meter, player: Player, gpu: int, load: Load, rng: Random) -> Outcome:
    """One run on an idle GPU, as `profiler measure` does it: edges at a step of the counter."""
    time.sleep(rng.uniform(*IDLE_S))
    with meter.window(gpu_uuids=(nvml.fake_uuid(gpu),), align=True) as window:
        end_ns = player.begin(gpu, load)
        time.sleep(max(0.0, (end_ns - time.monotonic_ns()) / 1e9))
    truth_j = player.energy_j(gpu, window.start_ns, window.end_ns)
    energy_j: float = window.gpu_energy_j
    late_ms = (window.end_ns - end_ns) / 1e6
    return Outcome(load.kind, load.seconds, energy_j, window.uncertainty_j["gpu_energy_j"], truth_j, late_ms)


def play(profiles: Sequence[Load], side: int, folder: Path, library: Path) -> list[Outcome]:
    """All profiles, `side` at a time, each on a GPU of its own."""
    fake = FakeNvml(folder / "nvml.state", library, gpus=side, watts=IDLE_W)
    shares = [profiles[number::side] for number in range(side)]
    with fake.attached(), Meter(sysfs=folder) as meter, ThreadPoolExecutor(side) as pool:
        player = Player(fake)

        def one_gpu(gpu: int) -> list[Outcome]:
            priority.raise_own()  # a window that closes late holds the time after its load too
            rng = Random(gpu)
            return [measure(meter, player, gpu, load, rng) for load in shares[gpu]]

        return [outcome for found in pool.map(one_gpu, range(side)) for outcome in found]


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    by_length = {f"{s:g} s": [o.error for o in outcomes if o.seconds == s] for s in (SHORT_S, LONG_S)}
    held = sum(outcome.held for outcome in outcomes)
    late_ms = sorted(outcome.late_ms for outcome in outcomes)
    return {
        "profiles": len(outcomes),
        "median_error_percent": {name: round(100 * median(e), 4) for name, e in by_length.items() if e},
        "largest_error_percent": {name: round(100 * max(e), 4) for name, e in by_length.items() if e},
        "runs": {name: len(errors) for name, errors in by_length.items()},
        "window_closed_late_ms": {"median": round(median(late_ms), 2), "max": round(late_ms[-1], 2)},
        "held": held,
        "held_percent": round(100 * held / len(outcomes), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.energy.realtime", description=__doc__)
    parser.add_argument("--profiles", type=int, default=50)
    parser.add_argument("--side", type=int, default=5, help="GPUs, each of which plays its share")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outcomes = play(list(loads(options.profiles, options.seed)), options.side, folder, nvml.build(folder))
    found = {**summary(outcomes), "seed": options.seed, "took_s": round(time.monotonic() - began, 1)}
    text = json.dumps({**found, "outcomes": [asdict(outcome) for outcome in outcomes]}, indent=1)
    print(json.dumps(found, indent=1))
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
