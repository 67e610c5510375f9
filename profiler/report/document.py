"""What a report says about a session, as one frozen value: every figure and text, nothing of how it looks.

It reads the session and computes; it writes nothing and knows no HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from profiler.analysis.coverage import GroupCoverage, Wanted, cover
from profiler.analysis.effects import effects
from profiler.analysis.history import past_of
from profiler.analysis.results import Effects
from profiler.errors import CannotRunError, ConfigError, SessionError
from profiler.report.groups import Group, Totals, count_states, groups_of, totals
from profiler.report.measured import Measured, measured
from profiler.report.pairs import ColocatedPair, colocated_pairs
from profiler.report.traces import MAX_TRACES, Trace, chosen_rows, read_trace
from profiler.report.tradeoff import Tradeoff, tradeoffs
from profiler.report.verdicts import Verdicts, verdicts
from profiler.shell import quoted
from profiler.workloads import Catalog, load_catalog

if TYPE_CHECKING:
    from profiler.store.read import Session

Row = Mapping[str, Any]
Tell = Callable[[str], None]
MOST_CONFIG_CHARACTERS = 20_000


@dataclass(frozen=True)
class Document:
    """A whole report. `traced` runs have a trace to show; `traces` are those shown, at most MAX_TRACES but for those
    that were asked for. `config` is campaign.yaml, None where it cannot be read; `imported_from` the folder of old
    results that the session was made from, if it was."""

    session_id: str
    folder: str
    config: str | None
    imported_from: str | None
    started_at: datetime | None
    ended_at: datetime | None
    planned: int
    attempts: int
    states: Mapping[str, int]
    totals: tuple[Totals, ...]
    groups: tuple[Group, ...]
    traced: int
    traces: tuple[Trace, ...]
    tradeoffs: tuple[Tradeoff, ...]
    without_tradeoff: tuple[str, ...]
    pairs: tuple[ColocatedPair, ...]
    effects: Effects | str
    """What hyperparameters do to energy and quality, or why nobody could compute it."""
    coverage: tuple[GroupCoverage, ...]
    """Of the models that have a manifest here."""
    coverage_target: int
    verdicts: Verdicts
    measured: Measured

    @property
    def valid(self) -> int:
        return self.states["safe"] + self.states["contaminated"]


def make_document(session: Session, wanted: Sequence[str] = (), tell: Tell = lambda text: None) -> Document:
    """The report of what is in the session now. `wanted`: runs (run_id or experiment_id) whose traces are shown in any
    case; SessionError for one that is not there. `tell` is called with words on long work."""
    tell("reading the runs")
    attempts = session.attempts()
    rows = session.rows()
    _refuse_unknown(session, rows, wanted)
    catalog = _catalog()
    tradeoff, without = tradeoffs(rows, catalog)
    shown = chosen_rows(rows, wanted, MAX_TRACES)
    ended = [row for row in rows if row["verdict"] is not None]
    return Document(
        session_id=session.session_id,
        folder=str(session.root),
        config=_config(session),
        imported_from=session.imported_from(),
        started_at=min((row["started_at"] for row in attempts if row["started_at"]), default=None),
        ended_at=max((row["ended_at"] for row in attempts if row["ended_at"]), default=None),
        planned=len(rows),
        attempts=len(attempts),
        states=count_states(rows),
        totals=_totals(ended, attempts),
        groups=groups_of(rows),
        traced=sum(row["window_start_ns"] is not None for row in rows),
        traces=_traces(session, shown, tell),
        tradeoffs=tradeoff,
        without_tradeoff=without,
        pairs=colocated_pairs(rows),
        effects=_effects(rows, catalog, tell),
        coverage=_coverage(session, attempts, catalog),
        coverage_target=Wanted().target,
        verdicts=verdicts(rows, attempts),
        measured=measured(ended),
    )


def _refuse_unknown(session: Session, rows: Sequence[Row], wanted: Sequence[str]) -> None:
    known = {name for row in rows for name in (row["run_id"], row["experiment_id"])}
    for name in wanted:
        if name not in known:
            raise SessionError(f"no run {name!r} in {session.root}; `profiler show {quoted(session.root)}` lists them")


def _totals(ended: Sequence[Row], attempts: Sequence[Row]) -> tuple[Totals, ...]:
    return (
        totals("safe runs", [row for row in ended if row["safe"]]),
        totals("valid runs", [row for row in ended if row["valid"]]),
        totals("all runs that ended", ended),
        totals("all attempts, retries too", attempts),
    )


def _traces(session: Session, rows: Sequence[Row], tell: Tell) -> tuple[Trace, ...]:
    found = []
    for number, row in enumerate(rows, 1):
        tell(f"reading traces: {number} of {len(rows)}")
        found.append(read_trace(session, row))
    return tuple(found)


def _effects(rows: Sequence[Row], catalog: Catalog | None, tell: Tell) -> Effects | str:
    tell("computing effects")
    try:
        return effects(rows, catalog)
    except CannotRunError as error:
        return str(error)


def _coverage(session: Session, attempts: Sequence[Row], catalog: Catalog | None) -> tuple[GroupCoverage, ...]:
    if catalog is None:
        return ()
    return tuple(cover(past_of(session.root, session.plan_rows(), attempts, catalog), catalog, Wanted()))


def _catalog() -> Catalog | None:
    """The manifests known here; None where one of them is broken: that must not spoil a report on a past session."""
    try:
        return load_catalog()
    except ConfigError:
        return None


def _config(session: Session) -> str | None:
    try:
        text = session.folder.campaign_yaml.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text if len(text) <= MOST_CONFIG_CHARACTERS else text[:MOST_CONFIG_CHARACTERS] + "\n… (cut off here)"
