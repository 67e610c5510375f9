"""Clocks that a test moves under other processes: CLOCK_REALTIME and CLOCK_BOOTTIME, through a preloaded library."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clocks.c")


def compiler() -> str | None:
    """The C compiler, without which there are no such clocks."""
    return shutil.which("cc")


class Clocks:
    """The moved clocks of the processes that were started with `env`."""

    def __init__(self, folder: Path) -> None:
        library = folder / "clocks.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
        self._offsets = folder / "clocks"
        self.move(0, 0)
        self.env = {"LD_PRELOAD": str(library), "FAKE_CLOCKS": str(self._offsets)}

    def move(self, realtime_s: float, boottime_s: float) -> None:
        """Sets how far both clocks are from the machine's."""
        data = struct.pack("qq", int(realtime_s * 1e9), int(boottime_s * 1e9))
        with self._offsets.open("r+b" if self._offsets.exists() else "wb") as file:
            file.write(data)
