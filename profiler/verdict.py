"""Judges an attempt: which reasons hold, by what was seen and measured, and what follows from them. Pure functions.

The reasons themselves, with their thresholds, stand in `profiler.reasons`.

Success = exit code 0, and the trainer said that it finished every epoch, and the primary metric is there, finite and
in its range, and the values it used are those that were asked for. Nothing that it printed can outweigh one of these.
"""

from __future__ import annotations

import math
import signal as signals
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from profiler.events import DATA_MISSING, TrainerEvents
from profiler.last_words import EXCEPTION_EXIT_CODE
from profiler.metrics import Outcome
from profiler.reasons import REASONS as REASONS
from profiler.reasons import THRESHOLDS, Level, limits

if TYPE_CHECKING:
    from profiler.workloads import ModelSpec

VerdictName = Literal["valid", "contaminated", "failed"]

_HOPELESS_EXIT_CODES = {2: "wrong arguments", 126: "cannot be executed", 127: "not found"}
_HOPELESS_SIGNALS = {signals.SIGILL, signals.SIGSYS, signals.SIGXCPU, signals.SIGXFSZ}
_HOPELESS_ENDS = ("start_failed", "timeout")


@dataclass(frozen=True)
class Finding:
    """A reason, and what was seen. `retry` overrides the reason's answer where the evidence knows more.

    `value` is the quantity that the reason's threshold is compared with: the reason holds where it crosses the limit.
    Without one it holds. `start_ns`..`end_ns` (CLOCK_MONOTONIC) is when it was seen, `culprit` who did it."""

    reason: str
    evidence: str
    retry: bool | None = None
    value: float | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    culprit: str = ""

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"no reason {self.reason!r}; there are {', '.join(REASONS)}")

    @property
    def level(self) -> Level:
        return REASONS[self.reason].level

    @property
    def retry_may_help(self) -> bool:
        return REASONS[self.reason].retry if self.retry is None else self.retry

    def holds(self, limit: Mapping[str, float]) -> bool:
        threshold = THRESHOLDS.get(self.reason)
        if threshold is None or self.value is None:
            return True
        return threshold.crossed(self.value, limit[self.reason])

    def to_json(self) -> dict[str, Any]:
        """What is known of it; `Finding(**...)` reads it back."""
        return {name: value for name, value in vars(self).items() if value not in (None, "") or name == "evidence"}


def that_hold(findings: Iterable[Finding], limit: Mapping[str, float] | None = None) -> list[Finding]:
    """Those of `findings` whose value crosses its limit, or that need none. `limit`: as `reasons.limits` gives it."""
    known = limits() if limit is None else limit
    return [finding for finding in findings if finding.holds(known)]


@dataclass(frozen=True)
class Verdict:
    """What follows from the findings: `reasons` (worst first) and their `evidence`."""

    verdict: VerdictName
    valid: bool
    safe: bool
    reasons: tuple[str, ...]
    evidence: Mapping[str, str]


def judge(findings: Iterable[Finding]) -> Verdict:
    """The verdict of an attempt: failed if any reason is a fail, contaminated if any is unsafe, else valid."""
    evidence: dict[str, list[str]] = {}
    for finding in findings:
        evidence.setdefault(finding.reason, []).append(finding.evidence)
    reasons = tuple(name for name in REASONS if name in evidence)
    levels = {REASONS[name].level for name in reasons}
    verdict: VerdictName = "failed" if "fail" in levels else "contaminated" if "unsafe" in levels else "valid"
    texts = {name: "; ".join(dict.fromkeys(text for text in evidence[name] if text)) for name in reasons}
    return Verdict(verdict, verdict != "failed", verdict == "valid", reasons, texts)


def retry_may_help(findings: Iterable[Finding]) -> bool:
    """Whether another attempt has a chance: it failed, and none of the failures is bound to come again."""
    failures = [finding for finding in findings if finding.level == "fail"]
    return bool(failures) and all(finding.retry_may_help for finding in failures)


class Exit(Protocol):
    """How a trainer ended, as its keeper reports it."""

    @property
    def exit_code(self) -> int | None: ...
    @property
    def signal(self) -> int | None: ...
    @property
    def why(self) -> str: ...
    @property
    def error(self) -> str | None: ...


def judge_training(
    report: Exit,
    outcome: Outcome,
    events: TrainerEvents,
    requested: Mapping[str, Any],
    model: ModelSpec,
    *,
    host_oom: str | None = None,
) -> list[Finding]:
    """Findings about the training itself. `host_oom`: evidence that the kernel killed it for memory, if there is any.

    What follows from a bad end (no metric, not finished) is not a finding of its own.
    """
    ended = _end(report, outcome, events, host_oom)
    applied = parameter_findings(outcome, requested, model)
    if ended:
        return [*ended, *applied]
    return [*_finish(outcome, events), *metric_findings(outcome, model), *applied]


