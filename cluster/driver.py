"""Drives one campaign: plan in, nodes and slots prepared, the loop set going, the session closed. Nodes measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.energy import Home
from cluster.address import chosen_address
from cluster.attempts import RayAttempts
from cluster.execution import Execution, entries_of
from cluster.fitness import NodeReport
from cluster.gauges import Gauges
from cluster.home import signed_home
from cluster.job import check_kept
from cluster.members import Members
from cluster.nodes import Node, Roster, needs_of
from cluster.placement import Slots
from cluster.samples import SampleCollector
from cluster.schedule import Schedule
from cluster.session import RaySession, open_ray
from cluster.spooled import fetch_kept
from cluster.suitability import check_places, most_resources
from profiler.config import Campaign
from profiler.copies import copying, new_session, reopened
from profiler.driver_lock import driver_lock, is_driven
from profiler.errors import CampaignInterruptedError, CannotRunError
from profiler.governor import check_governor, held_governor
from profiler.journal import Journal, PendingRun
from profiler.planner import Plan, make_plan
from profiler.preflight import check_campaign
from profiler.process.find import find_keepers
from profiler.record import INTERRUPTED
from profiler.shell import quoted
from profiler.solo import SoloRuns
from profiler.store.layout import SessionFolder, create_session
from profiler.store.read import Session, open_session, rows_in_pieces
from profiler.store.remote import is_uri, open_store
from profiler.store.schema import RUNS
from profiler.workdirs import prune_work
from profiler.workloads import Catalog, ModelSpec, load_catalog

Observer = Callable[[dict[str, Any]], None]

STOP_TIMEOUT_S = 15.0


def run_campaign(
    campaign: Campaign,
    *,
    results: str | Path = "results",
    address: str | None = None,
    observer: Observer | None = None,
    governor_optional: bool = False,
    allow_uncontained: bool = False,
    require: Sequence[str] = (),
) -> Session:
    """Execute every run of `campaign` and return its session. Blocks.

    `results` is a folder, or a URI that the session's files are copied to as runs end: the session itself is a folder
    of this machine then (`profiler.copies`).

    Raises CannotRunError before anything is started when this machine or cluster cannot do it, and
    CampaignInterruptedError after Ctrl-C or SIGTERM, with every process ended and the session resumable; NotCopiedError
    at the end when files could not be put at the URI.
    """
    chosen_address(address)
    remote = is_uri(str(results))
    if not remote:
        check_kept(Path(results))
    catalog = load_catalog()
    plan = make_plan(campaign, catalog)
    check_campaign(plan, catalog)
    if campaign.governor is not None and not governor_optional:
        check_governor(campaign.governor)
    store = open_store(str(results)) if remote else None
    folder = create_session(Path(results)) if store is None else new_session(store)
    journal = Journal.create(folder, plan, catalog)
    with driver_lock(folder), copying(folder, store, observer or _silent) as observe:
        options = _Options(address, observe, governor_optional, allow_uncontained, require)
        try:
            for note in plan.notes:
                observe({"event": "warning", "message": note})
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
    require: Sequence[str] = (),
) -> Session:
    """Finish an interrupted session: runs with a final record stay as they are, the others are executed.

    Raises SessionError when the folder is no session, is in use, or its config or manifests have changed
    (`allow_changed` executes the stored plan all the same), and as `run_campaign` otherwise.
    """
    chosen_address(address)
    folder = open_session(Path(session)).folder
    catalog = load_catalog()
    with driver_lock(folder):
        journal, plan = Journal.reopen(folder, catalog, retry_failed=retry_failed, allow_changed=allow_changed)
        check_campaign(plan, catalog)
        with copying(folder, reopened(folder), observer or _silent) as observe:
            options = _Options(address, observe, governor_optional, allow_uncontained, require)
            return _drive(folder, plan, catalog, journal, options)


@dataclass(frozen=True)
class _Options:
    address: str | None
    observer: Observer
    governor_optional: bool
    allow_uncontained: bool
    require: Sequence[str]


def _silent(event: dict[str, Any]) -> None:
    """Observer for callers who want none."""


def _drive(folder: SessionFolder, plan: Plan, catalog: Catalog, journal: Journal, options: _Options) -> Session:
    observe = options.observer
    pending = journal.pending()
    if not pending:
        journal.settle()
        return _conclude(folder, journal, observe)
    prune_work([folder.root.parent], is_driven)
    observe({"event": "session", "session_id": folder.session_id, "path": str(folder.root), "runs": len(pending)})
    with ExitStack() as stack:
        stack.enter_context(held_governor(plan.campaign.governor, optional=options.governor_optional, warn=observe))
        ray_session = stack.enter_context(open_ray(options.address, observe))
        models = _models(plan, catalog)
        home = stack.enter_context(signed_home(folder, models))
        roster, reports = _roster(ray_session, plan.campaign, models, home, options)
        stack.callback(roster.stop)
        nodes = list(roster.serving.values())
        for row in fetch_kept(nodes, home, journal):
            ended = "interrupted" if INTERRUPTED in row["reasons"] else "finished"
            told = f"{row['experiment_id']} attempt {row['attempt']} was {ended} and kept by its node: recorded now"
            observe({"event": "warning", "message": told})
            observe({"event": "attempt", "row": row})
        pending = journal.settle()
        check_places(pending, nodes)
        slots = Slots(plan.campaign.isolation, most_resources(plan), ray_session.health)
        stack.callback(slots.close)
        collector = SampleCollector(folder, nodes)
        stack.callback(lambda: collector.close(ask=ray_session.health.lost is None))
        stack.callback(journal.flush)
        solo, measured = SoloRuns(plan), set[str]()
        for row in rows_in_pieces(folder.dataset("runs"), RUNS):
            solo.take(row)
            measured.update(row["gpu_uuids"] or ())
        _warn_of_other_gpus(measured, nodes, observe)
        attempts = RayAttempts(folder, plan, catalog, solo, options.allow_uncontained, ray_session, home)
        members = Members(roster, slots, collector, journal, observe, lambda node: fetch_kept([node], home, journal))
        members.open(reports)
        schedule: Schedule[PendingRun] = Schedule(plan.campaign.isolation)
        schedule.fill(entries_of(plan, pending))
        watch = _watched(observe, Gauges(folder.session_id))
        watch({"event": "planned", "runs": len(pending)})
        try:
            Execution(schedule, journal, attempts, slots, members, collector, solo, watch).run()
        except KeyboardInterrupt:
            _stop(folder, attempts, list(roster.serving.values()), ray_alive=ray_session.health.lost is None)
            for row in journal.take_all_kept():
                observe({"event": "attempt", "row": row})
            raise CampaignInterruptedError(
                f"interrupted: every process is ended; go on with: profiler resume {quoted(folder.root)}"
            ) from None
    return _conclude(folder, journal, observe)


def _warn_of_other_gpus(measured: set[str], nodes: Sequence[Node], observe: Observer) -> None:
    """Say so where a resumed session goes on without the GPUs of its earlier runs: boards of one model differ."""
    gone = measured - {gpu["uuid"] for node in nodes for gpu in node.facts["gpus"]}
    if gone:
        told = f"runs of this session were on {', '.join(sorted(gone))}, which no node has now"
        advice = "another GPU takes some percent more or less for the same work: compare runs with equal gpu_uuids"
        observe({"event": "warning", "message": f"{told}; {advice}"})


def _watched(observe: Observer, gauges: Gauges) -> Observer:
    def both(event: dict[str, Any]) -> None:
        observe(event)
        gauges(event)

    return both


def _roster(
    ray_session: RaySession, campaign: Campaign, models: Sequence[ModelSpec], home: Home, options: _Options
) -> tuple[Roster, list[NodeReport]]:
    """Which nodes serve. Raises CannotRunError when none does, or one that must."""
    needs = needs_of(
        energy=campaign.require_energy,
        mps=any(item.sharing == "mps" for item in campaign.experiments),
        folders=tuple(home.folders),
        allow_uncontained=options.allow_uncontained,
    )
    uses_gpu = any(model.uses_gpu for model in models)
    roster = Roster(ray_session, campaign.sampling_rate_hz, needs, home, uses_gpu=uses_gpu)
    reports = roster.open(options.require)
    roster.refuse_none()
    return roster, reports


def _stop(folder: SessionFolder, attempts: RayAttempts, nodes: Sequence[Node], *, ray_alive: bool) -> None:
    """End every attempt and return when no process of this session is left on this node."""
    attempts.cancel(force=not ray_alive)
    if not ray_alive:
        for node in nodes:
            node.actor.leave.remote()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    if ray_alive:
        attempts.wait_for_their_ends(STOP_TIMEOUT_S)
    while time.monotonic() < deadline and _keepers(folder):
        time.sleep(0.05)


def _keepers(folder: SessionFolder) -> list[Any]:
    return [keeper for keeper in find_keepers() if keeper.labels.get("key") == folder.key]


def _conclude(folder: SessionFolder, journal: Journal, observe: Observer) -> Session:
    journal.finish()
    session = open_session(folder.root)
    observe({"event": "end", **session.counts()})
    return session


def _models(plan: Plan, catalog: Catalog) -> list[ModelSpec]:
    partners = [run.background for run in plan if run.background is not None]
    return [catalog.of(item) for item in [*plan, *partners]]
