"""Splits the energy of one GPU among foreground, background, idling and others. Pure; the parts always add up.

What an idle GPU would have used comes off first. The rest is split half second by half second, by what the driver says
each process kept busy of the SMs; where both partners were measured alone before, each is weighted with the watts that
a percent of its activity took then while it trained, because under time slicing one of them has the GPU at a time.
Where the driver tells no process apart (MPS), the watts of the solo runs alone split it. Where neither is known there
is no split.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final, Literal

from profiler.energy import integral
from profiler.energy.idle import IdlePower
from profiler.energy.integral import Point
from profiler.gpu_activity import ActivityWindow

Role = Literal["foreground", "background", "other"]
Confidence = Literal["high", "medium", "low"]
ROLES: Final[tuple[Role, ...]] = ("foreground", "background", "other")
BIN_S: Final = 0.5
HIGH_SHARE: Final = 0.9  # of the energy above idle must fall into time in which somebody was seen working
MEDIUM_SHARE: Final = 0.5

RESOLUTION_W: Final = 0.001  # a power curve below what a sensor can tell has no shape
UTILISATION_MARGIN: Final = 0.15  # what the driver says of processes and of the device may differ by this share
UTILISATION_MARGIN_PERCENT: Final = 2.0

NO_BASELINE: Final = "no_idle_baseline"
NOT_TOLD_APART: Final = "processes_not_told_apart"
LEAST_COMPARED_S: Final = 5.0  # of a shorter window the driver's delay is too large a part

NOT_SAMPLED: Final = "partner_not_sampled"
"""It says that it trained, and the driver has no sample of it at all: that is no reading of 0."""
NO_WINDOW: Final = "empty_window"
IDLE_ABOVE_RUN: Final = "idle_baseline_above_run"
"""Somebody worked, and yet the whole window lies at or below the idle power, which is none then."""


@dataclass(frozen=True)
class GpuEnergy:
    """The whole device in the window: J of the counter, and the power curve over it (CLOCK_MONOTONIC ns)."""

    total_j: float
    t0_ns: int
    t1_ns: int
    points: Sequence[Point]

    @property
    def duration_s(self) -> float:
        return (self.t1_ns - self.t0_ns) / 1e9


@dataclass(frozen=True)
class SoloPower:
    """One partner alone on the same kind of GPU: mean W above idle; from its first optimiser step to its own end mean W
    above idle, and mean percent of the SMs (None: not known, or too short to tell)."""

    above_idle_w: float
    training_w: float | None = None
    training_sm_percent: float | None = None


@dataclass(frozen=True)
class Shares:
    """J of each part; all None, with `null_reason`, where there is no split. `sm_ratio_*`: the plain figure for
    comparison, the whole energy by mean activity. `sm_*_percent`: mean activity of each partner."""

    foreground_j: float | None = None
    background_j: float | None = None
    idle_j: float | None = None
    other_j: float | None = None
    method: str | None = None
    confidence: Confidence | None = None
    sm_ratio_foreground_j: float | None = None
    sm_ratio_background_j: float | None = None
    sm_foreground_percent: float | None = None
    sm_background_percent: float | None = None
    null_reason: str | None = None


def attribute(
    energy: GpuEnergy,
    idle: IdlePower,
    activity: ActivityWindow,
    roles: Mapping[int, Role],
    *,
    paired: bool,
    solo: Mapping[Role, SoloPower] | None = None,
    told_apart: bool = True,
    training_s: Mapping[Role, float] | None = None,
    utilisation_percent: float | None = None,
) -> Shares:
    """The split of `energy`. `roles`: whose each PID is (others are strangers); `paired`: there was a background on the
    GPU; `solo`: what each partner took alone; `told_apart` False: activity is reported under a server's PID (MPS);
    `training_s`: for how long of the window a partner was between its first step and its end, by its events, where that
    is known; `utilisation_percent`: the device's mean, to hold the processes' against."""
    training_s = training_s or {}
    if energy.t1_ns <= energy.t0_ns:
        return Shares(null_reason=NO_WINDOW)
    bins = _bins(energy, activity if told_apart else ActivityWindow(()), roles)
    known = told_apart and activity.null_reason is None
    plain = _plain(energy, bins, paired) if known else Shares()
    if idle.power_w is None:
        return _with(plain, null_reason=f"{NO_BASELINE}: {idle.null_reason}")
    above = [max(0.0, item.energy_j - idle.power_w * item.seconds) for item in bins]
    seen = any(any(item.sm.values()) for item in bins)
    if (seen or not told_apart) and not any(above):
        return _with(plain, null_reason=IDLE_ABOVE_RUN)
    if not paired:
        return _with(plain, **_remainder(energy, bins, above, known))
    if known and seen:
        sampled = {roles.get(one.pid, "other") for one in activity.activities}
        unseen = [role for role, seconds in training_s.items() if seconds > 0 and role not in sampled]
        if unseen:
            nothing = dict.fromkeys(f"sm_{role}_percent" for role in unseen)
            ratios = {"sm_ratio_foreground_j": None, "sm_ratio_background_j": None}
            return _with(plain, **nothing, **ratios, null_reason=f"{NOT_SAMPLED}: {', '.join(unseen)}")
        faint = any(seconds > 0 and not any(one.sm[role] for one in bins) for role, seconds in training_s.items())
        doubtful = faint or not _agrees(energy, bins, utilisation_percent)
        return _with(plain, **_sliced(energy, bins, above, solo or {}, doubtful=doubtful))
    if solo and all(role in solo for role in ("foreground", "background")):
        return _with(plain, **_calibrated(energy, sum(above), solo, training_s.get("background")))
    return _with(plain, null_reason=f"{NOT_TOLD_APART}: {_why(activity, told_apart)}; no solo runs of both to go by")


def _why(activity: ActivityWindow, told_apart: bool) -> str:
    if not told_apart:
        return "mps"
    return activity.null_reason or "nobody_seen_working"


@dataclass(frozen=True)
class _Bin:
    """A piece of the window: its J (all bins together are the total), and each role's mean percent of the SMs."""

    seconds: float
    energy_j: float
    sm: Mapping[Role, float]


