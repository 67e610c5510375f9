"""The nodes of a campaign: an EnergyActor on each, which of them serve, and who joins or leaves. It runs nothing."""

from __future__ import annotations

import platform
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.energy import EnergyActor, Home
from cluster.clocks import clock_offset
from cluster.fitness import Needs, NodeReport, judge, required
from cluster.ray_node import RayNode
from cluster.session import RaySession
from cluster.watch import NodeWatch
from profiler.errors import CannotRunError
from profiler.models import ModelSpec
from profiler.reach import Endpoint, answers

START_TIMEOUT_S = 60.0
LOOK_INTERVAL_S = 2.0
KNOCK_S, KNOCK_INTERVAL_S = 0.3, 1.0


@dataclass(frozen=True)
class Node(RayNode):
    """One node that serves. `facts` is what its EnergyActor tells (see EnergyActor.describe)."""

    actor: Any
    facts: Mapping[str, Any]

    @property
    def boot_id(self) -> str:
        return str(self.facts["boot_id"])

    @property
    def session_root(self) -> str:
        """Where the session's files are written there: the session's own folder if the node sees it."""
        return str(self.facts["session_root"])

    def placed(self, model: ModelSpec) -> ModelSpec:
        """`model` with its folder as it lies on this node."""
        return model.model_copy(update={"folder": type(model.folder)(self.facts["folders"][str(model.folder)])})


@dataclass(frozen=True)
class _Asked:
    """A node whose EnergyActor was started and asked."""

    node: RayNode
    actor: Any
    answer: Any
    since_s: float


