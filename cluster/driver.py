"""Drives one campaign: plan in, attempts submitted into slots, records out. Nodes measure and judge."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from actors.attempt import attempt_task
from cluster.nodes import Node, start_nodes
from cluster.placement import Slot, reserve, threads
from cluster.samples import SampleCollector
from cluster.session import open_ray
from profiler import host
from profiler.attempt import AttemptSpec, GateLimits
from profiler.config import Campaign, Cooling
from profiler.errors import CampaignInterruptedError, CannotRunError
from profiler.governor import check_governor, held_governor
from profiler.journal import Journal, PendingRun, is_driven
from profiler.planner import Plan, PlannedRun, make_plan
from profiler.preflight import check_campaign
from profiler.process.find import find_keepers
from profiler.solo import SoloRuns
from profiler.store.layout import SessionFolder, create_session
from profiler.store.read import Session, open_session
from profiler.trainer import driver_environment
from profiler.verdict import Finding
from profiler.workdirs import prune_work
from profiler.workloads import Catalog, load_catalog

Observer = Callable[[dict[str, Any]], None]

WAIT_S = 0.25
STOP_TIMEOUT_S = 15.0


def run_campaign(
    campaign: Campaign,
    *,
    results: str | Path = "results",
    address: str | None = None,
    observer: Observer | None = None,
    governor_optional: bool = False,
    allow_uncontained: bool = False,
) -> Session:
    """Execute every run of `campaign` and return its session. Blocks.

    Raises CannotRunError before anything is started when this machine or cluster cannot do it, and
    CampaignInterruptedError after Ctrl-C or SIGTERM, with every process ended and the session resumable.
    """
    catalog = load_catalog()
    plan = make_plan(campaign, catalog)
    check_campaign(plan, catalog)
    if campaign.governor is not None and not governor_optional:
        check_governor(campaign.governor)
    folder = create_session(Path(results))
    journal = Journal.create(folder, plan, catalog)
    options = _Options(address, observer or _silent, governor_optional, allow_uncontained)
    with Journal.lock(folder):
        try:
            return _drive(folder, plan, catalog, journal, options)
        except CannotRunError:
            journal.discard_unless_started()
            raise


def resume_campaign(
    session: str | Path,
    *,
    address: str | None = None,
    observer: Observer | None = None,
    retry_failed: bool = False,
    allow_changed: bool = False,
    governor_optional: bool = False,
    allow_uncontained: bool = False,
) -> Session:
    """Finish an interrupted session: runs with a final record stay as they are, the others are executed.

    Raises SessionError when the folder is no session, is in use, or its config or manifests have changed
    (`allow_changed` executes the stored plan all the same), and as `run_campaign` otherwise.
    """
    folder = open_session(Path(session)).folder
    catalog = load_catalog()
    with Journal.lock(folder):
        journal, plan = Journal.reopen(folder, catalog, retry_failed=retry_failed, allow_changed=allow_changed)
        check_campaign(plan, catalog)
        options = _Options(address, observer or _silent, governor_optional, allow_uncontained)
        return _drive(folder, plan, catalog, journal, options)


@dataclass(frozen=True)
class _Options:
    address: str | None
    observer: Observer
    governor_optional: bool
    allow_uncontained: bool


def _silent(event: dict[str, Any]) -> None:
    """Observer for callers who want none."""


def _drive(folder: SessionFolder, plan: Plan, catalog: Catalog, journal: Journal, options: _Options) -> Session:
    observe = options.observer
    pending = journal.pending()
    if not pending:
        return _conclude(folder, journal, observe)
    prune_work(folder.root.parent, is_driven)
    observe({"event": "session", "session_id": folder.session_id, "path": str(folder.root), "runs": len(pending)})
    with ExitStack() as stack:
        stack.enter_context(held_governor(plan.campaign.governor, optional=options.governor_optional, warn=observe))
        ray_session = stack.enter_context(open_ray(options.address))
        folders = [str(folder.root), *sorted({str(model.folder) for model in _models(plan, catalog)})]
        nodes, left_out = start_nodes(ray_session, plan.campaign, folders, allow_uncontained=options.allow_uncontained)
        for line in left_out:
            observe({"event": "warning", "message": f"left out: {line}"})
        for node in nodes:
            for message in node.warnings():
                observe({"event": "warning", "message": message})
        slots = stack.enter_context(reserve(nodes, ray_session.health))
        for item in pending:
            slots[0].grants(item.run)  # refuses what does not fit before anything starts
            _check_memory(item.run, nodes)
        collector = SampleCollector(folder, nodes)
        stack.callback(lambda: collector.close(ask=ray_session.health.lost is None))
        execution = _Execution(folder, plan, catalog, journal, slots, collector, options)
        try:
            execution.run(pending)
        except KeyboardInterrupt:
            execution.stop(ray_alive=ray_session.health.lost is None)
            raise CampaignInterruptedError(
                f"interrupted: every process is ended; go on with: profiler resume {folder.root}"
            ) from None
    return _conclude(folder, journal, observe)


def _conclude(folder: SessionFolder, journal: Journal, observe: Observer) -> Session:
    journal.finish()
    session = open_session(folder.root)
    observe({"event": "end", **session.counts()})
    return session


def _models(plan: Plan, catalog: Catalog) -> list[Any]:
    partners = [run.background for run in plan if run.background is not None]
    return [catalog.of(item) for item in [*plan, *partners]]


@dataclass
class _Active:
    """One attempt on its way."""

    run: PlannedRun
    run_id: str
    attempt: int
    slot: Slot
    stream: Any
    row: dict[str, Any] | None = None


class _Execution:
    """Submits attempts while slots are free and takes in what they tell; under `isolation: node` one run a node."""

    def __init__(
        self,
        folder: SessionFolder,
        plan: Plan,
        catalog: Catalog,
        journal: Journal,
        slots: Sequence[Slot],
        collector: SampleCollector,
        options: _Options,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._catalog = catalog
        self._journal = journal
        self._free = deque(slots)
        self._collector = collector
        self._options = options
        self._active: dict[Any, _Active] = {}
        self._solo = SoloRuns.of_rows(open_session(folder.root).rows())

    def run(self, pending: Sequence[PendingRun]) -> None:
        queue = deque(pending)
        power_told_s = time.monotonic()
        while queue or self._active:
            while queue and (slot := self._take_slot()) is not None:
                self._submit(queue.popleft(), slot)
            for stream in self._ready():
                again = self._advance(self._active[stream])
                if again is not None:
                    queue.appendleft(again)
            self._collector.poll()
            if time.monotonic() - power_told_s >= 1:
                power_told_s = time.monotonic()
                self._options.observer({"event": "power", "watts": self._collector.power_w()})

    def stop(self, *, ray_alive: bool) -> None:
        """End every attempt and return when no process of this session is left on this node."""
        for stream in self._active:
            ray.cancel(stream, force=not ray_alive)
        if not ray_alive:
            for slot in [*self._free, *(active.slot for active in self._active.values())]:
                slot.node.actor.leave.remote()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while ray_alive and self._active and time.monotonic() < deadline:
            for stream in self._ready():
                self._drop(self._active[stream])
        while time.monotonic() < deadline and self._keepers():
            time.sleep(0.05)

    def _keepers(self) -> list[Any]:
        session = self._folder.session_id
        return [keeper for keeper in find_keepers() if keeper.labels.get("session") == session]

    def _take_slot(self) -> Slot | None:
        alone = self._plan.campaign.isolation == "node"
        busy = {active.slot.node.node_id for active in self._active.values()} if alone else set()
        for slot in self._free:
            if slot.node.node_id not in busy:
                self._free.remove(slot)
                return slot
        return None

    def _submit(self, pending: PendingRun, slot: Slot) -> None:
        run = pending.run
        run_id = self._folder.run_id(run.index)
        foreground, background = slot.grants(run)
        spec = AttemptSpec(
            session_root=str(self._folder.root),
            run_id=run_id,
            attempt=pending.attempt,
            seed=self._plan.seed,
            planned=run,
            foreground=self._catalog.of(run),
            background=self._catalog.of(run.background) if run.background else None,
            threads=threads(foreground),
            background_threads=threads(background) if background else 0,
            environment=driver_environment(),
            watch_pids=self._watch_pids(slot.node),
            gate=_gate_limits(self._plan.campaign, slot.node),
            sampling_rate_hz=self._plan.campaign.sampling_rate_hz,
            allow_uncontained=self._options.allow_uncontained,
            thresholds=dict(self._plan.campaign.thresholds),
            cooling=_cooling(run, slot),
            isolation=self._plan.campaign.isolation,
            solo_power=self._solo.of(run),
        )
        self._journal.started(run, run_id, pending.attempt, slot.node.node_id, slot.node.boot_id)
        stream = attempt_task.options(**foreground.options(slot.group), num_returns="streaming").remote(
            spec, slot.node.node_id, slot.node.actor, slot.group, background
        )
        self._active[stream] = _Active(run, run_id, pending.attempt, slot, stream)
        self._tell_step(self._active[stream], "waiting", None)

    def _watch_pids(self, node: Node) -> tuple[int, ...]:
        """The driver itself, where the run is on the driver's machine."""
        return (os.getpid(),) if node.boot_id == host.boot_id() else ()

    def _ready(self) -> list[Any]:
        if not self._active:
            return []
        ready, _ = ray.wait(list(self._active), num_returns=1, timeout=WAIT_S)
        return list(ready)

    def _advance(self, active: _Active) -> PendingRun | None:
        """Take the next message of an attempt; returns what must be executed again, if anything."""
        try:
            message = ray.get(next(active.stream))
        except StopIteration:
            return self._ended(active)
        except ray.exceptions.RayError as error:
            return self._lost(active, error)
        if message["kind"] == "step":
            self._tell_step(active, message["step"], message["seconds"])
        elif message["kind"] == "result":
            self._finished(active, message)
        elif message["kind"] == "cooled":
            self._journal.cooled(active.row, message)
            self._options.observer({"event": "cooled", "run_id": active.run_id})
        elif message["kind"] == "waiting":
            self._warn(f"{active.run.experiment_id} waits: {'; '.join(message['problems'])}")
        elif message["kind"] == "gate_closed":
            return self._quarantine(active, message["problems"])
        return None

    def _quarantine(self, active: _Active, problems: Sequence[str]) -> PendingRun:
        """Do without this slot for the rest of the campaign; its run goes elsewhere, with the same attempt number."""
        del self._active[active.stream]
        reasons = "; ".join(problems)
        self._journal.refused(active.run_id, active.attempt, reasons)
        if not self._free and not self._active:
            raise CannotRunError(
                f"no GPU or node is left to run on: {reasons}\n"
                f"free it, then go on with: profiler resume {self._folder.root}"
            )
        self._warn(f"quarantined {active.slot.node.hostname} for this campaign: {reasons}")
        return PendingRun(active.run, active.attempt)

    def _warn(self, message: str) -> None:
        self._options.observer({"event": "warning", "message": message})

    def _finished(self, active: _Active, message: dict[str, Any]) -> None:
        active.row = self._journal.finished(
            active.run, message["row"], message["processes"], retry_may_help=message["retry_may_help"]
        )
        self._solo.take(active.row)
        self._options.observer({"event": "attempt", "row": active.row})

    def _ended(self, active: _Active) -> PendingRun | None:
        self._drop(active)
        assert active.row is not None
        return None if active.row["is_final"] else PendingRun(active.run, active.attempt + 1)

    def _lost(self, active: _Active, error: Exception) -> PendingRun | None:
        """The attempt's process ended without a record, or refused to start."""
        if active.row is not None:  # lost while cooling: the record stands
            return self._ended(active)
        self._drop(active)
        cause = getattr(error, "cause", None)
        if isinstance(cause, CannotRunError):
            raise cause
        reason = "oom" if isinstance(error, ray.exceptions.OutOfMemoryError) else "interrupted"
        finding = Finding(reason, str(error).strip().splitlines()[-1])
        row = self._journal.lost(active.run, active.run_id, active.attempt, finding)
        self._options.observer({"event": "attempt", "row": row})
        return None if row["is_final"] else PendingRun(active.run, active.attempt + 1)

    def _drop(self, active: _Active) -> None:
        del self._active[active.stream]
        self._free.append(active.slot)

    def _tell_step(self, active: _Active, step: str, seconds: float | None) -> None:
        self._options.observer(
            {
                "event": "step",
                "run_id": active.run_id,
                "experiment_id": active.run.experiment_id,
                "attempt": active.attempt,
                "step": step,
                "seconds": seconds,
            }
        )


