"""Refuses, before anything starts, runs that no node can serve, or that some GPU they could come to cannot hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.execution import need_of, need_text
from cluster.nodes import Node
from cluster.placement import check_cpus, expected_places, slot_cpus
from cluster.schedule import Need, Place
from profiler.errors import CannotRunError
from profiler.journal import PendingRun
from profiler.planner import PlannedRun


def most_resources(runs: Iterable[PlannedRun]) -> dict[str, float]:
    """Of each extra resource the most that one run takes."""
    most: dict[str, float] = {}
    for run in runs:
        for name, amount in run.resources.items():
            most[name] = max(amount, most.get(name, 0.0))
    return most


def check_places(pending: Sequence[PendingRun], nodes: Sequence[Node]) -> None:
    """Raise CannotRunError naming the first run that cannot be served, and what would mend it.

    Runs that need the same can come to the same nodes: those of them with the fewest CPUs and the least memory tell.
    """
    resources = most_resources(item.run for item in pending)
    tightest: dict[Need, tuple[Node, Node | None]] = {}
    for item in pending:
        need = need_of(item.run)
        if need not in tightest:
            tightest[need] = _tightest(item.run, need, nodes, resources)
        fewest_cpus, least_memory = tightest[need]
        check_cpus(item.run, fewest_cpus)
        if least_memory is not None:
            _check_memory(item.run, least_memory)


def _tightest(
    run: PlannedRun, need: Need, nodes: Sequence[Node], resources: dict[str, float]
) -> tuple[Node, Node | None]:
    """Of the nodes that could serve `need`: the one with the fewest CPUs, and the one with the least GPU memory."""
    where = [(node, expected_places(node, resources)) for node in nodes]
    suited = [node for node, places in where if need.pick(places)]
    if not suited:
        places = [place for _, places in where for place in places]
        raise CannotRunError(
            f"{run.experiment_id} needs {need_text(need)}; no node has that{_gpus_there(need, places)}. "
            "Change gpus, gpu_model or resources in the config, or join a node that has it"
        )
    known = [node for node in suited if node.gpus and node.facts["memory_total_mib"] is not None]
    return min(suited, key=slot_cpus), min(known, key=lambda node: node.facts["memory_total_mib"], default=None)


def _gpus_there(need: Need, places: Sequence[Place]) -> str:
    """The kinds of GPU that there are, where `need` asks for any."""
    if need.gpus == 1 and need.gpu_model is None:
        return ""
    kinds = sorted({place.gpu_model for place in places if place.gpu_model})
    return f" (there is: {', '.join(kinds) or 'no GPU'})"


def _check_memory(run: PlannedRun, node: Node) -> None:
    total_mib = node.facts["memory_total_mib"]
    if run.memory_mib > total_mib:
        raise CannotRunError(
            f"{run.experiment_id} is estimated to need {run.memory_mib:.0f} MiB of GPU memory, a GPU of "
            f"{node.hostname} has {total_mib:.0f} MiB: leave it out, or, where it was seen to need less, name that "
            "session under `history`"
        )
