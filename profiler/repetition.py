"""Measures a command many times, or two commands in turn, and says what the repetitions have in common.

Two commands run in the order A B B A A B B A ..., so that a machine that grows warmer (or is used by others) does not
favour one of them. A repetition that failed is kept and told, and left out of the statistics. It prints nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from profiler.energy.figures import FIGURES
from profiler.energy.idle import Resting
from profiler.energy.meter import RATE_HZ, Meter
from profiler.errors import UsageError
from profiler.intervals import CONFIDENCE, Difference, Summary, compare, summarize
from profiler.measurement import (
    GRACE_S,
    Measurement,
    MeasurementInterruptedError,
    at_rest,
    checked_argv,
    measure_once,
    plain_descriptor,
)
from profiler.process.command import Command

NET: Final = ("gpu_energy_net_j", "cpu_package_energy_net_j")
COLUMNS: Final = ("duration_s", "cpu_s", "max_rss_mib", *FIGURES, *NET)
NO_REPETITION: Final = "no_valid_repetition"
_TOTALS: Final = ("samples", "samples_missed", "left_behind")

Told = Callable[[str, int, Measurement], None]  # "warm-up" or "repetition", its number from 1, what came of it


@dataclass(frozen=True)
class Series:
    """All repetitions of one command, in order. `summaries`: by column, over the repetitions that succeeded and know
    it; `null_reasons`: why a column has no summary."""

    argv: tuple[str, ...]
    repetitions: tuple[Measurement, ...]
    warmups: tuple[Measurement, ...] = ()

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return (*self.warmups, *self.repetitions)

    @property
    def good(self) -> tuple[Measurement, ...]:
        return tuple(measured for measured in self.repetitions if measured.status == 0)

    @property
    def status(self) -> int:
        """0, or the status of the first repetition (or warm-up) that failed."""
        return next((m.status for m in self.measurements if m.status != 0), 0)

    def values(self, column: str) -> list[float]:
        """What the successful repetitions say about a column, without those that do not know it."""
        found = [_value(measured, column) for measured in self.good]
        return [value for value in found if value is not None]

    @property
    def summaries(self) -> dict[str, Summary]:
        return {column: summarize(values) for column in COLUMNS if (values := self.values(column))}

    @property
    def null_reasons(self) -> dict[str, str]:
        return {column: self._reason(column) for column in COLUMNS if not self.values(column)}

    def _reason(self, column: str) -> str:
        known = [{**m.energy.null_reasons, **m.derived.null_reasons}.get(column, m.why) for m in self.good]
        return known[0] if known else NO_REPETITION

    def to_json(self) -> dict[str, Any]:
        """The keys of a single measurement with the means of the repetitions (totals of samples, samples_missed and
        left_behind), `statistics` by column, and each repetition as a measurement of its own."""
        summaries = self.summaries
        containments = {measured.containment for measured in self.repetitions}
        return {
            "argv": self.argv,
            "exit_code": self.status,
            "containment": containments.pop() if len(containments) == 1 else None,
            **{name: sum(_total(measured, name) for measured in self.repetitions) for name in _TOTALS},
            **{column: summaries[column].mean if column in summaries else None for column in COLUMNS},
            "null_reasons": self.null_reasons,
            "confidence": CONFIDENCE,
            "failed": len(self.repetitions) - len(self.good),
            "statistics": summaries,
            "repetitions": [measured.to_json() for measured in self.repetitions],
            "warmups": [measured.to_json() for measured in self.warmups],
        }


@dataclass(frozen=True)
class Comparison:
    """Two commands in turn. `differences`: by column that both know, the second command against the first."""

    first: Series
    second: Series

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return (*self.first.measurements, *self.second.measurements)

    @property
    def status(self) -> int:
        return self.first.status or self.second.status

    @property
    def differences(self) -> dict[str, Difference]:
        both = {column: (self.first.values(column), self.second.values(column)) for column in COLUMNS}
        return {column: compare(a, b) for column, (a, b) in both.items() if a and b}

    def to_json(self) -> dict[str, Any]:
        """The first series' keys, `versus` with those of the second, `comparison` by column."""
        return {
            **self.first.to_json(),
            "exit_code": self.status,
            "versus": self.second.to_json(),
            "comparison": self.differences,
        }


