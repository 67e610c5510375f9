"""A virtual cluster: nodes, GPUs, slots and attempts that last their time on a virtual clock. No Ray, no process.

The campaign's loop (`cluster.execution`) cannot tell it from the real one.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from cluster.nodes import Node
from cluster.placement import Slot
from cluster.ray_node import ENERGY_SLOT
from profiler.journal import PendingRun
from profiler.store.layout import SessionFolder

H100 = "NVIDIA H100 80GB HBM3"
A100 = "NVIDIA A100-SXM4-80GB"

Ending = Callable[[PendingRun], str]
"""What becomes of an attempt: "valid", "failed", "gate_closed" (of its GPU) or "node_closed"."""


class Steady:
    """Members of whom nobody leaves, and a collector without a trace."""

    def answers(self, node_id: str) -> bool | None:
        return True

    def poll(self) -> list[str]:
        return []

    def power_w(self) -> dict[tuple[str, str], float]:
        return {}

    def lateness_s(self) -> dict[str, float]:
        return {}


@dataclass
class VirtualCluster:
    """`nodes`: the models of each node's GPUs; a node without one has a single slot. `ending` decides every attempt."""

    folder: SessionFolder
    nodes: Mapping[str, Sequence[str]]
    ending: Ending = lambda pending: "valid"
    now_s: float = 0.0
    started: list[tuple[float, str, int]] = field(default_factory=list)
    keep_starts: bool = True
    _coming: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    _offered: bool = False
    _number: int = 0

    # Rooms

    def poll(self, timeout_s: float = 0.0) -> list[Slot]:
        """All slots, once."""
        if self._offered:
            return []
        self._offered = True
        return [slot for name, models in self.nodes.items() for slot in self._slots(name, models)]

    def waiting_for(self) -> list[str]:
        return []

    def held_by_others(self) -> list[str]:
        return []

    def give_back(self, idle: Collection[str]) -> list[Slot]:
        return []

    def ask_again(self) -> None:
        """Nothing was given back."""

    # Attempts

    def start(self, pending: PendingRun, slots: Sequence[Slot]) -> int:
        self._number += 1
        if self.keep_starts:
            self.started.append((self.now_s, slots[0].node.node_id, pending.run.index))
        for message in self._messages(pending, slots):
            heapq.heappush(self._coming, (message.pop("at_s"), self._number, message))
        return self._number

    def progress(self, timeout_s: float) -> list[tuple[int, dict[str, Any]]]:
        """The next moment at which attempts tell something: the clock goes there."""
        if not self._coming:
            return []
        self.now_s = self._coming[0][0]
        found: dict[int, dict[str, Any]] = {}
        while self._coming and self._coming[0][0] == self.now_s and self._coming[0][1] not in found:
            _, key, message = heapq.heappop(self._coming)
            found[key] = message
        return list(found.items())

    def recorded(self, row: Mapping[str, Any], slots: Sequence[Slot]) -> None:
        """Nothing is kept on virtual nodes."""

    def give_up(self, key: int) -> None:
        raise AssertionError("no node leaves")

    def _slots(self, name: str, models: Sequence[str]) -> list[Slot]:
        root = str(self.folder.root)
        facts = {"boot_id": name, "session_root": root}
        node = Node(
            node_id=name, address=name, hostname=name, resources={"CPU": 8, "GPU": len(models), ENERGY_SLOT: 1},
            raylet_port=0, actor=None, facts=facts,
        )  # fmt: skip
        gpus = [(f"GPU-{name}-{number}", model) for number, model in enumerate(models)] or [None]
        group: Any = SimpleNamespace(id=name.encode())
        return [Slot(node, group, number, 1.0, gpu) for number, gpu in enumerate(gpus)]

    def _messages(self, pending: PendingRun, slots: Sequence[Slot]) -> list[dict[str, Any]]:
        ending, run = self.ending(pending), pending.run
        if ending in ("gate_closed", "node_closed"):
            whole = ending == "node_closed"
            return [{"at_s": self.now_s + 1, "kind": "gate_closed", "problems": ["planted"], "whole_node": whole}]
        length_s = random.Random(run.index).uniform(60, 600)
        row = self._row(pending, slots, length_s, ok=ending == "valid")
        return [
            {"at_s": self.now_s + 0.5, "kind": "step", "step": "training", "seconds": None},
            {
                "at_s": self.now_s + length_s,
                "kind": "result",
                "row": row,
                "processes": [],
                "retry_may_help": ending == "failed",
            },
            {"at_s": self.now_s + length_s + 1, "kind": "step", "step": "cooling", "seconds": 20},
            {
                "at_s": self.now_s + length_s + 20,
                "kind": "cooled",
                "cooling_s": 19.0,
                "cooling_end": "idle",
                "cooling_idle_proven": True,
                "null_reason": None,
            },
            {"at_s": self.now_s + length_s + 20.5, "kind": "ended"},
        ]

    def _row(self, pending: PendingRun, slots: Sequence[Slot], length_s: float, *, ok: bool) -> dict[str, Any]:
        run, gpu = pending.run, slots[0].gpu
        values = dict(run.hyperparameters)
        return {
            "run_id": self.folder.run_id(run.index),
            "session_id": self.folder.session_id,
            "experiment_id": run.experiment_id,
            "index": run.index,
            "attempt": pending.attempt,
            "repo": run.repo,
            "model": run.model,
            "mode": run.mode,
            "foreground_mode": run.foreground_mode,
            "requested_hyperparameters": values,
            "hyperparameters": values,
            "effective_source": "event",
            "mutated": list(run.mutated),
            "node_id": slots[0].node.node_id,
            "boot_id": slots[0].node.boot_id,
            "gpu_uuid": gpu and gpu[0],
            "gpu_name": gpu and gpu[1],
            "duration_s": length_s,
            "exit_code": 0 if ok else 1,
            "metrics": {"accuracy": 0.75},
            "gpu_energy_j": 300.0 * length_s,
            "gpu_power_mean_w": 300.0,
            "gpu_idle_power_w": 70.0,
            "energy_sources": {"gpu_energy_j": "nvml counter"},
            "null_reasons": {"cpu_package_energy_j": "no_energy_source"},
            "verdict": "valid" if ok else "failed",
            "valid": ok,
            "safe": ok,
            "reasons": [] if ok else ["exit"],
            "evidence": {},
        }
