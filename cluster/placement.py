"""Slots: rooms for runs, reserved in Ray with placement groups, one bundle for each GPU (or for a node without one).

Both partners of a pair run in one bundle, so they share one device. It reserves what is free, waits for the rest, and
gives back what is no longer needed; which run goes into which slot is the schedule's matter.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.attempt import Grant, own_gpu
from cluster.health import Health
from cluster.nodes import Node
from cluster.ray_node import ENERGY_SLOT
from cluster.schedule import Place
from profiler.errors import CannotRunError
from profiler.planner import PlannedRun


@dataclass(frozen=True)
class Slot:
    """Room for one run: one GPU (or none) of `node` and its share of the CPUs, reserved as one bundle. `gpu`: UUID and
    name of that GPU, None where there is none or NVML does not tell."""

    node: Node
    group: PlacementGroup
    bundle: int
    cpus: float
    gpu: tuple[str, str] | None = None
    resources: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.group.id.hex()}/{self.bundle}"

    @property
    def gpus(self) -> int:
        return min(1, self.node.gpus)

    @property
    def place(self) -> Place:
        return Place(self.name, self.node.node_id, self.gpu[1] if self.gpu else None, self.resources)

    def grants(self, run: PlannedRun) -> tuple[Grant, Grant | None]:
        """What the tasks of foreground and background take of this bundle, which is the first one of the run."""
        foreground, background = cpus_of(run, self.cpus)
        energy_slot, foreground = self.node.has_energy_slot, min(foreground, self.cpus)
        extra = dict(run.resources)
        if run.background is None:
            return Grant(foreground, self.gpus, energy_slot, self.bundle, extra), None
        return (
            Grant(foreground, run.fraction * self.gpus, energy_slot, self.bundle, extra),
            Grant(background, run.background.fraction * self.gpus, energy_slot, self.bundle),
        )


def cpus_of(run: PlannedRun, slot_cpus: float) -> tuple[float, float]:
    """CPUs of foreground and background in slots of `slot_cpus` each: as configured, else all of them, and of a pair
    whole CPUs by the GPU fraction with at least one each; what is configured for one of them is not taken by the other.
    """
    if run.background is None:
        return run.cpus or slot_cpus * run.gpus, 0.0
    first, second = run.cpus, run.background.cpus
    if slot_cpus < 2:
        front, back = slot_cpus * run.fraction, slot_cpus * (1 - run.fraction)
    else:
        front = max(1.0, min(slot_cpus - 1, math.floor(slot_cpus * run.fraction)))
        back = max(1.0, slot_cpus - (first or front))
    return first or _left_of(slot_cpus, second, front), second or _left_of(slot_cpus, first, back)


def _left_of(slot_cpus: float, taken: float | None, wanted: float) -> float:
    """`wanted`, but no more than the other partner leaves, where the config gives that one less than the slot."""
    return wanted if taken is None or taken >= slot_cpus else min(wanted, slot_cpus - taken)


def check_cpus(run: PlannedRun, node: Node) -> None:
    """Raise CannotRunError when the config asks for more CPUs than this run's slots on `node` have."""
    room = slot_cpus(node)
    wanted = sum(cpus_of(run, room))
    if wanted > room * run.gpus:
        raise CannotRunError(
            f"{run.experiment_id} asks for {wanted:g} CPUs, {node.hostname} has {room * run.gpus:g} for one run: "
            "lower `cpus` in the config"
        )


def slot_cpus(node: Node) -> float:
    """The CPUs of one slot: the node's, shared among its GPUs, whole ones where that goes without rest."""
    count = max(1, node.gpus)
    return node.cpus / count if node.cpus % count else node.cpus // count


def expected_places(node: Node, resources: Mapping[str, float]) -> list[Place]:
    """The places that a node will have when all of it is reserved; `resources`: what a run may take besides."""
    names: list[str | None] = [gpu["name"] for gpu in node.facts["gpus"]][: node.gpus]
    names += [None] * (max(1, node.gpus) - len(names))
    extra = _offered(node, resources)
    return [Place(f"{node.node_id}/{n}", node.node_id, name, extra) for n, name in enumerate(names)]


def _offered(node: Node, wanted: Mapping[str, float]) -> dict[str, float]:
    """Those of the `wanted` resources that the node has enough of for each of its slots."""
    count = max(1, node.gpus)
    return {name: amount for name, amount in wanted.items() if node.resources.get(name, 0.0) >= amount * count}


@dataclass
class _Request:
    """One placement group that was asked for. `looks`: a task in each bundle that tells which GPU it has."""

    node: Node
    group: PlacementGroup
    cpus: float
    resources: Mapping[str, float]
    looks: list[Any]

    def slots(self) -> list[Slot]:
        gpus: list[tuple[str, str] | None] = ray.get(self.looks)
        return [Slot(self.node, self.group, n, self.cpus, gpu, self.resources) for n, gpu in enumerate(gpus)]


