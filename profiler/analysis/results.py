"""Declares what an analysis of effects hands out: frozen values, each figure with its interval or the reason why not.

It computes nothing. A figure that could not be had is None, and the `reason` beside it says why, in words for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

LEVEL = 0.95
"""Confidence level of every interval."""

ALPHA = 0.05
"""An adjusted p below this counts as significant."""

Mode = Literal["solo", "parallel", "both"]
Scale = Literal["linear", "log2", "category"]


@dataclass(frozen=True)
class Figure:
    """An estimate with its 95 % interval, `low` <= `value` <= `high`."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Figure:
        """The same times `factor`; a negative one turns the interval round."""
        ends = sorted((self.low * factor, self.high * factor))
        return Figure(self.value * factor, ends[0], ends[1])


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter of a group as the analysis took it.

    `scale`: log2 for one that is drawn log-uniformly (an effect is then per doubling), category for texts and truth
    values, else linear. `distinct`: different values among the runs used. `low`, `high`: the range seen (numbers only).
    `reason`: why it has no effect figures; None when it has.
    """

    name: str
    scale: Scale | None
    distinct: int
    low: float | None
    high: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Effect:
    """What one term of a hyperparameter does to one outcome, the other hyperparameters held fixed.

    `term` is the hyperparameter's name, or `name=value` for a category or for exact zeros of a logarithmic one. `per`
    says what `slope` is per: "1" (one unit), "doubling", or "full -> reduced". `slope`: outcome's unit per that.
    `standardised`: standard deviations of the outcome per standard deviation of the term (a category: per switch).
    `percent`: of the outcome's mean, per standard deviation (a category: per switch); None where the mean is not above
    zero. `p`: two-sided, robust; `p_adjusted`: Benjamini-Hochberg over the group. In a group of mode `both` an effect
    is an interaction: the slope in parallel runs minus the slope in solo runs.
    `rank_correlation` (Spearman, -1..1) and `rank` (1 = strongest) are the second opinion; an interaction has none.
    """

    hyperparameter: str
    term: str
    per: str
    slope: Figure
    standardised: Figure
    percent: Figure | None
    p: float
    p_adjusted: float
    significant: bool
    rank_correlation: float | None = None
    rank_p: float | None = None
    rank: int | None = None


@dataclass(frozen=True)
class Mediation:
    """How much of a term's effect on an outcome goes through a mediator (product of coefficients).

    `indirect`: term -> mediator times mediator -> outcome, in the outcome's unit per `per` of the effect; `direct`: the
    slope that is left with the mediator held fixed; `total`: their sum. `share`: indirect / total, None where the total
    is not significant. `p`: the larger of the two paths' p; `p_adjusted`: Benjamini-Hochberg over the group.
    """

    hyperparameter: str
    term: str
    mediator: str
    indirect: Figure
    direct: float
    total: float
    share: float | None
    p: float
    p_adjusted: float
    significant: bool
    runs: int


@dataclass(frozen=True)
class OutcomeEffects:
    """All effects on one outcome in one group. `outcome` is a column of `runs`, `total_energy_j` (CPU, DRAM and GPU) or
    the primary metric (`is_metric`). `runs`: how many entered. `r_squared`: share of the variance that the
    hyperparameters explain. `reason`: why there are no effects, None when there are."""

    outcome: str
    unit: str
    is_metric: bool
    runs: int
    mean: float | None
    sd: float | None
    r_squared: float | None
    effects: tuple[Effect, ...] = ()
    mediations: tuple[Mediation, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Tradeoff:
    """What moving one hyperparameter in the direction that saves energy does to the primary metric.

    `change`: "raise", "lower", or "full -> reduced". `energy` and `metric`: change in the columns `energy_column` and
    `metric_name` per step (a standard deviation, or the switch), signed. `kind`: "saves energy, costs quality", "saves
    energy, improves quality", or "saves energy, no difference in quality found".
    """

    hyperparameter: str
    term: str
    change: str
    energy_column: str
    energy: Figure
    energy_percent: Figure | None
    metric_name: str
    metric: Figure
    kind: str


@dataclass(frozen=True)
class GroupEffects:
    """The effects in the runs of one model in one mode. `mode`: "solo" (default and mutation), "parallel", or "both",
    which has the interactions of hyperparameter and parallel only. `reason`: why there are none; None when there are.
    `adjusted_for`: conditions that differ between the runs and are held fixed, such as gpu_name."""

    repo: str
    model: str
    mode: Mode
    runs: int
    hyperparameters: tuple[Hyperparameter, ...] = ()
    outcomes: tuple[OutcomeEffects, ...] = ()
    tradeoffs: tuple[Tradeoff, ...] = ()
    adjusted_for: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Effects:
    """All groups, in order of repository, model, mode. `runs` rows were given, `used` of them entered, `excluded` says
    for the others why (reason -> rows). `reason`: why there is no group with effects; None when there is one."""

    groups: tuple[GroupEffects, ...]
    runs: int
    used: int
    excluded: Mapping[str, int] = field(default_factory=dict)
    safe_only: bool = True
    level: float = LEVEL
    alpha: float = ALPHA
    correction: str = "Benjamini-Hochberg over each group"
    method: str = "ordinary least squares, HC3 errors"
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Nested dicts, lists and numbers: ready for `json.dumps`."""
        return asdict(self)
