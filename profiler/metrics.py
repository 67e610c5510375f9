"""Turns what a trainer said (events) and printed (log) into values used, metrics, and whether it finished.

It does not judge: `profiler.verdict` does. It runs nothing, so stored logs and events can be looked at again later.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from profiler.events import DoneEvent, EpochEvent, TrainerEvents
from profiler.last_words import TERMINAL_CODE, out_of_memory

if TYPE_CHECKING:
    from profiler.workloads import MetricSpec, ModelSpec

EffectiveSource = Literal["event", "log", "argv", "none"]

MAX_LINE_CHARACTERS = 65536
_CHUNK_BYTES = 1 << 18
_SPACES = (b" ", b"\t", b"\v", b"\f")
_LONG_WORD = re.compile(rb"[^ \t\v\f]{4096,}")


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    effective: values the trainer used, None if nobody said; effective_source: who said it.
    metrics: finite values; not_finite: metrics whose deciding value was NaN or infinite.
    primary_value: value of primary_metric, None if it is missing or not finite.
    finished: the trainer said that it did every epoch; unfinished: why not, for people ("" when finished).
    """

    effective: Mapping[str, Any] | None
    effective_source: EffectiveSource
    metrics: Mapping[str, float]
    primary_metric: str
    primary_value: float | None
    finished: bool
    problems: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()
    unfinished: str = ""
    not_numbers: Mapping[str, str] = field(default_factory=dict)
    """Declared metrics whose deciding figure is something else than a number, and what."""
    out_of_memory: str | None = None
    """Its own words, by an event or as the last exception of its log, that memory ran out."""

    @property
    def null_reasons(self) -> dict[str, str]:
        """Why columns and metrics of a run's row are missing: column or metrics.<name> -> reason."""
        reasons = {f"metrics.{name}": "not_finite" for name in self.not_finite}
        if self.effective is None:
            reasons["hyperparameters"] = "not_reported_by_trainer"
        if self.primary_value is None:
            reasons["primary_metric_value"] = "not_finite" if self.primary_metric in self.not_finite else "missing"
        return reasons


@dataclass(frozen=True)
class LogFindings:
    """What patterns found in a log: figures of each metric in order (a text where one is no number), last text of each
    effective value, how many completion lines, epochs."""

    metrics: Mapping[str, tuple[float | str, ...]]
    effective: Mapping[str, str]
    completions: int
    problems: tuple[str, ...]
    epochs: int = 0


def collect(model: ModelSpec, requested: Mapping[str, Any], events: TrainerEvents, log_path: Path) -> Outcome:
    """Everything known about one training of `model` that was asked for `requested` values."""
    log = scan_log(model, log_path)
    effective, source, complaints = _effective(model, requested, events, log)
    chosen = {name: _select(spec, _figures(spec, events, log)) for name, spec in model.metrics.items()}
    wrong = {name: figure for name, figure in chosen.items() if isinstance(figure, str)}
    values = {name: None if isinstance(figure, str) else figure for name, figure in chosen.items()}
    extra = {name: value for name, value in _reported(events).items() if name not in values}
    seen = {name: value for name, value in {**values, **extra}.items() if value is not None}
    metrics = {name: value for name, value in seen.items() if math.isfinite(value)}
    unfinished = _unfinished(model, effective or requested, events, log)
    return Outcome(
        effective=effective,
        effective_source=source,
        metrics=metrics,
        primary_metric=model.primary_metric,
        primary_value=metrics.get(model.primary_metric),
        finished=not unfinished,
        problems=(*events.problems, *log.problems, *complaints),
        not_finite=tuple(name for name in seen if name not in metrics),
        unfinished=unfinished,
        not_numbers=wrong,
        out_of_memory=memory_words(events, log_path),
    )


def memory_words(events: TrainerEvents, log_path: Path) -> str | None:
    """What a trainer said of memory that ran out; None where it did not, or named another cause of its failure."""
    if events.oom:
        return events.error_text or "out of memory"
    return out_of_memory(log_path) if events.error_kind is None else None


