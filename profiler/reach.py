"""Tells whether the far ends of a network are still there, by opening their ports. It repairs nothing and ends nobody.

The kernel answers for a process however busy that is, so a port that does not is a machine or a network that is gone.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Endpoint = tuple[str, int]


@dataclass(frozen=True)
class Patience:
    """How long, in seconds, a port may refuse (its process is gone, and may be started anew), be silent (a network has
    bad moments), and how long one knock lasts at most."""

    refused_s: float
    silent_s: float
    knock_s: float = 2.0


def answers(endpoint: Endpoint, knock_s: float) -> bool:
    """Whether somebody opens the door now."""
    try:
        socket.create_connection(endpoint, knock_s).close()
    except OSError:
        return False
    return True


class Reach:
    """What is known of `endpoints` (name -> host and port)."""

    def __init__(
        self, endpoints: Mapping[str, Endpoint], patience: Patience, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._endpoints = dict(endpoints)
        self._patience = patience
        self._clock_s = clock_s
        self._answered_s = dict.fromkeys(self._endpoints, clock_s())

    def look(self) -> str | None:
        """Knock at each; the first that has been gone for too long, in words, else None."""
        for name, endpoint in self._endpoints.items():
            limit_s = self._knock(name, endpoint)
            if self._clock_s() - self._answered_s[name] > limit_s:
                return f"Ray's {name} at {endpoint[0]}:{endpoint[1]} is gone"
        return None

    def _knock(self, name: str, endpoint: Endpoint) -> float:
        """Seconds that it may go on like this."""
        try:
            socket.create_connection(endpoint, self._patience.knock_s).close()
        except ConnectionRefusedError:
            return self._patience.refused_s
        except OSError:
            return self._patience.silent_s
        self._answered_s[name] = self._clock_s()
        return self._patience.silent_s
