"""The nodes of a campaign: an EnergyActor on each, and which of them cannot serve. It runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.energy import EnergyActor
from cluster.session import ENERGY_SLOT, RayNode, RaySession
from profiler.config import Campaign
from profiler.errors import CannotRunError
from profiler.mps import CONTROL as MPS_CONTROL

START_TIMEOUT_S = 60.0
SCOPES = {"cpu": "cpu_package", "dram": "dram", "gpu": "gpu"}


@dataclass(frozen=True)
class Node:
    """One node that serves. `facts` is what its EnergyActor tells (see EnergyActor.describe)."""

    node_id: str
    address: str
    hostname: str
    cpus: int
    gpus: int
    has_energy_slot: bool
    actor: Any
    facts: dict[str, Any]

    @property
    def boot_id(self) -> str:
        return str(self.facts["boot_id"])

    def best_containment(self) -> str | None:
        return next((tier["name"] for tier in self.facts["containment"] if tier["available"]), None)

    def warnings(self) -> Iterator[str]:
        """What lessens the figures taken on this node, each with the line that mends it."""
        if not self.has_energy_slot:
            yield (
                f"{self.hostname} has no resource {ENERGY_SLOT!r}: another campaign could work there at the same time; "
                f"start its Ray with --resources='{{\"{ENERGY_SLOT}\": 1}}'"
            )
        if self.facts["niceness"] > 0:
            yield (
                f"{self.hostname}: its Ray gives trainings a lowered priority (nice {self.facts['niceness']}); "
                "start its Ray with RAY_worker_niceness=0 in the environment"
            )


def start_nodes(
    session: RaySession, campaign: Campaign, folders: Sequence[str], *, allow_uncontained: bool
) -> tuple[list[Node], list[str]]:
    """An EnergyActor on every alive node; returns the nodes that can serve and one line for each that cannot.

    `folders` must exist on a node (session and workloads). Raises CannotRunError when no node can serve.
    """
    actors = [(node, _start_actor(node, campaign.sampling_rate_hz)) for node in session.nodes()]
    try:
        return _serving(actors, campaign, folders, allow_uncontained)
    except KeyboardInterrupt:
        for _, actor in actors:
            actor.leave.remote()  # Ray ends them with this driver, unless its gcs is what is gone
        raise


def _serving(
    actors: Sequence[tuple[RayNode, Any]], campaign: Campaign, folders: Sequence[str], allow_uncontained: bool
) -> tuple[list[Node], list[str]]:
    nodes, left_out = [], []
    for ray_node, actor in actors:
        try:
            facts = ray.get(actor.describe.remote(list(folders)), timeout=START_TIMEOUT_S)
        except ray.exceptions.RayError as error:
            left_out.append(f"{ray_node.hostname} ({ray_node.address}): its EnergyActor did not start: {error}")
            continue
        node = _node(ray_node, actor, facts)
        why_not = _refusal(node, folders, campaign, allow_uncontained)
        if why_not:
            left_out.append(f"{node.hostname} ({node.address}): {why_not}")
        else:
            nodes.append(node)
    if not nodes:
        raise CannotRunError("no node can serve:\n  " + "\n  ".join(left_out or ["the cluster has no alive node"]))
    return nodes, left_out


def _start_actor(node: RayNode, rate_hz: float) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node_id=node.node_id, soft=False)
    remote = ray.remote(EnergyActor).options(
        num_cpus=0, max_restarts=-1, max_concurrency=4, scheduling_strategy=strategy
    )
    return remote.remote(rate_hz, node.node_id)


def _node(ray_node: RayNode, actor: Any, facts: dict[str, Any]) -> Node:
    return Node(
        node_id=ray_node.node_id,
        address=ray_node.address,
        hostname=ray_node.hostname,
        cpus=ray_node.cpus,
        gpus=ray_node.gpus,
        has_energy_slot=ENERGY_SLOT in ray_node.resources,
        actor=actor,
        facts=facts,
    )


def _refusal(node: Node, folders: Sequence[str], campaign: Campaign, allow_uncontained: bool) -> str | None:
    missing = [folder for folder in folders if folder not in node.facts["folders_seen"]]
    if missing:
        return f"does not see {', '.join(missing)}: put it on a file system that all nodes share"
    if any(item.sharing == "mps" for item in campaign.experiments):
        if not node.gpus:
            return "sharing: mps needs a GPU, and it has none: say sharing: time_slice"
        if not node.facts["mps"]:
            return f"sharing: mps needs {MPS_CONTROL}, which is not found there: install the driver's compute utilities"
    silent = [source for source in campaign.require_energy if SCOPES[source] not in node.facts["scopes"]]
    if silent:
        return f"require_energy: no source for {', '.join(silent)}; `profiler doctor` there says why"
    if node.cpus < 1:
        return "offers no CPU to Ray"
    if node.best_containment() is None and not allow_uncontained:
        fixes = "; ".join(f"{tier['name']}: {tier['fix']}" for tier in node.facts["containment"] if tier["fix"])
        return f"cannot contain a run's processes ({fixes}); --allow-uncontained runs all the same"
    return None
