"""Knocks at the nodes of a campaign in a thread of its own and tells which are gone. It ends and starts nothing.

Ray takes a minute to give up a node whose network is cut, and the end of a worker there may never be told. What a
campaign runs on such a node has ended itself by then (`actors.tether`), so the driver gives it up by the same rule.
"""

from __future__ import annotations

import threading

from profiler.reach import Endpoint, Patience, Reach

INTERVAL_S = 1.0
PATIENCE = Patience(refused_s=3.0, silent_s=14.0, knock_s=0.5)  # silent for longer than any tether holds


class NodeWatch:
    """The nodes that are knocked at, and which of them have not answered for too long."""

    def __init__(self) -> None:
        self._reaches: dict[str, Reach] = {}
        self._gone: set[str] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, daemon=True, name="node-watch").start()

    def add(self, node_id: str, raylet: Endpoint) -> None:
        """Knock at this node from now on."""
        with self._lock:
            self._reaches[node_id] = Reach({"raylet": raylet}, PATIENCE)

    def remove(self, node_id: str) -> None:
        with self._lock:
            self._reaches.pop(node_id, None)
            self._gone.discard(node_id)

    def gone(self) -> set[str]:
        """Nodes that have not answered for too long, until they are removed."""
        with self._lock:
            return set(self._gone)

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            with self._lock:
                reaches = list(self._reaches.items())
            for node_id, reach in reaches:
                if reach.look() is not None:
                    with self._lock:
                        if self._reaches.get(node_id) is reach:
                            self._gone.add(node_id)
