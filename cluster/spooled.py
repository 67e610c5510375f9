"""Fetches, for a resumed session, what nodes finished and no driver has acknowledged. It executes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import ray

from actors.energy import Home
from cluster.nodes import Node

ASK_TIMEOUT_S = 60.0


class Receiver(Protocol):
    """Who writes results down; see `profiler.journal.Journal`."""

    def awaits(self, run_id: str, attempt: int) -> bool: ...
    def piece(self, experiment_id: str, attempt: int, piece: Mapping[str, Any]) -> None: ...
    def take_kept(self, result: Mapping[str, Any]) -> dict[str, Any]: ...


def fetch_kept(nodes: Iterable[Node], home: Home, receiver: Receiver) -> list[dict[str, Any]]:
    """Bring results and files of finished attempts that `receiver` still awaits to it; the rows as written. A result
    that came too late, since its run went on elsewhere, is dropped on its node."""
    rows = []
    for node in nodes:
        if node.session_root != home.root:
            for result in ray.get(node.actor.kept.remote(home), timeout=ASK_TIMEOUT_S):
                row = result["row"]
                if receiver.awaits(row["run_id"], row["attempt"]):
                    rows.append(_fetch(node, home, receiver, result))
                acknowledge(node, home, row)
    return rows


def acknowledge(node: Node, home: Home, row: Mapping[str, Any]) -> None:
    """The row is on the driver's disk: the node need not keep it any longer."""
    if node.session_root != home.root:
        node.actor.forget.remote(home, row["run_id"], row["attempt"], row["experiment_id"])


def _fetch(node: Node, home: Home, receiver: Receiver, result: Mapping[str, Any]) -> dict[str, Any]:
    row = result["row"]
    for piece in node.actor.pieces.options(num_returns="streaming").remote(home, row["experiment_id"]):
        receiver.piece(row["experiment_id"], row["attempt"], ray.get(piece))
    return receiver.take_kept(result)