@ray.remote(max_retries=-1)
def _look() -> tuple[str, str] | None:
    return own_gpu()


class Slots:
    """The slots of a campaign: those it has, and those it has asked Ray for.

    Args:
        isolation: "node": a node is reserved as a whole or not at all; "gpu": each of its GPUs by itself.
        resources: what a run may take besides, the most that one takes.
    """

    def __init__(self, isolation: Literal["node", "gpu"], resources: Mapping[str, float], health: Health) -> None:
        self._whole = isolation == "node"
        self._resources = resources
        self._health = health
        self._asked: list[_Request] = []
        self._held: dict[PlacementGroup, tuple[Node, list[Slot]]] = {}
        self._given_back: list[Node] = []

    def ask(self, node: Node) -> None:
        """Reserve the slots of `node`, at once or as soon as others let go of them."""
        count = max(1, node.gpus)
        extra = _offered(node, self._resources)
        if self._whole:
            self._asked.append(self._request(node, count, extra))
        else:
            self._asked += [self._request(node, 1, extra) for _ in range(count)]

    def poll(self, timeout_s: float = 0.0) -> list[Slot]:
        """Slots that became ours since the last call; waits for the first up to `timeout_s`."""
        looks = [look for request in self._asked for look in request.looks]
        if not looks:
            return []
        if timeout_s:
            ray.wait(looks, timeout=timeout_s)
        ready = set(ray.wait(looks, num_returns=len(looks), timeout=0)[0])
        done = [request for request in self._asked if ready.issuperset(request.looks)]
        found: list[Slot] = []
        for request in done:
            self._asked.remove(request)
            slots = request.slots()
            self._held[request.group] = request.node, slots
            found += slots
        return found

    def waiting_for(self) -> list[str]:
        """The hosts of which something was asked for and is not ours yet, each once."""
        return list(dict.fromkeys(request.node.hostname for request in self._asked))

    def held_by_others(self) -> list[str]:
        """Those of them where Ray found no room so far. It asks Ray about each, so not to be called often."""
        found = [one.node.hostname for one in self._asked if placement_group_table(one.group)["state"] != "CREATED"]
        return list(dict.fromkeys(found))

    def give_back(self, idle: Collection[str]) -> list[Slot]:
        """Leave to others every reservation whose slots are all `idle` (their names), and ask for no more; the slots
        that are gone."""
        gone: list[Slot] = []
        for request in self._asked:
            self._given_back.append(request.node)
            _remove(request.group)
        self._asked = []
        for group, (node, slots) in list(self._held.items()):
            if all(slot.name in idle for slot in slots):
                del self._held[group]
                self._given_back.append(node)
                _remove(group)
                gone += slots
        return gone

    def ask_again(self) -> None:
        """Ask once more for what was given back: a run needs it after all."""
        nodes = {node.node_id: node for node in self._given_back}
        self._given_back = []
        for node in nodes.values():
            self.ask(node)

    def drop_node(self, node_id: str) -> None:
        """Forget a node that is gone, with all that was reserved or asked for there."""
        self._given_back = [node for node in self._given_back if node.node_id != node_id]
        for request in [request for request in self._asked if request.node.node_id == node_id]:
            self._asked.remove(request)
            _remove(request.group)
        for group in [group for group, (node, _) in self._held.items() if node.node_id == node_id]:
            del self._held[group]
            _remove(group)

    def close(self) -> None:
        if self._health.lost is None:  # without a gcs the call would never return
            for group in [*self._held, *(request.group for request in self._asked)]:
                _remove(group)

    def _request(self, node: Node, bundles: int, extra: Mapping[str, float]) -> _Request:
        count, cpus = max(1, node.gpus), slot_cpus(node)
        bundle: dict[str, float] = {"CPU": cpus, f"node:{node.address}": 0.001, **extra}
        if node.gpus:
            bundle["GPU"] = 1
        if node.has_energy_slot:
            bundle[ENERGY_SLOT] = math.floor(10_000 / count) / 10_000  # Ray counts in ten-thousandths
        group = placement_group([bundle] * bundles, strategy="STRICT_PACK")
        looks = [
            _look.options(
                num_cpus=0,
                num_gpus=min(1, node.gpus),
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number),
            ).remote()
            for number in range(bundles)
        ]
        return _Request(node, group, cpus, extra, looks)


def threads_of(cpus: float) -> int:
    """CPU threads for a grant: whole ones, at least one."""
    return max(1, math.floor(cpus))


def _remove(group: Any) -> None:
    try:
        remove_placement_group(group)
    except ray.exceptions.RayError:
        pass  # Ray is already gone, and the group with it