def _check_memory(run: PlannedRun, nodes: Sequence[Node]) -> None:
    """Refuse a run that some GPU of the campaign cannot hold: it could come to be executed there."""
    for node in nodes:
        total_mib = node.facts["memory_total_mib"]
        if node.gpus and total_mib is not None and run.memory_mib > total_mib:
            raise CannotRunError(
                f"{run.experiment_id} is estimated to need {run.memory_mib:.0f} MiB of GPU memory, a GPU of "
                f"{node.hostname} has {total_mib:.0f} MiB: leave it out, or say size: reduced"
            )


def _gate_limits(campaign: Campaign, node: Node) -> GateLimits:
    return GateLimits(
        max_wait_seconds=campaign.gate.max_wait_seconds,
        memory_margin_mib=campaign.gate.memory_margin_mib,
        temperature_c=campaign.gate.temperature_c,
        idle_memory_mib=node.facts["idle_memory_mib"],
        boot_id=node.boot_id,
        counters=tuple(node.facts["counters"]),
        gpu_counters=node.facts["gpu_counters"],
    )


def _cooling(run: PlannedRun, slot: Slot) -> Cooling:
    """As configured; by default until the GPU is idle. Where there is no GPU there is nothing to watch and no wait."""
    if run.cooling.seconds is not None:
        return run.cooling
    if not slot.gpus:
        return Cooling(seconds=0.0)
    return run.cooling if run.cooling.until is not None else Cooling(until="idle")
