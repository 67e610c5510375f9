"""Brings the trace of every node to disk while a campaign runs: asks the EnergyActors and writes every few seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import ray

from cluster.nodes import Node
from profiler.store.layout import SessionFolder
from profiler.store.write import write_samples

ASK_INTERVAL_S = 1.0
WRITE_INTERVAL_S = 4.0


class SampleCollector:
    """Collects from `nodes`. `poll` is cheap and is called often; `close` writes what is left."""

    def __init__(self, folder: SessionFolder, nodes: Sequence[Node]) -> None:
        self._folder = folder
        self._nodes = {node.node_id: node for node in nodes}
        self._next: dict[str, int] = dict.fromkeys(self._nodes, 0)
        self._rows: dict[str, list[Any]] = {node_id: [] for node_id in self._nodes}
        self._pending: dict[Any, str] = {}
        self._power_w: dict[tuple[str, str], float] = {}
        self._lateness_s: dict[str, float] = {}
        self._asked_s = self._written_s = time.monotonic()

    def add(self, node: Node) -> None:
        """Collect from this node too, from now on."""
        self._nodes[node.node_id] = node
        self._next[node.node_id] = 0
        self._rows[node.node_id] = []

    def remove(self, node_id: str) -> None:
        """The node is gone: what has come from it is kept."""
        node = self._nodes.pop(node_id, None)
        if node is not None:
            self._lateness_s.pop(node.hostname, None)
            self._power_w = {place: power_w for place, power_w in self._power_w.items() if place[0] != node.hostname}

    def poll(self) -> None:
        now_s = time.monotonic()
        if not self._pending and now_s - self._asked_s >= ASK_INTERVAL_S:
            self._ask(now_s)
        self._take(timeout_s=0)
        if now_s - self._written_s >= WRITE_INTERVAL_S:
            self._write(now_s)

    def power_w(self) -> dict[tuple[str, str], float]:
        """The newest known power of each device, in W, by host and device."""
        return dict(self._power_w)

    def lateness_s(self) -> dict[str, float]:
        """By host: how late the latest of its newest samples was, in s."""
        return dict(self._lateness_s)

    def close(self, *, ask: bool = True) -> None:
        """Write what is left; `ask`: also what the nodes still have."""
        if ask:
            self._take(timeout_s=2)
            self._ask(time.monotonic())
            self._take(timeout_s=2)
        self._write(time.monotonic())

    def _ask(self, now_s: float) -> None:
        self._asked_s = now_s
        for node_id, node in self._nodes.items():
            self._pending[node.actor.rows.remote(self._next[node_id])] = node_id

    def _take(self, timeout_s: float) -> None:
        if not self._pending:
            return
        ready, _ = ray.wait(list(self._pending), num_returns=len(self._pending), timeout=timeout_s)
        for reference in ready:
            node_id = self._pending.pop(reference)
            try:
                rows, following = ray.get(reference)
            except ray.exceptions.RayError:
                self._next[node_id] = 0  # the actor was restarted: its numbering begins anew
                continue
            self._rows[node_id] += rows
            self._see(node_id, rows)
            self._next[node_id] = following

    def _see(self, node_id: str, rows: Sequence[Any]) -> None:
        node = self._nodes.get(node_id)
        if node is not None and rows:
            host = node.hostname
            self._power_w |= {(host, row.device): row.power_w for row in rows if row.power_w is not None}
            self._lateness_s[host] = max(row.lateness_ns for row in rows) / 1e9

    def _write(self, now_s: float) -> None:
        self._written_s = now_s
        for node_id, rows in self._rows.items():
            if rows:
                write_samples(self._folder, node_id, rows)
                self._rows[node_id] = []