class Roster:
    """Every node of the cluster as the campaign sees it. `home`: None to look only, as `doctor` does.

    Args:
        rate_hz: of the samplers.
        needs: of the campaign; that of a GPU is found here, since it depends on what the cluster has.
        uses_gpu: its trainings use a GPU where there is one.
    """

    def __init__(
        self, session: RaySession, rate_hz: float, needs: Needs, home: Home | None, *, uses_gpu: bool = False
    ) -> None:
        self._session = session
        self._rate_hz = rate_hz
        self._needs = needs
        self._home = home
        self._uses_gpu = uses_gpu
        self._asked: dict[str, _Asked] = {}
        self._knocked_s: dict[str, float] = {}
        self._watch = NodeWatch()
        self._silent: dict[str, Endpoint] = {}
        self._looked_s = time.monotonic()
        self.serving: dict[str, Node] = {}
        self.reports: dict[str, NodeReport] = {}

    @property
    def is_cluster(self) -> bool:
        return not self._session.embedded

    def open(self, require: Collection[str] = ()) -> list[NodeReport]:
        """Ask every alive node; afterwards `serving` has those that can serve. Raises CannotRunError when none can, or
        one that `require` names cannot."""
        for node in self._session.nodes():
            self._ask(node)
        try:
            references = [asked.answer for asked in self._asked.values()]
            ray.wait(references, num_returns=len(references), timeout=START_TIMEOUT_S)
            reports = [self._take(asked) for asked in list(self._asked.values())]
        except KeyboardInterrupt:
            self.close()
            raise
        required(reports, require)
        return reports

    def refuse_none(self) -> None:
        """Raises CannotRunError when no node serves, with each one's reason."""
        if not self.serving:
            lines = [f"{report.hostname} ({report.address}): {report.why_not()}" for report in self.reports.values()]
            raise CannotRunError("no node can serve:\n  " + "\n  ".join(lines or ["the cluster has no alive node"]))

    def look(self) -> tuple[list[NodeReport], list[Node]]:
        """Reports of nodes that have joined since the last look, and nodes that have left. Does not wait for any; looks
        every two seconds."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_INTERVAL_S:
            return [], []
        self._looked_s = now_s
        if not self._session.answers():
            return [], []
        alive = {node.node_id: node for node in self._session.nodes()}
        gone = self._watch.gone() | (self.serving.keys() - alive.keys())
        self._silent = {node_id: raylet for node_id, raylet in self._silent.items() if node_id in alive}
        left = [self._forget(node_id) for node_id in [*self.serving] if node_id in gone]
        for node_id in [*self._asked.keys() - alive.keys()]:
            del self._asked[node_id]
        for node in alive.values():
            known = node.node_id in self._asked or node.node_id in self.reports
            if not known and self._is_back(node.node_id):
                self._ask(node)
        return [self._take(asked) for asked in self._answered(now_s)], left

    def answers(self, node_id: str) -> bool | None:
        """Whether a node's raylet is still there: False once Ray has given the node up, None while it does not answer
        and Ray has not."""
        node = self.serving.get(node_id)
        if node is None:
            return False
        now_s = time.monotonic()
        if now_s - self._knocked_s.get(node_id, 0.0) < KNOCK_INTERVAL_S:
            return None
        self._knocked_s[node_id] = now_s
        return answers(node.raylet, KNOCK_S) or None

    def stop(self) -> None:
        """Look no more."""
        self._watch.stop()

    def close(self) -> None:
        """End the actors. Ray does that with this driver too, unless its gcs is what is gone."""
        for actor in [
            *(node.actor for node in self.serving.values()),
            *(asked.actor for asked in self._asked.values()),
        ]:
            actor.leave.remote()

    def _ask(self, node: RayNode) -> None:
        actor = start_actor(node, self._rate_hz, self._session)
        self._asked[node.node_id] = _Asked(node, actor, actor.describe.remote(self._home), time.monotonic())

    def _answered(self, now_s: float) -> list[_Asked]:
        if not self._asked:
            return []
        references = {asked.answer: asked for asked in self._asked.values()}
        ready, _ = ray.wait([*references], num_returns=len(references), timeout=0)
        late = [asked for asked in self._asked.values() if now_s - asked.since_s > START_TIMEOUT_S]
        return list({id(asked): asked for asked in [*(references[one] for one in ready), *late]}.values())

    def _take(self, asked: _Asked) -> NodeReport:
        """Judge a node whose answer is there, or that had its time."""
        del self._asked[asked.node.node_id]
        report = _report(asked, self._session.own_node_id)
        others = [*(node.gpus for node in self.serving.values()), *(other.node.gpus for other in self._asked.values())]
        gpu = self._uses_gpu and any(others)
        report = replace(report, remarks=tuple(judge(report, replace(self._needs, gpu=gpu))))
        self.reports[report.node_id] = report
        if report.serves and report.facts is not None:
            node = self.serving[report.node_id] = Node(**vars(asked.node), actor=asked.actor, facts=report.facts)
            if node.node_id != self._session.own_node_id:  # without its own one this driver ends: see cluster.health
                self._watch.add(node.node_id, node.raylet)
        else:
            ray.kill(asked.actor)
        return report

    def _is_back(self, node_id: str) -> bool:
        """False for a node that Ray still believes to be there and that does not answer."""
        if node_id in self._silent and answers(self._silent[node_id], KNOCK_S):
            del self._silent[node_id]
        return node_id not in self._silent

    def _forget(self, node_id: str) -> Node:
        self.reports.pop(node_id, None)
        self._watch.remove(node_id)
        node = self.serving.pop(node_id)
        self._silent[node_id] = node.raylet
        ray.kill(node.actor)  # if it is still there, another one will be started
        return node


def needs_of(
    *, energy: Sequence[str] = (), mps: bool = False, folders: Sequence[str] = (), allow_uncontained: bool = False
) -> Needs:
    """What is asked of a node, with this driver's versions."""
    return Needs(
        python=platform.python_version(),
        ray=metadata.version("ray"),
        energy=energy,
        mps=mps,
        folders=folders,
        allow_uncontained=allow_uncontained,
    )


def start_actor(node: RayNode, rate_hz: float, session: RaySession) -> Any:
    """The EnergyActor of `node`, pinned to it and started again by Ray if it is killed."""
    strategy = NodeAffinitySchedulingStrategy(node_id=node.node_id, soft=False)
    remote = ray.remote(EnergyActor).options(
        num_cpus=0, max_restarts=-1, max_concurrency=4, scheduling_strategy=strategy
    )
    return remote.remote(rate_hz, node.node_id, session.tether())


def _report(asked: _Asked, own_node_id: str) -> NodeReport:
    report = NodeReport(**vars(asked.node), driver=asked.node.node_id == own_node_id)
    try:
        facts = ray.get(asked.answer, timeout=0)
        clock = clock_offset(lambda: int(ray.get(asked.actor.utc_ns.remote(), timeout=START_TIMEOUT_S)))
    except ray.exceptions.RayError as error:
        return replace(report, error=str(error).strip().splitlines()[-1])
    return replace(report, facts=facts, clock=clock)
