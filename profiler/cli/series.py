"""The words for repeated measurements: progress while they run, the summary of one series, two series compared."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from statistics import median

from profiler.cli import output
from profiler.cli.measure import ENERGIES, above_idle, ending, idle_text
from profiler.cli.progress import energy_text
from profiler.intervals import Difference, Summary
from profiler.measurement import Measurement
from profiler.repetition import Comparison, Plan, Series

WIDTH = 12
SLOW_FIRST = 1.1  # the first repetition against the median of the others: more than chance on a quiet machine


class Teller:
    """Says on stderr what each repetition took; on a log only those that failed."""

    def __init__(self, plan: Plan, commands: int) -> None:
        self._plan = plan
        self._commands = commands
        self._show_all = output.is_terminal(sys.stderr)

    def __call__(self, kind: str, number: int, measured: Measurement) -> None:
        if not self._show_all and measured.status == 0:
            return
        of = self._plan.warmup if kind == "warm-up" else self._plan.repeat
        whose = f" of {shlex.join(measured.argv)}" if self._commands > 1 else ""
        took = "" if measured.duration_s is None else f" in {measured.duration_s:.3f} s"
        failed = "" if measured.status == 0 else f"failed: {measured.error or f'ended {ending(measured)}{took}'}"
        output.say(f"{kind} {number}/{of}{whose}: {failed or took.strip()}")


def lines(result: Series | Comparison) -> Iterator[str]:
    """All of a result."""
    return comparison_lines(result) if isinstance(result, Comparison) else series_lines(result)


def series_lines(series: Series, title: str = "") -> Iterator[str]:
    """One command: how its repetitions ended, time and energy with their intervals."""
    yield ""
    yield f"{title or 'command':<{WIDTH}} {shlex.join(series.argv)}"
    good, count = len(series.good), len(series.repetitions)
    containment = ", ".join(sorted({measured.containment for measured in series.repetitions})) or "nothing"
    yield f"{'repetitions':<{WIDTH}} {count}, {good} succeeded, contained by {containment}"
    summaries, nulls = series.summaries, series.null_reasons
    if "duration_s" in summaries:
        yield f"{'time':<{WIDTH}} {_spread(summaries['duration_s'], _seconds)}"
    if "cpu_s" in summaries:
        yield f"{'CPU time':<{WIDTH}} {_spread(summaries['cpu_s'], _seconds)}"
    for column, label in ENERGIES:
        known = column in summaries
        yield f"{label:<{WIDTH}} " + (
            _spread(summaries[column], energy_text) if known else f"not known: {nulls[column]}"
        )
        yield from _above_idle(series, column)
    yield from _hints(series)


def _above_idle(series: Series, column: str) -> Iterator[str]:
    net = column.replace("_energy_", "_energy_net_")
    if net in series.summaries:
        yield f"{'  above idle':<{WIDTH}} {_spread(series.summaries[net], energy_text)}"
        yield f"{'':<{WIDTH}} {idle_text(series.repetitions[0], column)} all of them; its ± is not in the interval"
    elif series.repetitions and column in series.summaries:
        yield from above_idle(series.repetitions[0], column)


def _seconds(seconds: float) -> str:
    return f"{seconds:.4g} s"


def _spread(summary: Summary, text: Callable[[float], str]) -> str:
    if summary.half_width is None or summary.std is None:
        return f"{text(summary.mean)} (one repetition: no interval)"
    return (
        f"{text(summary.mean)} ± {text(float(f'{summary.half_width:.2g}'))}  "
        f"(std {text(summary.std)}, {text(summary.min)} to {text(summary.max)}, n = {summary.n})"
    )


def _hints(series: Series) -> Iterator[str]:
    times = series.values("duration_s")
    if len(times) >= 3 and not series.warmups and times[0] > SLOW_FIRST * median(times[1:]):
        yield (
            f"{'note':<{WIDTH}} the first repetition took {_seconds(times[0])}, the others "
            f"{_seconds(median(times[1:]))}: caches were cold; try --warmup 1"
        )
    seen = {finding.reason: finding.evidence for measured in series.good for finding in measured.energy.findings}
    for reason, evidence in seen.items():
        if reason != "no_energy_source":
            count = sum(any(f.reason == reason for f in m.energy.findings) for m in series.good)
            yield f"{'note':<{WIDTH}} {reason} in {count} of {len(series.good)}: {evidence}"


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """Both series, then the second against the first."""
    yield from series_lines(comparison.first, "A")
    yield from series_lines(comparison.second, "B")
    yield ""
    yield "B against A, with 95 % intervals"
    differences = comparison.differences
    labels = (("duration_s", "time"), ("cpu_s", "CPU time"), *ENERGIES)
    for column, label in labels:
        if column in differences:
            yield f"{label:<{WIDTH}} {_difference(differences[column], 's' if column.endswith('_s') else 'J')}"
    if not differences:
        yield "nothing can be compared: one of the commands never succeeded"


def _difference(found: Difference, unit: str) -> str:
    if found.low is None or found.high is None:
        return f"{found.difference:+.4g} {unit} (one repetition: no interval)"
    absolute = f"{found.difference:+.4g} {unit} ({found.low:+.4g} to {found.high:+.4g})"
    if found.percent is None or found.percent_low is None or found.percent_high is None:
        return absolute
    percent = f"{found.percent:+.2f} % ({found.percent_low:+.2f} to {found.percent_high:+.2f})"
    return f"{percent}, {absolute}" + ("" if found.shown else ": no difference shown")