def log_lines(path: Path) -> Iterator[str]:
    """The lines of a log without terminal codes. A carriage return ends a line too, so text glued behind a progress
    display is a line of its own. A missing file has none; lines of more than 64 Ki characters are cut between words,
    and words of more than 4 Ki passed over: half a number is none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        rest = b""
        while chunk := file.read(_CHUNK_BYTES):
            *lines, rest = re.split(rb"[\r\n]", rest + chunk)
            for line in lines:
                yield from _texts(_pieces(line))
            *pieces, rest = _pieces(rest)
            yield from _texts(pieces)
        yield from _texts([rest])


def _pieces(line: bytes) -> list[bytes]:
    """`line` in pieces that are short enough to search; all but the first begin with the space before their word."""
    pieces = []
    if len(line) > MAX_LINE_CHARACTERS:
        line = _LONG_WORD.sub(b"\0", line)
    while len(line) > MAX_LINE_CHARACTERS:
        cut = max(line.rfind(space, 1, MAX_LINE_CHARACTERS) for space in _SPACES)
        pieces.append(line[:cut])
        line = line[cut:]
    return [*pieces, line]


def _texts(lines: Iterable[bytes]) -> Iterator[str]:
    return (TERMINAL_CODE.sub("", line.decode(errors="replace")) for line in lines if line)


def scan_log(model: ModelSpec, path: Path) -> LogFindings:
    """Look for the manifest's patterns, each in one line at a time; group 1 is the number or value."""
    metrics = {name: (spec, re.compile(spec.pattern)) for name, spec in model.metrics.items() if spec.pattern}
    values = {name: re.compile(pattern) for name, pattern in model.effective_patterns.items()}
    completion = re.compile(model.completion_pattern) if model.completion_pattern else None
    if not metrics and not values and completion is None:
        return LogFindings({}, {}, 0, ())
    figures: dict[str, list[float | str]] = {name: [] for name in metrics}
    effective: dict[str, str] = {}
    problems: dict[str, None] = {}
    epoch, epochs = re.compile(model.epoch_pattern) if model.epoch_pattern else None, 0
    completions = 0
    for line in log_lines(path):
        for name, (spec, pattern) in metrics.items():
            for match in pattern.finditer(line):
                figure = _figure(spec, match)
                figures[name].append(figure)
                if isinstance(figure, str):
                    problems[f"log: {name}: {figure} is not a number"] = None
        for name, pattern in values.items():
            for match in pattern.finditer(line):
                effective[name] = match.group(1)
        completions += completion is not None and completion.search(line) is not None
        epochs += sum(1 for _ in epoch.finditer(line)) if epoch is not None else 0
    return LogFindings(
        {name: tuple(found) for name, found in figures.items()}, effective, completions, tuple(problems)[:20], epochs
    )


def _figure(spec: MetricSpec, match: re.Match[str]) -> float | str:
    """The metric's value in what its pattern found; the text where that is no number. A whole of 0 gives NaN."""
    if "whole" in match.re.groupindex:
        text = f"{match['part']}/{match['whole']}"
        part, whole = parse_number(match["part"]), parse_number(match["whole"])
        number = None if part is None or whole is None else part / whole if whole else math.nan
    else:
        text = match.group(1)
        number = parse_number(text)
    return repr(text)[:80] if number is None else spec.scale * number + spec.offset


def parse_number(text: str | None) -> float | None:
    """The number in `text`, None if it is none. A full stop that ends a sentence is not part of it."""
    number = (text or "").strip().rstrip(".")
    try:
        return None if "_" in number else float(number)  # Python takes 1_0 for 10
    except ValueError:
        return None


def _effective(
    model: ModelSpec, requested: Mapping[str, Any], events: TrainerEvents, log: LogFindings
) -> tuple[dict[str, Any] | None, EffectiveSource, tuple[str, ...]]:
    """Values used, who said so, and what could not be understood."""
    if events.effective is not None:
        return _canonical(model, events.effective), "event", ()
    asked = {name: value for name, value in requested.items() if value is not None} if model.trust_argv else {}
    if log.effective:
        found, problems = _typed(model, log.effective)
        return asked | found, "log", problems
    return (asked, "argv", ()) if model.trust_argv else (None, "none", ())


