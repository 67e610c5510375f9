"""What a campaign is doing now, folded from the driver's events. Pure: prints nothing, is told the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Event = Mapping[str, Any]


@dataclass(frozen=True)
class CurrentStep:
    """One run in work: its attempt, what it does (`step`), the step's known length in seconds (or None), and
    since when it does it (`since_s`, on the view's clock)."""

    experiment_id: str
    attempt: int
    step: str
    seconds: float | None
    since_s: float

    def is_over(self, now_s: float) -> bool:
        """Cooling comes last and nothing tells its end: it is over when its time has passed."""
        return self.step == "cooling" and self.seconds is not None and now_s - self.since_s >= self.seconds

    def text(self, now_s: float) -> str:
        """For example ``cooling 12/60 s`` or ``training 48 s``."""
        spent = max(0.0, now_s - self.since_s)
        if self.seconds is not None:
            return f"{self.step} {min(spent, self.seconds):.0f}/{self.seconds:.0f} s"
        return f"{self.step} {duration_text(spent)}"


@dataclass
class Progress:
    """The state of one campaign as its observer sees it."""

    started_s: float
    session_id: str | None = None
    path: str | None = None
    total: int = 0
    finished: int = 0
    attempts: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    current: dict[str, CurrentStep] = field(default_factory=dict)
    watts: dict[str, float | None] = field(default_factory=dict)
    last_finished_s: float | None = None
    ended: bool = False

    def apply(self, event: Event, now_s: float) -> None:
        """Takes one event in. Events of an unknown kind change nothing."""
        match event["event"]:
            case "session":
                self.session_id, self.path = event["session_id"], str(event["path"])
                self.total = int(event["runs"])
            case "step":
                self.current[event["run_id"]] = CurrentStep(
                    event["experiment_id"], int(event["attempt"]), event["step"], event.get("seconds"), now_s
                )
            case "cooled":
                self.current.pop(event["run_id"], None)
            case "power":
                self.watts = dict(event["watts"])
            case "attempt":
                self._attempt_ended(event["row"], now_s)
            case "end":
                self.current.clear()
                self.ended = True

    def _attempt_ended(self, row: Mapping[str, Any], now_s: float) -> None:
        self.attempts += 1
        self.current.pop(row["run_id"], None)
        if not row.get("is_final"):
            return
        self.finished += 1
        self.last_finished_s = now_s
        self.verdicts[str(row.get("verdict"))] += 1

    def steps(self, now_s: float) -> list[CurrentStep]:
        """What is going on now, oldest run first."""
        return [step for step in self.current.values() if not step.is_over(now_s)]

    def eta_s(self, now_s: float) -> float | None:
        """Expected seconds to the end, from the mean pace so far; None before the first run has ended."""
        remaining = self.total - self.finished
        if self.last_finished_s is None or remaining < 0:
            return None
        pace_s = (self.last_finished_s - self.started_s) / self.finished
        return max(0.0, remaining * pace_s - (now_s - self.last_finished_s))

    def counts_text(self) -> str:
        """For example ``3/10 runs, 2 valid, 1 failed``."""
        parts = [f"{self.finished}/{self.total} runs"]
        parts += [f"{count} {verdict}" for verdict, count in sorted(self.verdicts.items(), key=_verdict_order)]
        return ", ".join(parts)


def _verdict_order(item: tuple[str, int]) -> int:
    order = ("valid", "contaminated", "failed")
    return order.index(item[0]) if item[0] in order else len(order)


def duration_text(seconds: float | None) -> str:
    """Seconds for people: ``48 s``, ``3 min 05 s``, ``2 h 07 min``; ``-`` for None."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def attempt_text(row: Mapping[str, Any]) -> str:
    """One line on an attempt that ended: verdict, duration, energy where known, the metric, the reasons."""
    parts = [f"{row.get('verdict')}" + (f" in {row['duration_s']:.1f} s" if row.get("duration_s") is not None else "")]
    for column, label in (("gpu_energy_j", "GPU"), ("cpu_energy_total_j", "CPU")):
        if row.get(column) is not None:
            parts.append(f"{label} {energy_text(row[column])}")
    if row.get("primary_metric_value") is not None:
        parts.append(f"{row.get('primary_metric')} {row['primary_metric_value']:.4g}")
    reasons = [reason for reason in row.get("reasons") or [] if reason != "no_energy_source"]
    if reasons:
        parts.append("reasons: " + " ".join(reasons))
    if not row.get("is_final"):
        parts.append("will be tried again")
    return ", ".join(parts)


def energy_text(joules: float | None) -> str:
    """Joules for people: ``812 J``, ``12.3 kJ``; ``-`` for None."""
    if joules is None:
        return "-"
    if abs(joules) < 1_000:
        return f"{joules:.4g} J"
    if abs(joules) < 1_000_000:
        return f"{joules / 1_000:.4g} kJ"
    return f"{joules / 1_000_000:.4g} MJ"