def _bins(energy: GpuEnergy, activity: ActivityWindow, roles: Mapping[int, Role]) -> list[_Bin]:
    count = max(1, int(energy.duration_s / BIN_S))
    width_ns = (energy.t1_ns - energy.t0_ns) / count
    edges = [energy.t0_ns + round(number * width_ns) for number in range(count)] + [energy.t1_ns]
    joules = _joules(energy, edges)
    means: list[dict[Role, float]] = [dict.fromkeys(ROLES, 0.0) for _ in range(count)]
    for seen in activity.activities:
        role = roles.get(seen.pid, "other")
        first, last = (int((t_ns - energy.t0_ns) / width_ns) for t_ns in (seen.since_ns, seen.t_ns))
        for number in range(max(0, first), min(count - 1, last) + 1):
            covered_s = seen.seconds_in(edges[number], edges[number + 1])
            means[number][role] += seen.sm_percent * covered_s * 1e9 / width_ns
    return [_Bin(width_ns / 1e9, part_j, sm) for part_j, sm in zip(joules, means, strict=True)]


def _joules(energy: GpuEnergy, edges: Sequence[int]) -> list[float]:
    """The counter's energy over the pieces between `edges`, in proportion to the power curve; evenly where there is
    none, or its mean is below RESOLUTION_W."""
    whole = integral.integrate(energy.points, energy.t0_ns, energy.t1_ns).energy_j
    if not whole or whole < RESOLUTION_W * energy.duration_s:
        return [energy.total_j / (len(edges) - 1)] * (len(edges) - 1)
    times = [point.t_ns for point in energy.points]
    steps = [(a.power_w + b.power_w) / 2 * (b.t_ns - a.t_ns) for a, b in pairwise(energy.points)]
    sums = list(accumulate(steps, initial=0.0))
    at_edges = [_until(energy.points, times, sums, edge) for edge in edges]
    scale = energy.total_j / (at_edges[-1] - at_edges[0])
    return [scale * (after - before) for before, after in pairwise(at_edges)]


def _until(points: Sequence[Point], times: Sequence[int], sums: Sequence[float], t_ns: int) -> float:
    """The curve's integral from its first point to `t_ns`, in W ns; beyond its ends the outermost power goes on."""
    index = max(0, bisect_right(times, t_ns) - 1)
    nearest = points[index]
    if index + 1 == len(points) or t_ns < nearest.t_ns:
        return sums[index] + nearest.power_w * (t_ns - nearest.t_ns)
    after = points[index + 1]
    slope = (after.power_w - nearest.power_w) / (after.t_ns - nearest.t_ns)
    here_w = nearest.power_w + slope * (t_ns - nearest.t_ns)
    return sums[index] + (nearest.power_w + here_w) / 2 * (t_ns - nearest.t_ns)


def _plain(energy: GpuEnergy, bins: Sequence[_Bin], paired: bool) -> Shares:
    mean = {role: sum(item.sm[role] for item in bins) / len(bins) for role in ROLES}
    total = sum(mean.values())
    return Shares(
        sm_ratio_foreground_j=energy.total_j * mean["foreground"] / total if total else None,
        sm_ratio_background_j=energy.total_j * mean["background"] / total if total else None,
        sm_foreground_percent=mean["foreground"],
        sm_background_percent=mean["background"] if paired else None,
    )


def _parts(energy: GpuEnergy, above_j: float, foreground_j: float, background_j: float) -> dict[str, float]:
    """Idling is what is not above it, and others have what is left: so the sum is the total whatever came before."""
    idle_j = energy.total_j - above_j
    other_j = energy.total_j - idle_j - foreground_j - background_j
    return {"foreground_j": foreground_j, "background_j": background_j, "idle_j": idle_j, "other_j": max(0.0, other_j)}