def _canonical(model: ModelSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    aliases = {alias: name for alias, name in model.hyperparameter_aliases.items() if name not in values}
    return {aliases.get(name, name): value for name, value in values.items()}


def _typed(model: ModelSpec, texts: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Values from the log in their declared types. What does not parse stays text, so it never equals a number."""
    values: dict[str, Any] = {}
    problems = []
    for name, text in texts.items():
        try:
            values[name] = model.hyperparameters[name].from_text(text)
        except ValueError:
            values[name] = text
            problems.append(f"log: {name}: {text!r} is no {model.hyperparameters[name].type}")
    return values, tuple(problems)


def _figures(spec: MetricSpec, events: TrainerEvents, log: LogFindings) -> tuple[float | str, ...]:
    """Every figure of one metric in order, a text where one is no number: from its pattern where it has one, else from
    the events, `done` last."""
    if spec.pattern and log.metrics.get(spec.name):
        return log.metrics[spec.name]
    told: list[EpochEvent | DoneEvent] = [*events.epochs]
    if events.done is not None:
        told.append(events.done)
    figures: list[dict[str, float | str]] = [{**event.not_numbers, **event.metrics} for event in told]
    return tuple(found[spec.name] for found in figures if spec.name in found)


def _select(spec: MetricSpec, figures: tuple[float | str, ...]) -> float | str | None:
    """The figure that counts: no other one stands in for a text or a NaN. For max and min these are no candidates
    unless there is nothing else."""
    if not figures:
        return None
    if spec.select in ("first", "last"):
        return figures[0 if spec.select == "first" else -1]
    finite = [figure for figure in figures if not isinstance(figure, str) and math.isfinite(figure)]
    if not finite:
        return figures[-1]
    return max(finite) if spec.select == "max" else min(finite)


def _reported(events: TrainerEvents) -> Mapping[str, float]:
    """Metrics of the last word of the trainer, declared or not."""
    if events.done is not None:
        return events.done.metrics
    return events.epochs[-1].metrics if events.epochs else {}


def _epochs_missing(model: ModelSpec, values: Mapping[str, Any], log: LogFindings) -> str:
    """Why a log with a completion line is not that of all epochs; "" if it is, or if its epochs cannot be counted."""
    expected = values.get(model.epochs_parameter or "")
    if model.epoch_pattern is None or expected is None or log.epochs == expected:
        return ""
    return f"the log shows {log.epochs} epochs, {model.epochs_parameter} is {expected}"


def _unfinished(model: ModelSpec, values: Mapping[str, Any], events: TrainerEvents, log: LogFindings) -> str:
    """Why the training does not count as finished; "" if it does."""
    if events.done is None:
        if log.completions >= model.completion_count:
            return _epochs_missing(model, values, log)
        if log.completions:
            return f"no done event, and {log.completions} of {model.completion_count} completion lines in the log"
        return "no done event" + (" and no completion line in the log" if model.completion_pattern else "")
    if events.after_done:
        return f"the done event was not the last one: {', '.join(events.after_done)} came after it"
    did = events.done.epochs
    told = sum(1 for event in events.epochs if event.epoch >= 1)  # 0: a figure from before the first epoch
    if did is not None and told > did:
        return f"{told} epoch events, the done event says {did}"
    name = model.epochs_parameter
    expected = values.get(name) if name else None
    if expected is None:
        return ""
    if did is None:
        return f"the done event does not say how many epochs it did, {name} is {expected}"
    # Under another name (max_iter) the value is an upper limit: such a trainer may stop early by its own rule.
    enough = did == expected if name == "epochs" else 1 <= did <= expected
    return "" if enough else f"done after {did} epochs, {name} is {expected}"
