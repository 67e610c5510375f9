"""Old local times in UTC, where the files themselves say the zone. It guesses none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from profiler.legacy.cells import moment
from profiler.legacy.findings import Seen
from profiler.legacy.sources import OldRun

_STEP_S = 15 * 60
_LONGEST_DELAY_S = 120.0
"""The record was written within that time after the last sample."""
_EARLY_S = 5.0
"""So much may the last sample's whole second lie after the record."""
_LARGEST_OFFSET_S = 14 * 3600

NO_ZONE = "local_time_without_zone"


@dataclass(frozen=True)
class Times:
    """Start and end in UTC; `null_reason` where they are not known."""

    started_at: datetime | None
    ended_at: datetime | None
    null_reason: str


def offset_of(run: OldRun) -> int | None:
    """How many seconds the run's local times are ahead of UTC: the recorded end against the trace's last sample."""
    ended = moment(run.record.timestamp)
    if ended is None or ended.tzinfo is not None or not run.trace.ticks:
        return None
    ahead_s = ended.replace(tzinfo=UTC).timestamp() - run.trace.ticks[-1].t_ns / 1e9
    offset_s = int((ahead_s + _EARLY_S) // _STEP_S) * _STEP_S
    plausible = ahead_s - offset_s <= _LONGEST_DELAY_S and abs(offset_s) <= _LARGEST_OFFSET_S
    return offset_s if plausible else None


def common_offset(runs: Iterable[OldRun]) -> int | None:
    """The offset that all runs with a trace agree on, for those without one."""
    offsets = {offset for run in runs if (offset := offset_of(run)) is not None}
    return offsets.pop() if len(offsets) == 1 else None


def read_times(run: OldRun, common_s: int | None) -> tuple[Times, list[Seen]]:
    """Start and end of a run in UTC. The recorded time is that of the end."""
    ended = moment(run.record.timestamp)
    if ended is None:
        return Times(None, None, "not_recorded"), []
    if ended.tzinfo is not None:
        return _times(run, ended.astimezone(UTC)), []
    own_s = offset_of(run)
    offset_s = common_s if own_s is None else own_s
    if offset_s is None:
        text = f"{run.record.timestamp}: no trace tells the zone"
        return Times(None, None, NO_ZONE), [Seen("local_time", text)]
    source = "this run's trace" if own_s is not None else "the traces of the other runs"
    text = f"{run.record.timestamp} is UTC{offset_s / 3600:+g} h by {source}"
    return _times(run, ended.replace(tzinfo=UTC) - timedelta(seconds=offset_s)), [Seen("local_time", text)]


def _times(run: OldRun, ended_at: datetime) -> Times:
    duration_s = run.record.duration_s
    started_at = ended_at - timedelta(seconds=duration_s) if duration_s is not None else None
    return Times(started_at, ended_at, "not_recorded")
