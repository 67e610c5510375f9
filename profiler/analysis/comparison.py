"""Declares what a comparison of A with B hands out: figures with intervals, or the reason why not. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from profiler.analysis.results import ALPHA, LEVEL

Method = Literal["paired t", "Welch t"]


@dataclass(frozen=True)
class OutcomeComparison:
    """One figure in A and in B.

    `a_mean`, `b_mean` and `difference` (B - A) in `unit`, over `a_runs` and `b_runs` runs, or, paired, over `pairs`
    sets of values that both have. `low`..`high`: 95 % interval of the difference. `percent`: difference / a_mean, None
    where that is not above zero. `p_adjusted`: Holm over all tests of the comparison. `different`: p_adjusted below
    0.05; None where no test was possible, which `reason` explains. `note`: what limits the figure. `a_nulls`,
    `b_nulls`: runs without the figure, by reason.
    """

    outcome: str
    unit: str
    a_runs: int
    b_runs: int
    pairs: int | None = None
    a_mean: float | None = None
    b_mean: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    percent: float | None = None
    method: Method | None = None
    p: float | None = None
    p_adjusted: float | None = None
    different: bool | None = None
    reason: str | None = None
    note: str | None = None
    a_nulls: Mapping[str, int] = field(default_factory=dict)
    b_nulls: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupComparison:
    """One training in A and in B: the same model in the same mode with the same background, or a command.

    `a_gpu`, `b_gpu`: product names. `notes`: what limits the comparison, such as two different devices. `reason`: why
    nothing is compared, None otherwise."""

    title: str
    repo: str | None
    model: str | None
    mode: str | None
    background: str | None
    a_gpu: str | None
    b_gpu: str | None
    a_runs: int
    b_runs: int
    outcomes: tuple[OutcomeComparison, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Side:
    """One of the two: its `name`, how many `runs` it has and how many are `used`, and why the others are not."""

    name: str
    runs: int
    used: int
    excluded: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A and B in every group that either has. `reason`: why nothing could be judged, None where something was."""

    a: Side
    b: Side
    groups: tuple[GroupComparison, ...]
    safe_only: bool
    notes: tuple[str, ...] = ()
    level: float = LEVEL
    alpha: float = ALPHA
    correction: str = "Holm over all tests of the comparison"
    reason: str | None = None

    @property
    def tests(self) -> int:
        """How many differences were tested."""
        return sum(outcome.p is not None for group in self.groups for outcome in group.outcomes)

    @property
    def different(self) -> int:
        """How many were found."""
        return sum(outcome.different is True for group in self.groups for outcome in group.outcomes)

    def to_json(self) -> dict[str, Any]:
        """Nested dicts and numbers, ready for `json.dumps`; with the counts `tests` and `different`."""
        return {**asdict(self), "tests": self.tests, "different": self.different}
