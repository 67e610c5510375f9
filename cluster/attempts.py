"""Carries attempts out with Ray: submits their tasks, hands on what they tell. It decides and records nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from actors.attempt import attempt_task
from actors.energy import Home
from cluster.nodes import Node
from cluster.placement import Slot, cpus_of, threads_of
from cluster.session import RaySession
from cluster.spooled import acknowledge
from profiler.attempt import AttemptSpec, GateLimits
from profiler.config import Campaign, Cooling
from profiler.errors import CannotRunError
from profiler.journal import PendingRun
from profiler.planner import Plan, PlannedRun
from profiler.solo import SoloRuns
from profiler.store.layout import SessionFolder
from profiler.trainer import driver_environment
from profiler.workloads import Catalog

Key = Any
BOUNDED = {"_generator_backpressure_num_objects": 16}  # messages, pieces of files among them, that wait for the driver
Message = dict[str, Any]


@dataclass
class RayAttempts:
    """The attempts that are on their way in Ray. `start` gives the key by which `progress` speaks of each."""

    folder: SessionFolder
    plan: Plan
    catalog: Catalog
    solo: SoloRuns
    allow_uncontained: bool
    session: RaySession
    home: Home
    _streams: list[Any] = field(default_factory=list)

    def start(self, pending: PendingRun, slots: Sequence[Slot]) -> Key:
        """Submit an attempt; its task is in the first slot's bundle."""
        run, slot = pending.run, slots[0]
        grant, background = slot.grants(run)
        spec = self._spec(pending, slots)
        stream = attempt_task.options(**grant.options(slot.group), num_returns="streaming", **BOUNDED).remote(
            spec, slot.node.node_id, slot.node.actor, slot.group, background
        )
        self._streams.append(stream)
        return stream

    def progress(self, timeout_s: float) -> list[tuple[Key, Message]]:
        """What attempts tell, at most one message of each; waits up to `timeout_s` for the first. The last one of each
        is ``{"kind": "ended"}``, or ``{"kind": "lost", "reason", "detail"}`` when its task ended otherwise.

        Raises the attempt's CannotRunError."""
        if not self._streams:
            time.sleep(timeout_s)
            return []
        ray.wait(self._streams, num_returns=1, timeout=timeout_s)
        ready, _ = ray.wait(self._streams, num_returns=len(self._streams), timeout=0)
        return [(stream, self._next(stream)) for stream in ready if stream in self._streams]

    def recorded(self, row: Mapping[str, Any], slots: Sequence[Slot]) -> None:
        """The row is on the driver's disk."""
        acknowledge(slots[0].node, self.home, row)

    def give_up(self, key: Key) -> None:
        """Nothing more will come of this attempt: its node is gone."""
        if key in self._streams:
            self._streams.remove(key)
            ray.cancel(key, force=True)

    def _next(self, stream: Any) -> Message:
        try:
            message: Message = ray.get(next(stream))
        except (StopIteration, ray.exceptions.RayError) as error:
            self._streams.remove(stream)
            return {"kind": "ended"} if isinstance(error, StopIteration) else _lost(error)
        if message["kind"] == "gate_closed":
            self._streams.remove(stream)
        return message

    def cancel(self, *, force: bool) -> None:
        """Tell every attempt to end. It ends its background itself, after its trainer. `force`: kill its task, which
        neither survives."""
        for stream in self._streams:
            ray.cancel(stream, force=force, recursive=force)

    def wait_for_their_ends(self, timeout_s: float) -> None:
        """Until every attempt has ended, after `cancel`; what they tell is not recorded any more."""
        deadline = time.monotonic() + timeout_s
        while self._streams and time.monotonic() < deadline:
            try:
                self.progress(0.25)
            except CannotRunError:
                continue  # one that refuses to start has ended as well

    def _spec(self, pending: PendingRun, slots: Sequence[Slot]) -> AttemptSpec:
        run, slot, campaign = pending.run, slots[0], self.plan.campaign
        foreground, background = cpus_of(run, slot.cpus)
        return AttemptSpec(
            session_root=slot.node.session_root,
            elsewhere=slot.node.session_root != self.home.root,
            session_key=self.folder.key,
            tether=self.session.tether(),
            run_id=self.folder.run_id(run.index),
            attempt=pending.attempt,
            seed=self.plan.seed,
            planned=run,
            foreground=slot.node.placed(self.catalog.of(run)),
            background=slot.node.placed(self.catalog.of(run.background)) if run.background else None,
            threads=threads_of(foreground),
            background_threads=threads_of(background) if background else 0,
            environment=driver_environment(),
            watch_pids=(os.getpid(),) if slot.node.node_id == self.session.own_node_id else (),
            gate=_gate_limits(campaign, slot.node),
            sampling_rate_hz=campaign.sampling_rate_hz,
            allow_uncontained=self.allow_uncontained,
            thresholds=dict(campaign.thresholds),
            cooling=_cooling(run, slot),
            isolation=campaign.isolation,
            gpu_uuids=tuple(one.gpu[0] for one in slots if one.gpu) if len(slots) > 1 else (),
            solo_power=self.solo.of(run, slot.gpu[1] if slot.gpu else None),
        )


def _lost(error: Exception) -> Message:
    """The end of a task that left no record, or refused to start."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, CannotRunError):
        raise cause
    reason = "oom" if isinstance(error, ray.exceptions.OutOfMemoryError) else "interrupted"
    return {"kind": "lost", "reason": reason, "detail": str(error).strip().splitlines()[-1]}


def _gate_limits(campaign: Campaign, node: Node) -> GateLimits:
    facts: Mapping[str, Any] = node.facts
    return GateLimits(
        max_wait_seconds=campaign.gate.max_wait_seconds,
        memory_margin_mib=campaign.gate.memory_margin_mib,
        temperature_c=campaign.gate.temperature_c,
        idle_memory_mib=facts["idle_memory_mib"],
        boot_id=node.boot_id,
        counters=tuple(facts["counters"]),
        gpu_counters=facts["gpu_counters"],
    )


def _cooling(run: PlannedRun, slot: Slot) -> Cooling:
    """As configured; by default until the GPU is idle. Where there is no GPU there is nothing to watch and no wait."""
    if run.cooling.seconds is not None:
        return run.cooling
    if not slot.gpus:
        return Cooling(seconds=0.0)
    return run.cooling if run.cooling.until is not None else Cooling(until="idle")
