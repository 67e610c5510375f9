"""How much of the foreground's window the background really worked. Pure, but for `tree_cpu_s`, which asks the kernel.

Three witnesses, and the share is the smallest of those that can testify: the trainings' own events (between the first
step and the end of a training), the CPU time of the process tree, and on a GPU the driver's per-process utilisation.
The CPU's time is asked only where the driver does not tell who keeps a GPU busy: waiting for one costs a full CPU.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from profiler.events import Training
from profiler.gpu_activity import ActivityWindow
from profiler.process.enclosure import Enclosure, cgroup_folders, members

MIN_GPU_WINDOW_S: Final = 2.0

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Busy:
    """`share` of the window (0..1), None with `null_reason`; `method`: the witnesses that testified. `gaps` within the
    window are times between two trainings, `gap_s` their sum; `trainings` and `epochs` ended in it."""

    share: float | None
    method: str | None
    null_reason: str | None
    evidence: str
    gaps: int | None
    gap_s: float | None
    trainings: int | None
    epochs: int | None
    epochs_worked: float | None = None
    """Epochs within the window, those that its edges cut in part."""
    events_share: float | None = None
    """What the events alone say: the share of the window between first steps and ends of trainings."""


def measure_busy(
    trainings: Sequence[Training],
    window_ns: tuple[int, int],
    cpu_share: float | None,
    gpu_share: float | None,
    *,
    tells: bool = False,
) -> Busy:
    """The busy share in `window_ns`; `cpu_share`, `gpu_share`: what the two other witnesses saw, None if nothing.
    `tells`: the background speaks of itself, so without any training it has not come to its first step."""
    t0_ns, t1_ns = window_ns
    none = 0.0 if tells else None
    shares = {"events": working_share(trainings, t0_ns, t1_ns) if trainings else none, "gpu_utilisation": gpu_share}
    if gpu_share is None:
        shares["cpu_time"] = cpu_share
    known = {name: share for name, share in shares.items() if share is not None}
    told = trainings or tells
    gaps = _gaps(trainings, t0_ns, t1_ns)
    return Busy(
        share=min(known.values()) if known else None,
        method="+".join(known) or None,
        null_reason=None if known else "no_events_and_no_utilisation",
        evidence=", ".join(f"{name} {share:.2f}" for name, share in known.items()),
        gaps=len(gaps) if told else None,
        gap_s=sum(gaps) if told else None,
        trainings=sum(_within(training.end_ns, t0_ns, t1_ns) for training in trainings) if told else None,
        epochs=_epochs_ended(trainings, t0_ns, t1_ns) if told else None,
        epochs_worked=epochs_worked(trainings, t0_ns, t1_ns),
        events_share=shares["events"],
    )


def _epochs_ended(trainings: Sequence[Training], t0_ns: int, t1_ns: int) -> int | None:
    """Epochs that ended in the window; None where trainings end and tell of no epoch (a library's, told at the end)."""
    ends = [end for item in trainings for end in item.epoch_ends_ns]
    if not ends and any(item.end_ns is not None and item.end_ns <= t1_ns for item in trainings):
        return None
    return sum(_within(end, t0_ns, t1_ns) for end in ends)


def _within(t_ns: int | None, t0_ns: int, t1_ns: int) -> bool:
    return t_ns is not None and t0_ns <= t_ns <= t1_ns


def working_share(trainings: Sequence[Training], t0_ns: int, t1_ns: int) -> float | None:
    """Share of the window between first steps and ends of trainings; None where no training ever told of itself."""
    if not trainings or t1_ns <= t0_ns:
        return None
    spans = [(item.ready_ns, t1_ns if item.end_ns is None else item.end_ns) for item in trainings]
    return sum(max(0, min(end, t1_ns) - max(start, t0_ns)) for start, end in spans) / (t1_ns - t0_ns)


def epochs_worked(trainings: Sequence[Training], t0_ns: int, t1_ns: int) -> float | None:
    """Epochs of the window, one that its edge cuts by the part of its time that lies inside; of the one in which the
    window ends it is known how long an epoch takes on average. None where no epoch was ever told of."""
    edges = [(training.ready_ns, *training.epoch_ends_ns) for training in trainings]
    whole = [(start, end) for one in edges for start, end in pairwise(one) if end > start]
    if not whole:
        return None
    mean_ns = sum(end - start for start, end in whole) / len(whole)
    going_on = [one[-1] for one, of in zip(edges, trainings, strict=True) if of.end_ns is None or of.end_ns > t1_ns]
    cut = [(start, round(start + mean_ns)) for start in going_on if start < t1_ns]
    return sum(max(0, min(end, t1_ns) - max(start, t0_ns)) / (end - start) for start, end in [*whole, *cut])


def _gaps(trainings: Sequence[Training], t0_ns: int, t1_ns: int) -> list[float]:
    """Seconds within the window between the end of a training and the first step of the next, or the window's end."""
    ordered = sorted(trainings, key=lambda training: training.ready_ns)
    following = [training.ready_ns for training in ordered[1:]] + [t1_ns] * bool(ordered)
    spans = [
        (max(training.end_ns, t0_ns), min(after_ns, t1_ns))
        for training, after_ns in zip(ordered, following, strict=True)
        if training.end_ns is not None
    ]
    return [(end - start) / 1e9 for start, end in spans if end > start]


def gpu_share(window: ActivityWindow, pids: Collection[int], t0_ns: int, t1_ns: int) -> float | None:
    """Share of [t0_ns, t1_ns] that the driver's samples of work of one of `pids` cover; None where the driver does not
    tell, or the window is shorter than two seconds."""
    if window.null_reason is not None or (t1_ns - t0_ns) / 1e9 < MIN_GPU_WINDOW_S:
        return None
    covered_ns, until_ns = 0, t0_ns
    for seen in sorted(window.activities, key=lambda item: item.since_ns):
        if seen.pid in pids and seen.sm_percent > 0:
            covered_ns += max(0, min(seen.t_ns, t1_ns) - max(seen.since_ns, until_ns))
            until_ns = max(until_ns, min(seen.t_ns, t1_ns))
    return covered_ns / (t1_ns - t0_ns)


def cpu_share(cpu_s: float | None, window_s: float, granted_cpus: float) -> float | None:
    """CPU seconds used for each second that was granted; one CPU's worth is full work."""
    if cpu_s is None or window_s <= 0:
        return None
    return min(1.0, cpu_s / (window_s * min(1.0, granted_cpus)))


def tree_cpu_s(enclosures: Iterable[Enclosure | None]) -> float | None:
    """CPU seconds so far of all that lives in one of `enclosures`, and of what has ended there; None where there is
    none of them. A walk over /proc or the cgroups for each, a few milliseconds."""
    seconds = [spent_s for enclosure in set(enclosures) if enclosure is not None for spent_s in _spent_s(enclosure)]
    return sum(seconds) if seconds else None


def _spent_s(enclosure: Enclosure) -> Iterator[float]:
    """A cgroup has an account of its own; in a PID namespace the first process inherits those of the ended."""
    if isinstance(enclosure, int):
        yield from map(_cpu_s, members(enclosure))
        return
    for folder in cgroup_folders(enclosure):
        with suppress(OSError):  # it has just gone
            account = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
            yield int(account["usage_usec"]) / 1e6


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / _TICKS_PER_S  # utime, stime, cutime, cstime
