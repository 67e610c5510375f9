"""Follows the nodes of a running campaign: those that join are put to use, those that leave are done without.

It starts no run; which attempts were on a node that left, the campaign's loop knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from cluster.fitness import NodeReport
from cluster.nodes import Node, Roster
from cluster.placement import Slots
from cluster.samples import SampleCollector

Observer = Callable[[dict[str, Any]], None]


class Register(Protocol):
    """Where the facts of nodes are written down."""

    def node(self, columns: Mapping[str, Any]) -> None: ...


class Members:
    """The nodes that serve a campaign, and everything that has to know of them. `came_back`: called with a node that
    joins, which may have been here before and keep what nobody waits for any more."""

    def __init__(
        self,
        roster: Roster,
        slots: Slots,
        collector: SampleCollector,
        register: Register,
        observe: Observer,
        came_back: Callable[[Node], object],
    ) -> None:
        self._roster = roster
        self._slots = slots
        self._collector = collector
        self._register = register
        self._observe = observe
        self._came_back = came_back

    def open(self, reports: list[NodeReport]) -> None:
        """Show, write down and use what is there at the start."""
        self._show(reports)
        for report in reports:
            self._register.node(report.row())
            if (node := self._roster.serving.get(report.node_id)) is not None:
                self._slots.ask(node)

    def answers(self, node_id: str) -> bool | None:
        """Whether a node is still there; None: not known yet."""
        return self._roster.answers(node_id)

    def poll(self) -> list[str]:
        """Take in who has joined; the ids of the nodes that have left since the last call."""
        joined, left = self._roster.look()
        for report in joined:
            self._join(report)
        for node in left:
            self._warn(f"{node.hostname} ({node.address}) has left the cluster: its runs go elsewhere")
            self._slots.drop_node(node.node_id)
            self._collector.remove(node.node_id)
        return [node.node_id for node in left]

    def _join(self, report: NodeReport) -> None:
        self._show([report])
        self._register.node(report.row())
        node: Node | None = self._roster.serving.get(report.node_id)
        if node is not None:
            self._warn(f"{node.hostname} ({node.address}) has joined the cluster and is used")
            self._came_back(node)
            self._collector.add(node)
            self._slots.ask(node)

    def _show(self, reports: Sequence[NodeReport]) -> None:
        rows = [report.row() for report in reports]
        self._observe({"event": "preflight", "cluster": self._roster.is_cluster, "nodes": rows})

    def _warn(self, message: str) -> None:
        self._observe({"event": "warning", "message": message})
