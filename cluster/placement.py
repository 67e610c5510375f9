"""Slots: one placement group per GPU (or per node without one), so that both partners of a pair share one device.

It reserves resources; which run goes into which slot is the driver's matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from actors.attempt import Grant
from cluster.health import Health
from cluster.nodes import Node
from cluster.session import ENERGY_SLOT
from profiler.errors import CannotRunError
from profiler.planner import PlannedRun

READY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Slot:
    """Room for one run: `cpus` CPUs and `gpus` (0 or 1) GPUs of `node`, reserved as one bundle."""

    node: Node
    group: PlacementGroup
    cpus: float
    gpus: int

    def grants(self, run: PlannedRun) -> tuple[Grant, Grant | None]:
        """Resources of the foreground (the whole slot when alone) and of the background.

        Raises CannotRunError when the config asks for more CPUs than the slot has."""
        if run.background is None:
            foreground, background = run.cpus or self.cpus, 0.0
        else:
            foreground, background = _split(self.cpus, run.cpus, run.background.cpus, run.fraction)
        if foreground + background > self.cpus:
            raise CannotRunError(
                f"{run.experiment_id} asks for {foreground + background:g} CPUs, {self.node.hostname} has "
                f"{self.cpus:g} for one run: lower `cpus` in the config"
            )
        if run.background is None:
            return Grant(foreground, self.gpus, self.node.has_energy_slot), None
        return (
            Grant(foreground, run.fraction * self.gpus, self.node.has_energy_slot),
            Grant(background, run.background.fraction * self.gpus, self.node.has_energy_slot),
        )


def _split(cpus: float, foreground: float | None, background: float | None, fraction: float) -> tuple[float, float]:
    """CPU grants of a pair: as configured, else whole CPUs by the GPU fraction with at least one each."""
    if cpus < 2:
        return (foreground or cpus * fraction, background or cpus * (1 - fraction))
    first = foreground or max(1.0, min(cpus - 1, math.floor(cpus * fraction)))
    return first, background or max(1.0, cpus - first)


def threads(grant: Grant) -> int:
    """CPU threads for a grant: whole ones, at least one."""
    return max(1, math.floor(grant.cpus))


@contextmanager
def reserve(nodes: Sequence[Node], health: Health) -> Iterator[list[Slot]]:
    """Reserve every slot of `nodes` for the campaign. Raises CannotRunError when the resources are taken."""
    slots = [slot for node in nodes for slot in _slots_of(node)]
    try:
        _wait_ready(slots)
        yield slots
    finally:
        for slot in slots:
            if health.lost is None:  # without a gcs the call would never return
                _remove(slot.group)


def _slots_of(node: Node) -> list[Slot]:
    count = max(1, node.gpus)
    cpus = node.cpus / count if node.cpus % count else node.cpus // count
    bundle: dict[str, float] = {"CPU": cpus, f"node:{node.address}": 0.001}
    if node.gpus:
        bundle["GPU"] = 1
    if node.has_energy_slot:
        bundle[ENERGY_SLOT] = 1 / count
    return [Slot(node, placement_group([bundle], strategy="PACK"), cpus, min(1, node.gpus)) for _ in range(count)]


def _wait_ready(slots: Sequence[Slot]) -> None:
    _, waiting = ray.wait([slot.group.ready() for slot in slots], num_returns=len(slots), timeout=READY_TIMEOUT_S)
    if waiting:
        raise CannotRunError(
            f"{len(waiting)} of {len(slots)} slots could not be reserved within {READY_TIMEOUT_S:g} s: "
            "other Ray jobs hold the CPUs or GPUs; see `ray status`, or wait for them to end"
        )


def _remove(group: Any) -> None:
    try:
        remove_placement_group(group)
    except ray.exceptions.RayError:
        pass  # Ray is already gone, and the group with it
