"""The split of a GPU's energy: the sum is always the total, and planted shares come back."""

from __future__ import annotations

import random
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from profiler.energy.attribution import GpuEnergy, Role, Shares, SoloPower, attribute
from profiler.energy.idle import IdlePower
from profiler.energy.integral import Point
from profiler.gpu_activity import Activity, ActivityWindow

SECOND = 1_000_000_000
FRONT, BACK, STRANGER = 10, 20, 30
ROLES: dict[int, Role] = {FRONT: "foreground", BACK: "background"}
IDLE_W = 70.0


def idle(power_w: float = IDLE_W) -> IdlePower:
    return IdlePower(power_w, 0.5, 30, None)


def parts(shares: Shares) -> list[float]:
    known = [shares.foreground_j, shares.background_j, shares.idle_j, shares.other_j]
    return [part for part in known if part is not None]


@given(
    total_j=st.floats(0.01, 1e8),
    seconds=st.floats(0.05, 300),
    idle_w=st.one_of(st.none(), st.floats(0, 700)),
    watts=st.lists(st.floats(0, 1500), max_size=40),
    seen=st.lists(
        st.tuples(st.sampled_from([FRONT, BACK, STRANGER]), st.floats(-1, 301), st.floats(0, 60), st.integers(0, 100))
    ),
    paired=st.booleans(),
    told_apart=st.booleans(),
    trained=st.one_of(st.none(), st.tuples(st.floats(0, 600), st.floats(0, 1))),
    solo=st.one_of(st.none(), st.tuples(st.floats(0, 600), st.floats(0, 600), st.one_of(st.none(), st.floats(0, 100)))),
    utilisation=st.one_of(st.none(), st.floats(0, 100)),
)
@example(  # a curve whose integral no figure can be divided by
    total_j=20001.0, seconds=0.5, idle_w=0.0, watts=[2.2250738585e-313], seen=[(FRONT, 1.0, 1.0, 50)],
    paired=False, told_apart=True, trained=None, solo=None, utilisation=None,
)  # fmt: skip
def test_the_parts_are_the_total_or_all_null(
    total_j: float,
    seconds: float,
    idle_w: float | None,
    watts: list[float],
    seen: list[tuple[int, float, float, int]],
    paired: bool,
    told_apart: bool,
    trained: tuple[float, float] | None,
    solo: tuple[float, float, float | None] | None,
    utilisation: float | None,
) -> None:
    points = [Point(round(seconds * SECOND * k / max(1, len(watts) - 1)), w) for k, w in enumerate(watts)]
    power = idle(idle_w) if idle_w is not None else IdlePower.unknown("not_idle")
    training_w, share = trained or (None, None)
    told: dict[Role, float] | None = None
    if share is not None:
        told = {"foreground": seconds, "background": share * seconds}
    both = [] if solo is None else zip(ROLES.values(), solo, strict=False)
    alone = None if solo is None else {r: SoloPower(w, training_w, solo[2]) for r, w in both}
    activity = ActivityWindow(
        tuple(Activity(pid, round((t - span) * SECOND), round(t * SECOND), sm) for pid, t, span, sm in seen)
    )
    shares = attribute(
        GpuEnergy(total_j, 0, round(seconds * SECOND), points), power, activity, ROLES,
        paired=paired, solo=alone, told_apart=told_apart, training_s=told, utilisation_percent=utilisation,
    )  # fmt: skip
    if shares.null_reason is None:
        assert len(parts(shares)) == 4
        assert abs(sum(parts(shares)) - total_j) < 0.001
        assert all(part >= -1e-9 * total_j for part in parts(shares))
        assert shares.method and shares.confidence
        assert paired or shares.background_j == 0
    else:
        assert parts(shares) == [] and shares.method is None


