"""Plays a built powercap tree from a process of its own, so that a busy machine does not make the hardware late.

`python -m tests.conformance.player FOLDER` reads the zones from its standard input (pickled by the stage that starts
it), plays `FLOOR_W` on each, and from the time in FOLDER/cue on the load as well. FOLDER/writes: when each write of the
counters began and was done (CLOCK_MONOTONIC, ns). It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.conformance.cases import FLOOR_W
from tests.fakes.powercap import Player, Zone

PERIOD_S = 0.005


class CuedPlayer(Player):
    """Plays the load from the time on that the cue says."""

    def __init__(self, folder: Path, zones: Sequence[Zone]) -> None:
        super().__init__(folder / "sys", zones, PERIOD_S)
        self._cue = folder / "cue"
        self._cue_ns: int | None = None

    def write(self) -> None:
        if self._cue_ns is None and self._cue.exists():
            self._cue_ns = int(self._cue.read_text())
        begun_ns = time.monotonic_ns()
        for descriptor, zone in self._open:
            now_ns = time.monotonic_ns()
            elapsed_s = 0.0 if self._cue_ns is None else max(0.0, (now_ns - self._cue_ns) / 1e9)
            energy_nj = zone.energy_nj(elapsed_s) + round(FLOOR_W * (now_ns - self.started_ns))
            os.pwrite(descriptor, f"{zone.shown_uj(energy_nj):<20}\n".encode(), 0)
        self.writes.append((begun_ns, time.monotonic_ns()))


def main() -> None:
    folder = Path(sys.argv[1])
    player = CuedPlayer(folder, pickle.load(sys.stdin.buffer))
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # hardware waits for nobody
    player.write()
    (folder / "playing").touch()
    while not select.select([sys.stdin], [], [], PERIOD_S)[0]:
        player.write()
    (folder / "writes").write_text(json.dumps(list(player.writes)))


if __name__ == "__main__":
    main()