def _remainder(energy: GpuEnergy, bins: Sequence[_Bin], above: Sequence[float], known: bool) -> dict[str, object]:
    """A solo run: everything above idle is its own, but for what strangers were seen working for."""
    weights: Mapping[Role, float] = dict.fromkeys(ROLES, 1.0)
    others = [part * _share(item, "other", weights) for item, part in zip(bins, above, strict=True)]
    parts = _parts(energy, sum(above), sum(above) - sum(others), 0.0)
    return {**parts, "method": "above_idle", "confidence": "high" if known else "medium"}


def _sliced(
    energy: GpuEnergy,
    bins: Sequence[_Bin],
    above: Sequence[float],
    solo: Mapping[Role, SoloPower],
    doubtful: bool,
) -> dict[str, object]:
    weights = _weights(solo)
    pairs = list(zip(bins, above, strict=True))
    shares = {role: sum(part * _share(item, role, weights) for item, part in pairs) for role in ROLES}
    explained = sum(part for item, part in pairs if any(item.sm.values()))
    share = explained / sum(above) if sum(above) > 0 else 1.0
    confidence: Confidence = "high" if share >= HIGH_SHARE else "medium" if share >= MEDIUM_SHARE else "low"
    if doubtful:
        confidence = "low"
    parts = _parts(energy, sum(above), shares["foreground"], shares["background"])
    method = "time_slice_weighted" if weights["foreground"] != weights["background"] else "time_slice"
    return {**parts, "method": method, "confidence": confidence}


def _agrees(energy: GpuEnergy, bins: Sequence[_Bin], utilisation_percent: float | None) -> bool:
    """Whether all processes together were as busy as the device, which never runs two of them at a time."""
    if utilisation_percent is None or energy.duration_s < LEAST_COMPARED_S:
        return True
    together = sum(sum(item.sm.values()) for item in bins) / len(bins)
    gap = abs(together - utilisation_percent)
    return gap <= max(UTILISATION_MARGIN_PERCENT, UTILISATION_MARGIN * utilisation_percent)


def mean_sm_percent(window: ActivityWindow, pids: Collection[int], t0_ns: int, t1_ns: int) -> float | None:
    """The mean share of the SMs that `pids` kept busy in [t0_ns, t1_ns]; None where the driver does not tell."""
    if window.null_reason is not None or t1_ns <= t0_ns:
        return None
    own = [seen for seen in window.activities if seen.pid in pids]
    return sum(seen.sm_percent * seen.seconds_in(t0_ns, t1_ns) for seen in own) * 1e9 / (t1_ns - t0_ns)


def _weights(solo: Mapping[Role, SoloPower]) -> dict[Role, float]:
    """W above idle for each percent of the SMs while it trained, as parts of the larger one; 1 for all where it is not
    known of both partners. The whole run would not do: a context takes power above idle without any activity."""
    known: dict[Role, float] = {
        role: power.training_w / power.training_sm_percent
        for role, power in solo.items()
        if power.training_w is not None and power.training_sm_percent
    }
    largest = max(known.values(), default=0.0)
    if not {"foreground", "background"} <= known.keys() or min(known.values()) <= 0 or not math.isfinite(largest):
        return dict.fromkeys(ROLES, 1.0)
    weights = {role: value / largest for role, value in known.items()}
    return {**weights, "other": sum(weights.values()) / len(weights)}


def _share(item: _Bin, role: Role, weights: Mapping[Role, float]) -> float:
    total = sum(item.sm[each] * weights[each] for each in ROLES)
    return item.sm[role] * weights[role] / total if total else 0.0


def _calibrated(
    energy: GpuEnergy, above_j: float, solo: Mapping[Role, SoloPower], background_s: float | None
) -> dict[str, object]:
    beside_w = _beside_w(solo["background"], energy.duration_s, background_s)
    first, second = max(0.0, solo["foreground"].above_idle_w), max(0.0, beside_w)
    if first + second <= 0:
        return {"null_reason": "solo_runs_took_no_power_above_idle"}
    foreground_j = above_j * first / (first + second)
    parts = _parts(energy, above_j, foreground_j, above_j - foreground_j)
    return {**parts, "method": "solo_calibration", "confidence": "medium"}


def _beside_w(background: SoloPower, window_s: float, trained_s: float | None) -> float:
    """W above idle in the window of a pair, which holds all of the foreground but not the background's first start:
    what it took alone while it trained, for as long as it did."""
    if background.training_w is None or trained_s is None:
        return background.above_idle_w
    return background.training_w * min(1.0, trained_s / window_s)


def _with(shares: Shares, **changes: object) -> Shares:
    return Shares(**{**vars(shares), **changes})
