"""Makes one virtual environment for each peer, from the pins in peers.txt. It runs nothing in them.

They lie in .conformance/ (ignored by git) and are made once; a line of peers.txt that changes makes a new one.
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".conformance"
PINS, CONSTRAINTS = HERE / "peers.txt", HERE / "peers-constraints.txt"


@dataclass(frozen=True)
class Peer:
    """A peer in one version; `requirement` is its line in peers.txt."""

    name: str
    version: str
    requirement: str

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def python(self) -> Path:
        return CACHE / f"{self.name}-{self.version}" / "bin" / "python"


def peers(text: str) -> tuple[Peer, ...]:
    """The peers that the text of peers.txt names, in its order. ValueError for a line without a pinned version."""
    found = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?==([\w.]+)", line.strip())
        if match is None:
            raise ValueError(f"peers.txt: {line!r} is not `name==version`")
        found.append(Peer(match[1].lower(), match[2], line.strip()))
    return tuple(found)


def prepare(peer: Peer) -> str | None:
    """Makes the environment of `peer` if it is not there. Returns why it could not be made, or None."""
    folder = peer.python.parents[1]
    done = folder / ".done"
    if done.exists() and done.read_text() == peer.requirement:
        return None
    venv.create(folder, with_pip=True, clear=True)
    command = [peer.python, "-m", "pip", "install", "-q", "-c", CONSTRAINTS, peer.requirement]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        return f"pip: {(made.stderr.strip() or 'no message').splitlines()[-1]}"
    done.write_text(peer.requirement)
    print(f"made the environment of {peer.label}", file=sys.stderr)
    return None
