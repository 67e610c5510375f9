"""The tools under test: which driver, which environment, which devices. This project's two faces come first."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from profiler import __version__
from tests.conformance.environments import Peer

TOLERANCE = 0.03
SAMPLED = 0.10  # for tools that take one sample a second by design
SAMPLING = ("perun", "carbontracker")


@dataclass(frozen=True)
class Tool:
    """`name` as in the table; `driver`: module in drivers/; `peer` None: this project. `tolerance`: allowed relative
    error."""

    name: str
    version: str
    driver: str
    python: Path
    devices: tuple[str, ...] = ("cpu", "gpu")
    peer: Peer | None = None
    tolerance: float = TOLERANCE

    @property
    def ours(self) -> bool:
        return self.peer is None


def own() -> tuple[Tool, ...]:
    python = Path(sys.executable)
    return (
        Tool("profiler.meter", __version__, "meter", python),
        Tool("profiler measure", __version__, "measure", python),
    )


def of_peer(peer: Peer) -> tuple[Tool, ...]:
    """What of a peer is tested: Zeus has two ways to measure."""
    if peer.name == "zeus":
        return (
            Tool("ZeusMonitor", peer.version, "zeus", peer.python, peer=peer),
            Tool("Zeus PowerMonitor", peer.version, "zeus_power", peer.python, ("gpu",), peer),
        )
    names = {"codecarbon": "CodeCarbon", "perun": "Perun", "carbontracker": "CarbonTracker", "pyjoules": "pyJoules"}
    tolerance = SAMPLED if peer.name in SAMPLING else TOLERANCE
    return (Tool(names[peer.name], peer.version, peer.name, peer.python, peer=peer, tolerance=tolerance),)