def _end(report: Exit, outcome: Outcome, events: TrainerEvents, host_oom: str | None) -> list[Finding]:
    status = _status(report)
    if report.why == "start_failed":
        return [Finding("start_failed", report.error or "the program could not be started")]
    if report.why == "timeout":
        return [Finding("timeout", f"ended by the time-out; {status}")]
    if report.why != "exited":
        return [Finding("interrupted", f"{report.why.replace('_', ' ')}; {status}")]
    if report.exit_code == 0 and events.done is not None:
        return []
    # The kernel may have ended a stranger: what ended well, or by another signal, did not end for lack of memory.
    may_be_killed = report.exit_code != 0 and report.signal in (None, signals.SIGKILL, signals.SIGABRT)
    said = outcome.out_of_memory if report.exit_code == EXCEPTION_EXIT_CODE or events.oom else None
    cause = _named_cause(events, said, host_oom if may_be_killed else None)
    if cause:
        return [Finding(cause[0], f"{cause[1]}; {status}")]
    if report.signal is not None:
        return [Finding("signal", status, not is_hopeless(report.why, report.exit_code, report.signal))]
    if report.exit_code != 0:
        return [Finding("exit", status, not is_hopeless(report.why, report.exit_code, report.signal))]
    return []


def _named_cause(events: TrainerEvents, out_of_memory: str | None, host_oom: str | None) -> tuple[str, str] | None:
    if out_of_memory is not None:
        return "oom", f"the trainer says: {out_of_memory}"
    if host_oom:
        return "oom", host_oom
    if events.error_kind == DATA_MISSING:
        return "data_missing", f"the trainer says: {events.error_text or 'data missing'}"
    return None


def _status(report: Exit) -> str:
    if report.signal is not None:
        return f"signal {report.signal} ({signal_name(report.signal)})"
    if report.exit_code is None:
        return report.error or "nobody saw its end"
    meaning = _HOPELESS_EXIT_CODES.get(report.exit_code)
    return f"exit code {report.exit_code}" + (f" ({meaning})" if meaning else "")


def signal_name(number: int) -> str:
    """SIGKILL for 9; the number itself for a signal without a name."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return str(number)


def is_hopeless(why: str | None, exit_code: int | None, signal: int | None) -> bool:
    """Whether a training that ended so would end so the next time."""
    return why in _HOPELESS_ENDS or signal in _HOPELESS_SIGNALS or exit_code in _HOPELESS_EXIT_CODES


def _finish(outcome: Outcome, events: TrainerEvents) -> list[Finding]:
    if outcome.finished:
        return []
    said = f"; the trainer says: {events.error_text}" if events.error_text else ""
    return [Finding("not_finished", outcome.unfinished + said)]


def metric_findings(outcome: Outcome, model: ModelSpec) -> list[Finding]:
    """Primary metric absent or not finite; any declared metric outside its range."""
    findings = []
    primary = outcome.primary_metric
    if primary in outcome.not_finite:
        findings.append(Finding("metric_out_of_range", f"{primary} is not a finite number"))
    elif outcome.primary_value is None:
        said = outcome.not_numbers.get(primary)
        text = f"{primary} is {said}, not a number" if said else f"{primary} was not reported"
        findings.append(Finding("metric_missing", text))
    for name, spec in model.metrics.items():
        value = outcome.metrics.get(name)
        if value is not None and not _within(value, spec.minimum, spec.maximum):
            text = f"{name} = {value!r}, allowed {_bound(spec.minimum)} to {_bound(spec.maximum)}"
            findings.append(Finding("metric_out_of_range", text))
    return findings


def _within(value: float, minimum: float | None, maximum: float | None) -> bool:
    return (minimum is None or value >= minimum) and (maximum is None or value <= maximum)


def _bound(bound: float | None) -> str:
    return "any" if bound is None else f"{bound:g}"


def parameter_findings(outcome: Outcome, requested: Mapping[str, Any], model: ModelSpec) -> list[Finding]:
    """Each value that was asked for and is not the one used. A value asked for as None is the trainer's own choice."""
    asked = {name: value for name, value in requested.items() if value is not None}
    if outcome.effective is None:
        text = "no config event" + ("; its log patterns found nothing" if model.effective_patterns else "")
        return [Finding("effective_unknown", text)] if asked else []
    unknown = [n for n in asked if n not in outcome.effective and _unobserved(n, outcome, model)]
    findings = [
        Finding("parameter_not_applied", text)
        for name, value in asked.items()
        if name not in unknown and (text := _difference(name, value, outcome.effective, model))
    ]
    if unknown:
        findings.append(Finding("effective_unknown", f"no pattern shows {', '.join(unknown)}"))
    return findings


def _unobserved(name: str, outcome: Outcome, model: ModelSpec) -> bool:
    """Values read from a log are known only where the manifest has a pattern for them."""
    return outcome.effective_source == "log" and name not in model.effective_patterns


def _difference(name: str, asked: Any, effective: Mapping[str, Any], model: ModelSpec) -> str:
    if name not in effective:
        return f"{name}: asked {asked!r}, the trainer does not report it"
    spec = model.hyperparameters.get(name)
    if same_value(asked, effective[name], spec.type if spec else None):
        return ""
    return f"{name}: asked {asked!r}, used {effective[name]!r}"


def same_value(asked: Any, used: Any, kind: str | None = None) -> bool:
    """Equal to the last bit and in type. An integer and a float are the same number only for a float parameter;
    a truth value is never a number. `kind`: int, float, str, bool, or None for an undeclared parameter."""
    if isinstance(asked, bool) or isinstance(used, bool):
        return isinstance(asked, bool) and isinstance(used, bool) and asked is used
    if kind == "float" and isinstance(asked, int | float) and isinstance(used, int | float):
        return asked == used and math.copysign(1, asked) == math.copysign(1, used)
    if type(asked) is not type(used):
        return False
    if isinstance(asked, float):
        return bool(asked == used) and math.copysign(1, asked) == math.copysign(1, used)
    return bool(asked == used)
