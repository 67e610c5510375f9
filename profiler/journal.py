"""The driver's memory on disk: what is planned, started and finished in one session. It executes nothing.

The truth is the Parquet row of an attempt: its appearance is the commit. The ledger tells which attempts were started,
so that a resumed session knows those that never came back.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

from profiler import host, spool
from profiler.config import load
from profiler.errors import SessionError
from profiler.planned import Plan, PlannedRun
from profiler.reasons import REASONS
from profiler.record import INTERRUPTED, interrupted_row
from profiler.store import ledger as ledger_events
from profiler.store.arrival import complete_arrival, drop_arrivals, take_piece
from profiler.store.layout import SessionFolder
from profiler.store.ledger import Ledger, read_ledger
from profiler.store.read import Session, open_session
from profiler.store.write import (
    Recorder,
    archive_attempt,
    clean_temporary,
    finish,
    refresh_summaries,
    replace_runs,
    rewrite_archived,
    write_campaign,
    write_experiment_json,
    write_node,
    write_plan,
    write_processes,
    write_run,
)
from profiler.verdict import Finding, judge
from profiler.workloads import Catalog

REPEATED_LATER = "repeated: resume --retry-failed"


@dataclass(frozen=True, slots=True)
class PendingRun:
    """A run that still needs an execution, and the number that its next attempt has."""

    run: PlannedRun
    attempt: int = 1


class Journal:
    """Writes one session. Only the holder of its `driver_lock` may use it."""

    def __init__(self, folder: SessionFolder, plan: Plan, digest: str) -> None:
        self._folder = folder
        self._plan = plan
        self._digest = digest
        self._ledger = Ledger(folder.ledger)
        self._recorder = Recorder(folder, self._ledger)
        self._pending: list[PendingRun] = [PendingRun(run) for run in plan]
        self._unsettled: dict[tuple[str, int], Mapping[str, Any]] = {}
        self._retry_failed = False
        self._repeated: dict[str, Mapping[str, Any]] = {}
        self._fetched = False

    @classmethod
    def create(cls, folder: SessionFolder, plan: Plan, catalog: Catalog) -> Journal:
        """Write config and plan of a new session."""
        write_campaign(folder, plan.campaign.to_yaml())
        write_plan(folder, plan)
        journal = cls(folder, plan, plan.digest)
        origin = origin_digest(folder.campaign_yaml.read_bytes(), plan, catalog)
        journal._append(ledger_events.SESSION_CREATED, plan_digest=plan.digest, origin_digest=origin, runs=len(plan))
        return journal

    @classmethod
    def reopen(
        cls, folder: SessionFolder, catalog: Catalog, *, retry_failed: bool, allow_changed: bool
    ) -> tuple[Journal, Plan]:
        """Read an interrupted session back and write the rows of the attempts that never reported.

        The stored plan stands, whatever history has been added since. Raises SessionError when the folder was renamed,
        and when the stored config or a manifest that the plan needs has changed, unless `allow_changed`: then the runs
        that are missing are executed with the manifests as they are now.
        """
        created = _creation(folder)
        session = open_session(folder.root)
        session.check_name()
        campaign = load(folder.campaign_yaml, catalog=catalog)
        runs = tuple(map(PlannedRun.from_json, session.planned()))
        plan = Plan(campaign, campaign.seed, runs)
        if not allow_changed:
            _check_origin(folder, created, origin_digest(folder.campaign_yaml.read_bytes(), plan, catalog))
        clean_temporary(folder)
        drop_arrivals(folder)
        journal = cls(folder, plan, created["plan_digest"])
        journal._settle_lost(session)
        journal._retry_failed = retry_failed
        journal._pending = journal._remaining(session, retry_failed)
        refresh_summaries(folder)
        return journal, plan

    @property
    def root(self) -> Path:
        return self._folder.root

    def run_id(self, run: PlannedRun) -> str:
        return self._folder.run_id(run.index)

    def pending(self) -> Sequence[PendingRun]:
        return self._pending

    def awaits(self, run_id: str, attempt: int) -> bool:
        """Whether a node may yet have the result of this attempt, which an earlier driver started."""
        return (run_id, attempt) in self._unsettled

    def take_kept(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Record a result that was finished and never written, as if its attempt had just told it."""
        row = result["row"]
        event = self._unsettled.pop((row["run_id"], row["attempt"]), None)
        self._fetched |= event is not None
        run = next(run for run in self._plan if run.index == row["index"])
        again = "the campaign was interrupted" if INTERRUPTED in row["reasons"] else None
        written = self.finished(run, row, result["processes"], retry_may_help=result["retry_may_help"], again=again)
        if event is not None and not written["is_final"]:
            self._archive(run, row["attempt"])
        return written

    def take_all_kept(self) -> list[dict[str, Any]]:
        """Record the results of attempts of this machine that ended without telling: the campaign was interrupted. The
        rows as written."""
        kept = self._kept()
        known = [key for key in kept if self._folder.run_file(*key).exists()]
        for key in known:
            spool.forget(self._folder, *key)
        return [self.take_kept(one) for key, one in kept.items() if key not in known]

    def settle(self) -> Sequence[PendingRun]:
        """Nobody has more to tell of attempts of earlier drivers: those that are still open were lost. The runs that
        are left to do."""
        for event in self._unsettled.values():
            self._settle(event)
        if self._unsettled or self._fetched:
            self._unsettled, self._fetched = {}, False
            self._pending = self._remaining(open_session(self._folder.root), self._retry_failed)
            refresh_summaries(self._folder)
        return self._pending

    def piece(self, experiment_id: str, attempt: int, piece: Mapping[str, Any]) -> None:
        """A part of a file that an attempt on another node wrote; the whole ones appear with its record."""
        take_piece(self._folder, experiment_id, attempt, piece)

    def started(
        self, run: PlannedRun, run_id: str, attempt: int, node_id: str, boot_id: str, *, elsewhere: bool = False
    ) -> None:
        """`elsewhere`: its node does not see the session folder and keeps the result itself until it is told."""
        self._append(
            ledger_events.ATTEMPT_STARTED,
            run_id=run_id, index=run.index, attempt=attempt, node_id=node_id, boot_id=boot_id, elsewhere=elsewhere,
        )  # fmt: skip

    def finished(
        self,
        run: PlannedRun,
        row: dict[str, Any],
        processes: Sequence[dict[str, Any]],
        *,
        retry_may_help: bool,
        again: str | None = None,
    ) -> dict[str, Any]:
        """Decide whether another attempt follows (`again`: it does, and why), and write the record. The row as
        written."""
        final, decision = retry_decision(run, row, retry_may_help)
        if again is not None:
            final, decision = False, f"repeated: {again}"
        row = {**row, "is_final": final, "retry_decision": decision, "plan_digest": self._digest}
        complete_arrival(self._folder, run.experiment_id, row["attempt"])
        write_processes(self._folder, f"{row['run_id']}-{row['attempt']}", processes)
        return self._record(row)

    def refused(self, run_id: str, attempt: int, problems: str) -> None:
        """The gate did not open: the attempt was never executed, and its number is free again."""
        self._append(ledger_events.ATTEMPT_REFUSED, run_id=run_id, attempt=attempt, problems=problems)

    def lost(
        self,
        run: PlannedRun,
        run_id: str,
        attempt: int,
        finding: Finding,
        where: Mapping[str, Any] = MappingProxyType({}),
        *,
        again: str | None = None,
    ) -> dict[str, Any]:
        """Record an attempt whose process ended without a record; it counts as one. `where`: columns that say on which
        node; `again`: why it is repeated however many retries are left."""
        self._archive(run, attempt - 1)
        started = {"started_at": self._released_at(run_id, attempt)}
        row = {**self._lost_row(run, run_id, attempt, finding), **started, **where}
        row = self.finished(run, row, [], retry_may_help=finding.retry_may_help, again=again)
        if not row["is_final"]:
            self._archive(run, attempt)
        return row

    def cooled(self, row: dict[str, Any] | None, cooling: Mapping[str, Any]) -> None:
        """Complete a record with its cooling, which ends after the record was written."""
        if row is None:
            return
        names = ("cooling_s", "cooling_end", "cooling_idle_proven")
        nulls = {name: why for name, why in row["null_reasons"].items() if name not in names}
        if cooling["null_reason"]:
            nulls["cooling_idle_proven"] = cooling["null_reason"]
        row |= {**{name: cooling[name] for name in names}, "null_reasons": nulls}
        write_experiment_json(self._folder, row)
        write_run(self._folder, row)

    def node(self, columns: Mapping[str, Any]) -> None:
        """What was found out of a node, served or not."""
        write_node(self._folder, columns)

    def discard_unless_started(self) -> None:
        """Remove the session if no attempt of it was ever started: what is refused leaves no empty folder."""
        events = {event["event"] for event in read_ledger(self._folder.ledger).events}
        if ledger_events.ATTEMPT_STARTED not in events:
            shutil.rmtree(self._folder.root)

    def finish(self) -> None:
        """The campaign has ended: many small sample files become few, and every dataset has its columns."""
        self.flush()
        finish(self._folder)
        self._append(ledger_events.SESSION_FINISHED)

    def flush(self) -> None:
        """Bring up to date what may lag behind while attempts come in: the summaries."""
        self._recorder.flush()

    def _lost_row(
        self, run: PlannedRun, run_id: str, attempt: int, finding: Finding, more: Sequence[Finding] = ()
    ) -> dict[str, Any]:
        session_id, seed = self._folder.session_id, self._plan.seed
        return interrupted_row(run, session_id, run_id, attempt, seed, judge([finding, *more]), finding)

    def _append(self, event: str, **fields: Any) -> None:
        driver = {"pid": os.getpid(), "host": socket.gethostname(), "driver_boot_id": host.boot_id()}
        self._ledger.append({"event": event, **driver, **fields})

    def _settle_lost(self, session: Session) -> None:
        """Write the rows of attempts that were started and have no record."""
        written = {(row["run_id"], row["attempt"]) for row in session.attempts()}
        open_attempts: dict[tuple[str, int], dict[str, Any]] = {}
        for event in read_ledger(self._folder.ledger).events:
            key = (event.get("run_id", ""), event.get("attempt", 0))
            if event["event"] == ledger_events.ATTEMPT_STARTED:
                open_attempts[key] = event
            elif event["event"] in (ledger_events.ATTEMPT_REFUSED, ledger_events.ATTEMPT_NOT_EXECUTED):
                open_attempts.pop(key, None)
        kept = self._kept()
        for key, event in open_attempts.items():
            if key in written:
                spool.forget(self._folder, *key)
            elif key in kept:
                self.take_kept(kept[key])
            elif event.get("elsewhere"):
                self._unsettled[key] = event
            else:
                self._settle(event)

    def _kept(self) -> dict[tuple[str, int], Mapping[str, Any]]:
        """The results on this disk that nobody has acknowledged, by run_id and attempt."""
        return {(one["row"]["run_id"], one["row"]["attempt"]): one for one in spool.kept(self._folder)}

    def _settle(self, event: Mapping[str, Any]) -> None:
        run = next(run for run in self._plan if run.index == event["index"])
        if self._may_have_run(event):
            self._record_interrupted(run, event)
        else:
            self._forget(run, event["run_id"], event["attempt"])

    def _may_have_run(self, event: Mapping[str, Any]) -> bool:
        """Whether the trainer of a started attempt was let go. Another machine's files are not seen from here, and
        those of this one may not have reached the disk when it went down: then it counts as executed."""
        known = event["boot_id"] == host.boot_id()
        return not known or self._folder.released(event["run_id"], event["attempt"]).exists()

    def _record_interrupted(self, run: PlannedRun, event: Mapping[str, Any]) -> None:
        finding = Finding("interrupted", "the driver ended before this attempt did")
        row = self._lost_row(run, event["run_id"], event["attempt"], finding, _rebooted(event))
        known = {name: event[name] for name in ("node_id", "boot_id")}
        known["started_at"] = self._released_at(event["run_id"], event["attempt"])
        self._archive(run, event["attempt"] - 1)
        self._record({**row, **known, "plan_digest": self._digest})
        self._archive(run, event["attempt"])

    def _released_at(self, run_id: str, attempt: int) -> datetime | None:
        """When the trainer of a lost attempt was let go; None where its node did not tell this machine."""
        try:
            return datetime.fromtimestamp(self._folder.released(run_id, attempt).stat().st_mtime, tz=UTC)
        except OSError:
            return None

    def _record(self, row: dict[str, Any]) -> dict[str, Any]:
        written = self._recorder.record(row)
        if written["is_final"] and row["run_id"] in self._repeated:
            self._supersede(self._repeated.pop(row["run_id"]))
        spool.forget(self._folder, row["run_id"], row["attempt"])
        return written

    def _supersede(self, row: Mapping[str, Any]) -> None:
        """The row was final until a later attempt of its run was."""
        changed = {**row, "is_final": False, "retry_decision": REPEATED_LATER}
        replace_runs(self._folder, [changed])
        rewrite_archived(self._folder, changed)

    def _forget(self, run: PlannedRun, run_id: str, attempt: int) -> None:
        """The attempt ended before its trainer began: nothing of it is a result, and its number is free again."""
        self._archive(run, attempt - 1)
        shutil.rmtree(self._folder.background_logs(run.experiment_id), ignore_errors=True)
        self._append(ledger_events.ATTEMPT_NOT_EXECUTED, run_id=run_id, attempt=attempt)

    def _archive(self, run: PlannedRun, attempt: int) -> None:
        """Put the files of an ended attempt aside now: one that was lost early left no files of its own, and those in
        the run's folder are the one's before it."""
        if attempt > 0:
            archive_attempt(self._folder, run.experiment_id, attempt)

    def _remaining(self, session: Session, retry_failed: bool) -> list[PendingRun]:
        attempts: Counter[str] = Counter()
        finals: dict[str, Mapping[str, Any]] = {}
        for row in sorted(session.attempts(), key=itemgetter("attempt")):
            attempts[row["run_id"]] = row["attempt"]
            if row["is_final"]:
                if row["run_id"] in finals:  # the driver was killed right after it wrote the later one
                    self._supersede(finals[row["run_id"]])
                finals[row["run_id"]] = row
        self._repeated = {run_id: row for run_id, row in finals.items() if retry_failed and not row["valid"]}
        done = finals.keys() - self._repeated.keys()
        ids = {run.index: self._folder.run_id(run.index) for run in self._plan}
        return [PendingRun(run, attempts[ids[run.index]] + 1) for run in self._plan if ids[run.index] not in done]


