"""The campaign's loop: starts what the schedule gives, takes in what attempts tell, writes it down.

It measures nothing, and meets Ray only in its arguments.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.placement import Slot
from cluster.schedule import Assignment, Entry, Need, Schedule
from profiler.errors import CannotRunError
from profiler.journal import Journal, PendingRun
from profiler.order import block_numbers
from profiler.planner import Plan, PlannedRun
from profiler.shell import quoted
from profiler.solo import SoloRuns
from profiler.verdict import Finding

Observer = Callable[[dict[str, Any]], None]
Key = Any

WAIT_S = 0.25
LAST_WORDS_S = 5.0
NODES_LOST = 3  # so many of a run's attempts may go with their nodes before it counts against the run
TELL_WAITING_S = 5.0


class Attempts(Protocol):
    """What carries attempts out; see `cluster.attempts.RayAttempts`."""

    def start(self, pending: PendingRun, slots: Sequence[Slot]) -> Key: ...
    def progress(self, timeout_s: float) -> Sequence[tuple[Key, Mapping[str, Any]]]: ...
    def recorded(self, row: Mapping[str, Any], slots: Sequence[Slot]) -> None: ...
    def give_up(self, key: Key) -> None: ...


class Rooms(Protocol):
    """Where slots come from and go to; see `cluster.placement.Slots`."""

    def poll(self, timeout_s: float = 0.0) -> Sequence[Slot]: ...
    def waiting_for(self) -> list[str]: ...
    def held_by_others(self) -> list[str]: ...
    def give_back(self, idle: Collection[str]) -> Sequence[Slot]: ...
    def ask_again(self) -> None: ...


class Members(Protocol):
    """Who has left the cluster (ids of nodes) since the last call, and whether one is there (None: not known yet); see
    `cluster.members.Members`."""

    def poll(self) -> Sequence[str]: ...
    def answers(self, node_id: str) -> bool | None: ...


class Collector(Protocol):
    """What brings the trace to disk; see `cluster.samples.SampleCollector`."""

    def poll(self) -> None: ...
    def power_w(self) -> dict[tuple[str, str], float]: ...
    def lateness_s(self) -> dict[str, float]: ...


@dataclass
class _Active:
    """One attempt on its way."""

    pending: PendingRun
    run_id: str
    assignment: Assignment[PendingRun]
    slots: tuple[Slot, ...]
    row: dict[str, Any] | None = None

    @property
    def run(self) -> PlannedRun:
        return self.pending.run

    @property
    def attempt(self) -> int:
        return self.pending.attempt

    @property
    def where(self) -> str:
        return self.slots[0].node.hostname


def entries_of(plan: Plan, pending: Iterable[PendingRun]) -> Iterable[Entry[PendingRun]]:
    """The pending runs of a plan as the schedule takes them, ranked by their place in the plan."""
    blocks = dict(zip((run.index for run in plan), block_numbers(plan), strict=True)) if _blocked(plan) else {}
    for item in pending:
        yield Entry(item.run.index, need_of(item.run), item, blocks.get(item.run.index))


def _blocked(plan: Plan) -> bool:
    return plan.campaign.order == "blocked"


def need_of(run: PlannedRun) -> Need:
    return Need(run.gpus, run.gpu_model, tuple(sorted(run.resources.items())))


class Execution:
    """Drives the pending runs of a campaign to their ends."""

    def __init__(
        self,
        schedule: Schedule[PendingRun],
        journal: Journal,
        attempts: Attempts,
        rooms: Rooms,
        members: Members,
        collector: Collector,
        solo: SoloRuns,
        observer: Observer,
    ) -> None:
        self._schedule = schedule
        self._journal = journal
        self._attempts = attempts
        self._rooms = rooms
        self._members = members
        self._collector = collector
        self._solo = solo
        self._observe = observer
        self._slots: dict[str, Slot] = {}
        self._active: dict[Key, _Active] = {}
        self._orphans: dict[Key, float] = {}
        self._doubtful: dict[Key, Finding] = {}
        self._lost_with_nodes: Counter[str] = Counter()
        self._quarantined: dict[str, str] = {}
        self._asked_since_s = time.monotonic()
        self._told_of: list[str] = []

    def run(self) -> None:
        """Until every run has its final record. Raises CannotRunError when nothing is left to run on."""
        power_told_s = time.monotonic()
        while self._schedule.waiting or self._schedule.active:
            self._look_at_nodes()
            self._admit()
            while (assignment := self._schedule.next()) is not None:
                self._start(assignment)
            self._leave_what_is_not_needed()
            self._check_for_a_dead_end()
            for key, message in self._attempts.progress(WAIT_S):
                if key in self._active:  # else its node left while this was on the way
                    self._take(self._active[key], key, message)
            self._collector.poll()
            if time.monotonic() - power_told_s >= 1:
                power_told_s = time.monotonic()
                self._observe(power_event(self._collector.power_w(), self._collector.lateness_s()))

    def active_keys(self) -> list[Key]:
        return list(self._active)

    def node_joined(self, slots: Sequence[Slot]) -> None:
        """Slots that can be used from now on."""
        self._slots |= {slot.name: slot for slot in slots}
        self._schedule.add(slot.place for slot in slots)

    def _look_at_nodes(self) -> None:
        """Start nothing more on nodes that have left. Their attempts end by their own messages, or at last by ours: one
        that had not begun there when the node went would wait for ever."""
        for node_id in self._members.poll():
            self._schedule.remove_node(node_id)
            end_s = time.monotonic() + LAST_WORDS_S
            self._orphans |= {key: end_s for key, one in self._active.items() if one.assignment.node == node_id}
        for key in [key for key, end_s in self._orphans.items() if time.monotonic() >= end_s]:
            del self._orphans[key]
            if key in self._active and key not in self._doubtful:
                self._attempts.give_up(key)
                self._doubtful[key] = Finding("interrupted", "")
        self._settle_doubts()

    def _settle_doubts(self) -> None:
        """An attempt that ended without a word keeps its places until it is known whether its node is still there:
        else its run would be started on the dead node again, until Ray has noticed."""
        for key, finding in list(self._doubtful.items()):
            active = self._active[key]
            there = self._members.answers(active.assignment.node)
            if there is not None:
                del self._doubtful[key]
                if not there:
                    self._schedule.remove_node(active.assignment.node)
                gone = Finding("interrupted", f"its node {active.where} left the cluster")
                self._lost(active, key, finding if there else gone, node_gone=not there)

    def _admit(self) -> None:
        """Take in slots that have become ours; tell for whom the campaign waits."""
        self.node_joined(self._rooms.poll(0.0 if self._active else WAIT_S))
        now_s = time.monotonic()
        if not self._rooms.waiting_for():
            self._asked_since_s = now_s
        if now_s - self._asked_since_s < TELL_WAITING_S:
            return
        self._asked_since_s = now_s
        hosts = self._rooms.held_by_others()
        if hosts and hosts != self._told_of:
            self._told_of = hosts
            meanwhile = "; the campaign goes on with what is free" if self._active else ""
            self._warn(f"waiting for CPUs or GPUs of {', '.join(hosts)}: other Ray jobs hold them{meanwhile}")

    def _leave_what_is_not_needed(self) -> None:
        """When every run that is left has its place, what is free is for others."""
        if not self._schedule.waiting:
            gone = self._rooms.give_back({place.name for place in self._schedule.idle()})
            self._schedule.remove(slot.place for slot in gone)

    def _check_for_a_dead_end(self) -> None:
        if self._active or not self._schedule.waiting or self._rooms.waiting_for():
            return
        needs = sorted(set(map(need_text, self._schedule.unplaceable())))
        whose = f" for runs that need {', or '.join(needs)}" if all(needs) else ""
        reasons = "".join(f"\n  {what}: {why}" for what, why in self._quarantined.items())
        raise CannotRunError(
            f"nothing is left to run on{whose}{reasons}\n"
            f"free it, then go on with: profiler resume {quoted(self._journal.root)}"
        )

    def _start(self, assignment: Assignment[PendingRun]) -> None:
        pending = assignment.entry.work
        slots = tuple(self._slots[place.name] for place in assignment.places)
        node = slots[0].node
        run_id = self._journal.run_id(pending.run)
        elsewhere = node.session_root != str(self._journal.root)
        self._journal.started(pending.run, run_id, pending.attempt, node.node_id, node.boot_id, elsewhere=elsewhere)
        key = self._attempts.start(pending, slots)
        self._active[key] = _Active(pending, run_id, assignment, slots)
        self._tell_step(self._active[key], "waiting", None)

    def _take(self, active: _Active, key: Key, message: Mapping[str, Any]) -> None:
        """The next message of an attempt."""
        match message["kind"]:
            case "step":
                self._tell_step(active, message["step"], message["seconds"])
            case "piece":
                self._journal.piece(active.run.experiment_id, active.attempt, message)
            case "result":
                self._finished(active, message)
            case "cooled":
                self._journal.cooled(active.row, message)
                self._observe({"event": "cooled", "run_id": active.run_id})
            case "waiting":
                self._warn(f"{active.run.experiment_id} waits: {'; '.join(message['problems'])}")
            case "gate_closed":
                self._quarantine(active, key, message["problems"], whole_node=message["whole_node"])
            case "ended":
                self._ended(active, key)
            case "lost":
                self._doubtful[key] = Finding(message["reason"], message["detail"])

    def _quarantine(self, active: _Active, key: Key, problems: Sequence[str], *, whole_node: bool) -> None:
        """Do without this GPU or node for the rest of the campaign; its run goes elsewhere, with the same number."""
        reasons = "; ".join(problems)
        self._journal.refused(active.run_id, active.attempt, reasons)
        if whole_node:
            self._schedule.remove_node(active.assignment.node)
        else:
            self._schedule.remove(active.assignment.places)
        self._drop(active, key)
        self._again(active, active.attempt)
        gpu = active.slots[0].gpu
        what = active.where if whole_node or gpu is None else f"GPU {gpu[0]} of {active.where}"
        self._quarantined[what] = reasons
        self._observe({"event": "quarantine", "run_id": active.run_id, "what": what, "reasons": reasons})
        self._warn(f"quarantined {what} for this campaign: {reasons}")

    def _finished(self, active: _Active, message: Mapping[str, Any]) -> None:
        active.row = self._journal.finished(
            active.run, message["row"], message["processes"], retry_may_help=message["retry_may_help"]
        )
        self._attempts.recorded(active.row, active.slots)
        self._solo.take(active.row)
        self._observe({"event": "attempt", "row": active.row})

    def _ended(self, active: _Active, key: Key) -> None:
        self._drop(active, key)
        assert active.row is not None
        if not active.row["is_final"]:
            self._again(active, active.attempt + 1)

    def _lost(self, active: _Active, key: Key, finding: Finding, *, node_gone: bool) -> None:
        """The attempt's process ended without a record; lost while cooling, the record stands. What a run lost with its
        nodes is not its own failure and takes none of its retries, unless nodes go wherever it is."""
        if active.row is not None:
            self._ended(active, key)
            return
        self._drop(active, key)
        self._lost_with_nodes[active.run_id] += node_gone
        spared = node_gone and self._lost_with_nodes[active.run_id] <= NODES_LOST
        again = "its node was lost" if spared else None
        node = active.slots[0].node
        where = {"node_id": node.node_id, "boot_id": node.boot_id, "host": node.hostname}
        row = self._journal.lost(active.run, active.run_id, active.attempt, finding, where, again=again)
        self._observe({"event": "attempt", "row": row})
        if not row["is_final"]:
            self._again(active, active.attempt + 1)

    def _drop(self, active: _Active, key: Key) -> None:
        del self._active[key]
        self._schedule.free(active.assignment)

    def _again(self, active: _Active, attempt: int) -> None:
        entry = active.assignment.entry
        work = PendingRun(active.run, attempt)
        self._schedule.again(Entry(entry.rank, entry.need, work, entry.block), active.assignment.node)
        if any(self._schedule.unplaceable()):
            self._rooms.ask_again()

    def _warn(self, message: str) -> None:
        self._observe({"event": "warning", "message": message})

    def _tell_step(self, active: _Active, step: str, seconds: float | None) -> None:
        self._observe(
            {
                "event": "step",
                "run_id": active.run_id,
                "experiment_id": active.run.experiment_id,
                "attempt": active.attempt,
                "step": step,
                "seconds": seconds,
            }
        )


def power_event(power_w: Mapping[tuple[str, str], float], lateness_s: Mapping[str, float]) -> dict[str, Any]:
    """What the samplers see. `watts` is by device, with its host where several hosts have one of that name."""
    names = Counter(device for _, device in power_w)
    watts = {device if names[device] == 1 else f"{host} {device}": watt for (host, device), watt in power_w.items()}
    devices = [(host, device, watt) for (host, device), watt in power_w.items()]
    return {"event": "power", "watts": watts, "devices": devices, "lateness_s": dict(lateness_s)}


def need_text(need: Need) -> str:
    """For people: ``2 GPUs of one node, model H100, resource scratch 1``; empty where any place would do, as for a
    run that trains on the CPU where there is no GPU."""
    parts = [f"{need.gpus} GPUs of one node"] if need.gpus > 1 else ["a GPU"] if need.gpu_model is not None else []
    if need.gpu_model is not None:
        parts.append(f"model {need.gpu_model}")
    parts += [f"resource {name} {amount:g}" for name, amount in need.resources]
    return ", ".join(parts)