def _value(measured: Measurement, column: str) -> float | None:
    home = measured.energy if column in FIGURES else measured.derived if column in NET else measured
    value = getattr(home, column)
    return None if value is None else float(value)


def _total(measured: Measurement, name: str) -> int:
    return int(getattr(measured if name == "left_behind" else measured.energy, name))


@dataclass(frozen=True)
class Plan:
    """How often each command runs, and with what. `input_file` is opened anew as each one's stdin (None: /dev/null).
    `idle_s`: the machine is watched at rest for so long, once, before the first of them."""

    repeat: int
    warmup: int = 0
    input_file: Path | None = None
    stdout: Path | int | None = None
    timeout_s: float | None = None
    grace_s: float = GRACE_S
    rate_hz: float = RATE_HZ
    idle_s: float | None = None
    allow_uncontained: bool = False
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def __post_init__(self) -> None:
        if self.repeat < 1 or self.warmup < 0:
            raise UsageError(f"at least 1 repetition and 0 warm-ups, not {self.repeat} and {self.warmup}")


def measure_repeatedly(argv: Sequence[str], plan: Plan, told: Told = lambda *_: None) -> Series:
    """Runs `argv` `plan.warmup` + `plan.repeat` times. Ends early when the command cannot be started at all.

    Raises as `measure_command`; after a Ctrl-C the MeasurementInterruptedError has the repetitions that had ended."""
    (series,), interrupt = _measure_in_turn([checked_argv(argv)], plan, told)
    if interrupt is not None:
        raise MeasurementInterruptedError(series) from interrupt
    return series


def measure_against(
    first: Sequence[str], second: Sequence[str], plan: Plan, told: Told = lambda *_: None
) -> Comparison:
    """Runs two commands in turn, each `plan.warmup` + `plan.repeat` times. Raises as `measure_repeatedly`."""
    both, interrupt = _measure_in_turn([checked_argv(first), checked_argv(second)], plan, told)
    comparison = Comparison(*both)
    if interrupt is not None:
        raise MeasurementInterruptedError(comparison) from interrupt
    return comparison


def _measure_in_turn(
    commands: Sequence[tuple[str, ...]], plan: Plan, told: Told
) -> tuple[list[Series], KeyboardInterrupt | None]:
    """A series of each command, and the Ctrl-C that cut them short; it is raised where no repetition has ended yet."""
    interrupt: KeyboardInterrupt | None = None
    warmups: list[list[Measurement]] = [[] for _ in commands]
    repetitions: list[list[Measurement]] = [[] for _ in commands]
    with plain_descriptor(plan.stdout) as output, Meter(rate_hz=plan.rate_hz, environ=plan.env) as meter:
        idle = at_rest(meter, plan.idle_s)
        for kind, number, place in _order(len(commands), plan):
            try:
                measured = _one(commands[place], plan, output, meter, idle)
            except KeyboardInterrupt as error:
                if not any(repetitions):
                    raise KeyboardInterrupt from error  # without the part of one repetition that `error` has
                interrupt = error
                break
            (warmups if kind == "warm-up" else repetitions)[place].append(measured)
            told(kind, number, measured)
            if measured.why in ("start_failed", "keeper_killed"):
                break
    parts = zip(commands, map(tuple, repetitions), map(tuple, warmups), strict=True)
    return [Series(*one) for one in parts], interrupt


def _order(commands: int, plan: Plan) -> Iterator[tuple[str, int, int]]:
    """(kind, number, place of the command): every other round goes backwards."""
    rounds = [("warm-up", i + 1) for i in range(plan.warmup)] + [("repetition", i + 1) for i in range(plan.repeat)]
    for kind, number in rounds:
        places = range(commands) if number % 2 else reversed(range(commands))
        yield from ((kind, number, place) for place in places)


def _one(argv: tuple[str, ...], plan: Plan, output: Path | int | None, meter: Meter, idle: Resting) -> Measurement:
    stdin = None if plan.input_file is None else os.open(plan.input_file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        command = Command(
            argv=argv,
            env=plan.env,
            cwd=Path.cwd(),
            stdin=stdin,
            stdout=output,
            timeout_s=plan.timeout_s,
            grace_s=plan.grace_s,
            labels={"role": "measure"},
        )
        return measure_once(command, meter, idle, allow_uncontained=plan.allow_uncontained)
    finally:
        if stdin is not None:
            os.close(stdin)