class Planted:
    """Two processes that take turns on a GPU, in slices of their own; power is what the one on it takes."""

    def __init__(self, seed: int, front_w: float, back_w: float) -> None:
        self.random = random.Random(seed)
        self.joules = {FRONT: 0.0, BACK: 0.0}
        self.points: list[Point] = []
        self.activities: list[Activity] = []
        share, worked = self.random.uniform(0.2, 0.8), {FRONT: 0.0, BACK: 0.0}
        for tick in range(300):  # 30 s: power every 100 ms, activity as a mean of each second
            if tick % 50 == 0:
                share = min(0.9, max(0.1, share + self.random.uniform(-0.3, 0.3)))
            active = self.random.uniform(0.85, 1.0)
            busy = {FRONT: active * share, BACK: active * (1 - share)}
            above = {FRONT: busy[FRONT] * front_w, BACK: busy[BACK] * back_w}
            for pid, power_w in above.items():
                self.joules[pid] += power_w * 0.1
            noisy_w = IDLE_W + sum(above.values()) + self.random.gauss(0, 3)
            self.points.append(Point(tick * SECOND // 10 + SECOND // 20, noisy_w))
            worked = {pid: worked[pid] + part / 10 for pid, part in busy.items()}
            if tick % 10 == 9:
                now_ns = (tick + 1) * SECOND // 10
                self.activities += [Activity(pid, now_ns - SECOND, now_ns, round(100 * p)) for pid, p in worked.items()]
                worked = {FRONT: 0.0, BACK: 0.0}

    def split(self, **more: object) -> Shares:
        total_j = IDLE_W * 30 + sum(self.joules.values())
        energy = GpuEnergy(total_j, 0, 30 * SECOND, self.points)
        return attribute(energy, idle(), ActivityWindow(tuple(self.activities)), ROLES, paired=True, **more)  # type: ignore[arg-type]


def errors(planted: Planted, shares: Shares) -> list[float]:
    found = {FRONT: shares.foreground_j, BACK: shares.background_j}
    return [abs((found[pid] or 0) / truth - 1) for pid, truth in planted.joules.items()]


def test_planted_shares_come_back_where_both_take_the_same_power() -> None:
    scenes = [Planted(seed, 450, 450) for seed in range(40)]
    found = [error for planted in scenes for error in errors(planted, planted.split())]
    assert median(found) < 0.03
    assert max(found) < 0.1


def test_one_sample_a_second_stands_for_all_of_it() -> None:
    """As the driver gives them to one who asks once a second, at stamps of its own: nothing is left for nobody."""
    points = [Point(k * SECOND // 10, 270.0) for k in range(101)]
    stamps = [round((k - 0.15) * SECOND) for k in range(12)]
    seen = [Activity(pid, a, b, sm) for a, b in pairwise(stamps) for pid, sm in ((FRONT, 60), (BACK, 20))]
    energy = GpuEnergy(2700.0, 0, 10 * SECOND, points)
    shares = attribute(energy, idle(), ActivityWindow(tuple(seen)), ROLES, paired=True)
    assert (shares.foreground_j, shares.background_j) == (pytest.approx(1500), pytest.approx(500))
    assert (shares.idle_j, shares.other_j) == (pytest.approx(700), pytest.approx(0, abs=0.001))
    assert (shares.sm_foreground_percent, shares.sm_background_percent) == (pytest.approx(60), pytest.approx(20))
    assert shares.confidence == "high"


def test_solo_runs_bring_back_the_shares_of_unequal_partners() -> None:
    solo = {"foreground": SoloPower(90.0, 500 * 0.95, 95.0), "background": SoloPower(80.0, 200 * 0.95, 95.0)}
    plain, weighted = [], []
    for seed in range(40):
        planted = Planted(seed, 500, 200)
        plain += errors(planted, planted.split())
        shares = planted.split(solo=solo)
        weighted += errors(planted, shares)
        assert shares.method == "time_slice_weighted"
    assert median(weighted) < 0.05
    assert median(plain) > 2 * median(weighted)


def test_without_processes_told_apart_the_solo_runs_split() -> None:
    solo = {"foreground": SoloPower(300.0), "background": SoloPower(100.0)}
    shares = Planted(1, 300, 100).split(solo=solo, told_apart=False)
    assert (shares.method, shares.confidence) == ("solo_calibration", "medium")
    assert shares.foreground_j and shares.background_j
    assert abs(shares.foreground_j / shares.background_j - 3) < 1e-9
    assert shares.sm_ratio_foreground_j is None


def test_under_mps_a_background_counts_with_what_it_takes_once_it_trains() -> None:
    """Alone it idled through half of its run; in the pair it has that behind it, and trained for 0.8 of the window."""
    solo = {"foreground": SoloPower(200.0), "background": SoloPower(150.0, 300.0)}
    scene = Planted(1, 300, 100)
    known = scene.split(solo=solo, told_apart=False, training_s={"background": 24.0})
    unknown = scene.split(solo=solo, told_apart=False)
    for shares, watts in ((known, 240.0), (unknown, 150.0)):
        assert shares.foreground_j and shares.background_j
        assert abs(shares.background_j / shares.foreground_j - watts / 200) < 1e-9


def test_with_neither_there_is_no_split() -> None:
    shares = Planted(1, 300, 100).split(told_apart=False)
    assert shares.null_reason is not None and "mps" in shares.null_reason


def test_what_no_one_was_seen_working_for_is_nobodys() -> None:
    points = [Point(k * SECOND // 10, 170.0) for k in range(101)]
    seen = [Activity(pid, k * SECOND, (k + 1) * SECOND, 50) for k in range(5) for pid in (FRONT, BACK)]
    energy = GpuEnergy(1700.0, 0, 10 * SECOND, points)
    shares = attribute(energy, idle(), ActivityWindow(tuple(seen)), ROLES, paired=True)
    assert shares.idle_j is not None and abs(shares.idle_j - 700) < 1
    assert shares.other_j is not None and abs(shares.other_j - 500) < 1  # the second half of the window
    assert shares.confidence == "medium"


@pytest.mark.parametrize("told_apart", [True, False])
@pytest.mark.parametrize("paired", [True, False])
def test_an_idle_power_above_that_of_the_run_splits_nothing(told_apart: bool, paired: bool) -> None:
    points = [Point(k * SECOND // 10, 100.0) for k in range(101)]
    seen = ActivityWindow((Activity(FRONT, 0, 10 * SECOND, 60),))
    alone: dict[Role, SoloPower] = {"foreground": SoloPower(100.0), "background": SoloPower(50.0)}
    shares = attribute(
        GpuEnergy(1000.0, 0, 10 * SECOND, points), idle(120.0), seen, ROLES, paired=paired, solo=alone,
        told_apart=told_apart,
    )  # fmt: skip
    assert (parts(shares), shares.null_reason) == ([], "idle_baseline_above_run")


def test_a_stranger_gets_its_part_of_a_solo_run() -> None:
    points = [Point(k * SECOND // 10, 170.0) for k in range(101)]
    seen = [Activity(pid, k * SECOND, (k + 1) * SECOND, 40) for k in range(10) for pid in (FRONT, STRANGER)]
    shares = attribute(
        GpuEnergy(1700.0, 0, 10 * SECOND, points), idle(), ActivityWindow(tuple(seen)), ROLES, paired=False
    )
    assert shares.foreground_j is not None and abs(shares.foreground_j - 500) < 5
    assert shares.other_j is not None and abs(shares.other_j - 500) < 5
    assert shares.background_j == 0


def test_the_start_of_a_solo_run_gives_no_weight() -> None:
    """As on an H100: an open context takes 20 W at no activity, and a short training is mostly that. What a percent of
    the whole run took would make the light partner ten times as dear as it is."""
    points = [Point(k * SECOND // 10, IDLE_W + 320.0) for k in range(101)]
    seen = ActivityWindow((Activity(FRONT, 0, 10 * SECOND, 4), Activity(BACK, 0, 10 * SECOND, 85)))
    energy = GpuEnergy(10 * (IDLE_W + 320), 0, 10 * SECOND, points)
    alone: dict[Role, SoloPower] = {"foreground": SoloPower(22.0), "background": SoloPower(290.0, 340.0, 90.0)}
    shares = attribute(energy, idle(), seen, ROLES, paired=True, solo=alone)
    assert shares.method == "time_slice" and shares.foreground_j == pytest.approx(3200 * 4 / 89)
    alone["foreground"] = SoloPower(22.0, 12.0, 4.0)  # 3 W for a percent, where the background takes 3.8
    shares = attribute(energy, idle(), seen, ROLES, paired=True, solo=alone)
    assert shares.method == "time_slice_weighted"
    assert shares.foreground_j == pytest.approx(3200 * 12 / (12 + 85 * 340 / 90))


def test_a_partner_that_trained_and_was_never_sampled_has_no_zero() -> None:
    points = [Point(k * SECOND // 10, 270.0) for k in range(101)]
    seen = ActivityWindow((Activity(BACK, 0, 10 * SECOND, 60),))
    energy = GpuEnergy(2700.0, 0, 10 * SECOND, points)
    both: dict[Role, float] = {"foreground": 2.0, "background": 10.0}
    shares = attribute(energy, idle(), seen, ROLES, paired=True, training_s=both)
    assert (parts(shares), shares.null_reason) == ([], "partner_not_sampled: foreground")
    assert shares.sm_foreground_percent is None and shares.sm_ratio_background_j is None
    assert shares.sm_background_percent == pytest.approx(60)
    shares = attribute(energy, idle(), seen, ROLES, paired=True, training_s={"background": 10.0})
    assert (shares.foreground_j, shares.confidence) == (0, "high"), "nobody says that it trained"
    shares = attribute(energy, idle(), seen, ROLES, paired=True, training_s={**both, "foreground": 0.1})
    assert (parts(shares), shares.null_reason) == ([], "partner_not_sampled: foreground"), "however short"
    faint = ActivityWindow((*seen.activities, Activity(FRONT, 0, 10 * SECOND, 0)))
    shares = attribute(energy, idle(), faint, ROLES, paired=True, training_s=both)
    assert (shares.foreground_j, shares.confidence) == (0, "low"), "less than a whole percent"


def test_a_window_of_nothing_has_no_parts() -> None:
    shares = attribute(GpuEnergy(0.0, SECOND, SECOND, []), idle(), ActivityWindow(()), ROLES, paired=True)
    assert (parts(shares), shares.null_reason) == ([], "empty_window")


@pytest.mark.parametrize(("utilisation", "confidence"), [(80.0, "high"), (90.0, "high"), (99.0, "low"), (40.0, "low")])
def test_processes_that_together_are_not_what_the_device_was_make_it_doubtful(
    utilisation: float, confidence: str
) -> None:
    points = [Point(k * SECOND // 10, 270.0) for k in range(101)]
    seen = ActivityWindow((Activity(FRONT, 0, 10 * SECOND, 60), Activity(BACK, 0, 10 * SECOND, 20)))
    energy = GpuEnergy(2700.0, 0, 10 * SECOND, points)
    shares = attribute(energy, idle(), seen, ROLES, paired=True, utilisation_percent=utilisation)
    assert shares.confidence == confidence
