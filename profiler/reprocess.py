"""Judges every attempt of a stored session again, without running anything: metrics and verdicts from logs, events,
trace, sightings and thresholds. It measures nothing and leaves energies, times and decisions about retries as they are.

What a row said before is kept in the ledger, so the runs table has one row an attempt and nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from profiler._version import __version__
from profiler.checkouts import with_checkout
from profiler.documents import parse_yaml
from profiler.driver_lock import driver_lock
from profiler.energy.sample import Sample
from profiler.errors import SessionError
from profiler.events import TrainerEvents, read_events
from profiler.metrics import collect
from profiler.reasons import THRESHOLDS
from profiler.rejudge import Said, Stored, judged_again
from profiler.store import files
from profiler.store.export import experiment_json
from profiler.store.ledger import Ledger
from profiler.store.read import Session, open_session
from profiler.store.rows import complete_run, from_arrow, to_json
from profiler.store.schema import SAMPLES
from profiler.store.write import refresh_summaries, replace_runs
from profiler.workloads import Catalog, UnknownWorkloadError, load_catalog

REPROCESSED = "reprocessed"
_SAMPLE_FIELDS = Sample._fields
_FROM_EVENTS = ("epochs_done", "ready_s", "training_s", "data_source", "data_hash")


@dataclass(frozen=True)
class Change:
    """One attempt whose row is another one now: what it said before and says now, and which columns differ."""

    run_id: str
    experiment_id: str
    attempt: int
    is_final: bool
    verdict_before: str
    verdict: str
    reasons_before: tuple[str, ...]
    reasons: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Note:
    """Why something of an attempt stays as it was stored."""

    run_id: str
    attempt: int
    text: str


@dataclass(frozen=True)
class Reprocessed:
    """What came of it: how many attempts were looked at, which changed, what could not be judged again."""

    session_id: str
    attempts: int
    changes: tuple[Change, ...]
    notes: tuple[Note, ...]


def reprocess(
    root: str | Path, changed_limits: Mapping[str, float | None] | None = None, catalog: Catalog | None = None
) -> Reprocessed:
    """Judge the session in `root` again. `changed_limits`: thresholds to change in every row (None: its default); the
    others stay those that each row was last judged with. `catalog` defaults to the repositories known here.

    Raises SessionError where there is no session or a driver holds it, CannotRunError where nothing can be written."""
    session = open_session(root)
    with driver_lock(session.folder):
        return _Again(session, changed_limits or {}, load_catalog() if catalog is None else catalog).judge()


class _Again:
    """One pass over one session."""

    def __init__(self, session: Session, changed_limits: Mapping[str, float | None], catalog: Catalog) -> None:
        self._session = session
        self._changed = changed_limits
        self._catalog = catalog
        self._configured = _configured_limits(session.folder.campaign_yaml)
        self._planned = {row["run_id"]: json.loads(row["planned"]) for row in session.plan_rows()}
        self._sightings = session.sightings()
        self._notes: list[Note] = []
        self._new_rows: list[dict[str, Any]] = []

    def judge(self) -> Reprocessed:
        rows = self._session.attempts()
        last = {row["run_id"]: row["attempt"] for row in rows}
        changes = [change for row in rows if (change := self._attempt(row, row["attempt"] == last[row["run_id"]]))]
        if changes:
            replace_runs(self._session.folder, self._new_rows)
            refresh_summaries(self._session.folder)
        return Reprocessed(self._session.session_id, len(rows), tuple(changes), tuple(self._notes))

    def _attempt(self, row: Mapping[str, Any], newest: bool) -> Change | None:
        folder = self._files(row, newest)
        stored = Stored(row, self._said(row, folder), self._samples(row), self._processes(row))
        columns = judged_again(stored, {**self._limits(row), **self._changed})
        whole = complete_run({**row, **columns})
        different = [name for name in whole if to_json(whole[name]) != to_json(row[name])]
        if not different:
            return None
        whole = complete_run({**whole, "tool_version": __version__})
        self._write(row, whole, different, folder)
        return _change(row, whole, different)

    def _limits(self, row: Mapping[str, Any]) -> dict[str, float | None]:
        """The limits of the row's last verdict; where it has none (an older version), those of the config."""
        if row["thresholds"] is not None:
            return {name: limit for name, limit in row["thresholds"].items() if name in THRESHOLDS}
        background = (self._planned.get(row["run_id"]) or {}).get("background") or {}
        return {**self._configured, "background_idle": background.get("min_busy_share")}

    def _files(self, row: Mapping[str, Any], newest: bool) -> Path:
        """Where log and events of the attempt are: an attempt is put aside when the next one begins."""
        folder = self._session.folder
        aside = folder.attempt_folder(row["experiment_id"], row["attempt"])
        return folder.run_folder(row["experiment_id"]) if newest and not aside.exists() else aside

    def _said(self, row: Mapping[str, Any], folder: Path) -> Said | None:
        if row["end_cause"] is None:  # nothing was trained, or nobody saw its end
            return None
        try:
            model = self._catalog.resolve(row["repo"], row["model"])
        except UnknownWorkloadError:
            self._keep(row, f"{row['repo']}/{row['model']} is not known here (PROFILER_REPOS), metrics kept")
            return None
        if row.get("checkout") is not None and model.checkout is None:
            self._keep(row, f"the manifest of {row['repo']} says nothing of checkouts any more, metrics kept")
            return None
        if row.get("checkout") is not None:
            model = with_checkout(model, Path(row["checkout"]), None)
        log, events = folder / "training.log", read_events(folder / "events.jsonl")
        gone = [name for name, absent in (("log", not log.exists()), ("events", _pruned(row, events))) if absent]
        if gone:
            self._keep(row, f"{' and '.join(gone)} not there any more, metrics and their reasons kept")
            return None
        return Said(model, events, collect(model, row["requested_hyperparameters"], events, log))

    def _keep(self, row: Mapping[str, Any], text: str) -> None:
        self._notes.append(Note(row["run_id"], row["attempt"], text))

    def _samples(self, row: Mapping[str, Any]) -> list[Sample]:
        if row["gpu_uuid"] is None:
            return []
        table = self._session.trace_of(row)
        return [Sample(**{name: entry[name] for name in _SAMPLE_FIELDS}) for entry in from_arrow(SAMPLES, table)]

    def _processes(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        key = (row["run_id"], row["attempt"])
        return [entry for entry in self._sightings if (entry["run_id"], entry["attempt"]) == key]

    def _write(self, before: Mapping[str, Any], row: Mapping[str, Any], columns: Sequence[str], files_of: Path) -> None:
        """The ledger first: whatever is replaced after it can be read there. The rows come last, all at once."""
        event = {"event": REPROCESSED, "run_id": row["run_id"], "attempt": row["attempt"]}
        Ledger(self._session.folder.ledger).append(
            {**event, "before": {name: before[name] for name in columns}, "verdict": row["verdict"]}
        )
        if files_of.is_dir():
            files.write_whole(files_of / "experiment.json", experiment_json(row))
        self._new_rows.append(dict(row))


def _pruned(row: Mapping[str, Any], events: TrainerEvents) -> bool:
    """Whether the trainer once told something by events, of which nothing is left."""
    told = row["effective_source"] == "event" or any(row[name] is not None for name in _FROM_EVENTS)
    return told and events == TrainerEvents()


def _configured_limits(campaign_yaml: Path) -> dict[str, float | None]:
    try:
        document = parse_yaml(campaign_yaml.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise SessionError(f"{campaign_yaml} cannot be read: {error}") from error
    said = document.get("thresholds") if isinstance(document, Mapping) else None
    return {name: limit for name, limit in (said or {}).items() if name in THRESHOLDS}


def _change(before: Mapping[str, Any], row: Mapping[str, Any], columns: Sequence[str]) -> Change:
    return Change(
        row["run_id"], row["experiment_id"], row["attempt"], row["is_final"], before["verdict"], row["verdict"],
        tuple(before["reasons"]), tuple(row["reasons"]), tuple(columns),
    )  # fmt: skip


def changed_reasons(change: Change) -> Iterator[str]:
    """`+reason` for each that is new, `-reason` for each that is gone."""
    yield from (f"+{name}" for name in change.reasons if name not in change.reasons_before)
    yield from (f"-{name}" for name in change.reasons_before if name not in change.reasons)
