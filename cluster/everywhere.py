"""Asks one function on every node of a running cluster. It starts nothing that stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.ray_node import RayNode
from cluster.session import open_ray

ANSWER_TIMEOUT_S = 60.0


def on_every_node(address: str, function: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
    """What `function` returns on each alive node of the cluster at `address`, with its "node_id"; for a node that does
    not answer within a minute {"node_id", "hostname", "error"}. Raises CannotRunError when no cluster is there."""
    with open_ray(address) as session:
        nodes = session.nodes()
        answers = [(node, _ask(node, function)) for node in nodes]
        ray.wait([reference for _, reference in answers], num_returns=len(answers), timeout=ANSWER_TIMEOUT_S)
        return [_answer(node, reference) for node, reference in answers]


def _ask(node: RayNode, function: Callable[[], dict[str, Any]]) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node_id=node.node_id, soft=False)
    return ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote()


def _answer(node: RayNode, reference: Any) -> dict[str, Any]:
    try:
        return {"node_id": node.node_id, **ray.get(reference, timeout=0)}
    except ray.exceptions.RayError as error:
        return {"node_id": node.node_id, "hostname": node.hostname, "error": str(error).strip().splitlines()[-1]}