def _rebooted(started: Mapping[str, Any]) -> list[Finding]:
    """Whether the node of a lost attempt was booted anew: known where it was the driver's machine, and still is."""
    before, now = started["boot_id"], host.boot_id()
    here = started.get("driver_boot_id") == before and started.get("host") == socket.gethostname()
    if not here or now in ("", before):
        return []
    return [Finding("node_rebooted", f"boot id {now}, was {before} when the attempt started")]


def retry_decision(run: PlannedRun, row: Mapping[str, Any], retry_may_help: bool) -> tuple[bool, str]:
    """(is_final, why): a failed attempt is repeated while retries are left and its failure may pass."""
    if row["valid"]:
        return True, "succeeded"
    failing = ", ".join(name for name in row["reasons"] if REASONS[name].level == "fail")
    if not retry_may_help:
        return True, f"not repeated: {failing} would fail again"
    if row["attempt"] > run.max_retries:
        return True, f"not repeated: all {run.max_retries} retries are used"
    return False, f"repeated: {failing} may pass"


def origin_digest(config: bytes, plan: Plan, catalog: Catalog) -> str:
    """SHA-256 of what a plan is executed from: the resolved config's text and the manifests' entries of its models."""
    partners = [run.background for run in plan if run.background is not None]
    models = {(item.repo, item.model) for item in [*plan, *partners]}
    entries = [catalog.resolve(*name).model_dump_json(exclude={"folder"}) for name in sorted(models)]
    return hashlib.sha256("\n".join([config.decode(), *entries]).encode()).hexdigest()


def _creation(folder: SessionFolder) -> dict[str, Any]:
    """The session's first ledger entry, which its creation writes last."""
    for event in read_ledger(folder.ledger).events:
        if event["event"] == ledger_events.SESSION_CREATED:
            return event
        if event["event"] == ledger_events.IMPORTED:
            raise SessionError(f"{folder.root} is an import of old results: they are history, nothing can go on")
    raise SessionError(
        f"{folder.root} was ended before its plan was on disk: nothing of it was started; "
        "remove it and start the campaign again"
    )


def _check_origin(folder: SessionFolder, created: Mapping[str, Any], origin: str) -> None:
    if created["origin_digest"] != origin:
        raise SessionError(
            f"{folder.root}: its config or a workload manifest has changed since it was started, so its runs would "
            "not be comparable; start a new session, or execute what is missing all the same with --allow-changed"
        )
