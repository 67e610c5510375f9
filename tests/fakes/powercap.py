"""A fake powercap tree: zones as real files that real readers open, and a player that lets their counters run.

The player writes each zone's counter in place, with a closed form for its value, so the truth is known:
energy = watts * time, shown as the kernel does it: floor(raw * unit_nj / 1000) of a raw counter of 32 bits.

    python -m tests.fakes.powercap ROOT --watts 40 --seconds 10

builds one package under ROOT (point PROFILER_SYSFS_ROOT to it), prints "ready", and plays it for 10 s.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType

INTEL_UNIT_NJ = 61_035
AMD_UNIT_NJ = 15_258
SERVER_DRAM_UNIT_NJ = 15_300
RAW_STEPS = 2**32
TEXT_WIDTH = 20
KEPT_WRITES = 100_000


@dataclass(frozen=True)
class Zone:
    """One zone. `folder` is its name in the class folder ("intel-rapl:0:1"), `name` what the kernel calls it.

    start_uj: the counter when it begins to play. watts: what it draws. mirrors: folder of the zone whose counter it
    shows. text: fixed content of energy_uj (None: a number). mode: permissions of energy_uj. named: has a name file.
    range_uj: shown instead of the range that follows from the unit; the counter wraps behind it."""

    folder: str
    name: str
    watts: float = 0.0
    start_uj: int = 1_000_000
    unit_nj: int = INTEL_UNIT_NJ
    range_uj: int | None = None
    mirrors: str | None = None
    text: str | None = None
    mode: int = 0o444
    named: bool = True

    @property
    def max_energy_range_uj(self) -> int:
        return (RAW_STEPS - 1) * self.unit_nj // 1000 if self.range_uj is None else self.range_uj

    def energy_nj(self, elapsed_s: float) -> int:
        """True energy after `elapsed_s` of play, with what the counter showed at its beginning."""
        return self.start_uj * 1000 + round(self.watts * elapsed_s * 1e9)

    def value_uj(self, elapsed_s: float) -> int:
        """What energy_uj shows after `elapsed_s` of play."""
        return self.shown_uj(self.energy_nj(elapsed_s))

    def shown_uj(self, energy_nj: int) -> int:
        """What energy_uj shows of an energy: in steps of the unit, wrapped."""
        if self.range_uj is not None:
            return energy_nj // 1000 % (self.range_uj + 1)
        return energy_nj // self.unit_nj % RAW_STEPS * self.unit_nj // 1000


def build(root: Path, zones: Iterable[Zone], *, nested: bool = False) -> None:
    """Writes the tree under `root`, in the shape of /sys: flat in class/powercap, or `nested` as the kernel has it, in
    devices/virtual/powercap with links in the class folder."""
    zones = list(zones)
    flat = root / "class" / "powercap"
    flat.mkdir(parents=True, exist_ok=True)
    for zone in zones:
        folder = flat / zone.folder
        if nested:
            folder = _nested_folder(root, zone.folder)
            (flat / zone.folder).symlink_to(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _fill(folder, zone, _by_folder(zones, zone.mirrors) or zone)


def _nested_folder(root: Path, folder: str) -> Path:
    control, *numbers = folder.split(":")
    path = root / "devices" / "virtual" / "powercap" / control
    for depth in range(1, len(numbers) + 1):
        path /= ":".join([control, *numbers[:depth]])
    return path


def _by_folder(zones: Iterable[Zone], folder: str | None) -> Zone | None:
    return next((zone for zone in zones if zone.folder == folder), None)


def _fill(folder: Path, zone: Zone, shown: Zone) -> None:
    if zone.named:
        (folder / "name").write_text(f"{zone.name}\n")
    (folder / "max_energy_range_uj").write_text(f"{zone.max_energy_range_uj}\n")
    (folder / "enabled").write_text("1\n")
    energy = folder / "energy_uj"
    energy.write_text(_text(shown.value_uj(0.0)) if zone.text is None else zone.text)
    energy.chmod(zone.mode)


def _text(value_uj: int) -> str:
    """Always of one length, so that writing it in place never leaves a tail of the number before."""
    return f"{value_uj:<{TEXT_WIDTH}}\n"


class Player:
    """Lets the counters of a built tree run in a thread, every `period_s`. A context manager.

    `writes`: when each of the last writes of all counters began and when it was done (CLOCK_MONOTONIC)."""

    def __init__(self, root: Path, zones: Sequence[Zone], period_s: float = 0.002) -> None:
        self._period_s = period_s
        # A plain flag: it is set from a signal handler, where an Event could wait for its own lock.
        self._stopping = False
        self._thread = threading.Thread(target=self.run, daemon=True, name="fake-powercap")
        flat = root / "class" / "powercap"
        moving = [(zone, _by_folder(zones, zone.mirrors) or zone) for zone in zones if zone.text is None]
        self._open = [(os.open(flat / zone.folder / "energy_uj", os.O_WRONLY), shown) for zone, shown in moving]
        self.started_ns = time.monotonic_ns()
        self.writes = deque([(self.started_ns, self.started_ns)], KEPT_WRITES)

    def __enter__(self) -> Player:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._thread.join()
        for descriptor, _ in self._open:
            os.close(descriptor)

    def stop(self) -> None:
        self._stopping = True

    def run(self, seconds: float = float("inf")) -> None:
        """Plays on the calling thread until `stop`, or for `seconds`."""
        deadline_ns = self.started_ns + seconds * 1e9
        while not self._stopping and time.monotonic_ns() < deadline_ns:
            self.write()
            time.sleep(self._period_s)

    def write(self) -> None:
        """Writes every counter for this moment."""
        begun_ns = time.monotonic_ns()
        for descriptor, zone in self._open:
            elapsed_s = (time.monotonic_ns() - self.started_ns) / 1e9
            os.pwrite(descriptor, _text(zone.value_uj(elapsed_s)).encode(), 0)
        self.writes.append((begun_ns, time.monotonic_ns()))

    def late_s(self, t0_ns: int, t1_ns: int) -> float:
        """How long at most, from `t0_ns` to `t1_ns`, the counters had not been written."""
        written = list(self.writes)
        pauses = [(begun_ns, done_ns) for (begun_ns, _), (_, done_ns) in pairwise(written)]
        return max(done_ns - begun_ns for begun_ns, done_ns in pauses if done_ns >= t0_ns and begun_ns <= t1_ns) / 1e9


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.powercap", description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--watts", type=float, default=40.0, help="of each package")
    parser.add_argument("--dram-watts", type=float, default=None, help="of each package's memory (default: no zone)")
    parser.add_argument("--packages", type=int, default=1)
    parser.add_argument("--start-uj", type=int, default=1_000_000, help="near the range, the counter wraps soon")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--period-ms", type=float, default=2.0)
    options = parser.parse_args(arguments)
    zones = []
    for package in range(options.packages):
        folder = f"intel-rapl:{package}"
        # Two sockets never have the same count.
        start_uj = options.start_uj + package * 7_000_000_000
        zones.append(Zone(folder, f"package-{package}", options.watts, start_uj))
        if options.dram_watts is not None:
            dram = Zone(f"{folder}:0", "dram", options.dram_watts, start_uj // 3, SERVER_DRAM_UNIT_NJ)
            zones.append(dram)
    build(options.root, zones)
    player = Player(options.root, zones, options.period_ms / 1000)

    def end(number: int, frame: FrameType | None) -> None:
        player.stop()

    signal.signal(signal.SIGTERM, end)
    player.write()
    print("ready", flush=True)
    player.run(options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
