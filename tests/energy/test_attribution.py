"""The split of a GPU's energy: the sum is always the total, and planted shares come back."""

from __future__ import annotations

import random
from statistics import median

import pytest
from hypothesis import given
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
    seen=st.lists(st.tuples(st.sampled_from([FRONT, BACK, STRANGER]), st.floats(-1, 301), st.integers(0, 100))),
    paired=st.booleans(),
    told_apart=st.booleans(),
    trained=st.one_of(st.none(), st.tuples(st.floats(0, 600), st.floats(0, 1))),
    solo=st.one_of(st.none(), st.tuples(st.floats(0, 600), st.floats(0, 600), st.one_of(st.none(), st.floats(0, 100)))),
)
def test_the_parts_are_the_total_or_all_null(
    total_j: float,
    seconds: float,
    idle_w: float | None,
    watts: list[float],
    seen: list[tuple[int, float, int]],
    paired: bool,
    told_apart: bool,
    trained: tuple[float, float] | None,
    solo: tuple[float, float, float | None] | None,
) -> None:
    points = [Point(round(seconds * SECOND * k / max(1, len(watts) - 1)), w) for k, w in enumerate(watts)]
    power = idle(idle_w) if idle_w is not None else IdlePower.unknown("not_idle")
    training_w, share = trained or (None, None)
    both = [] if solo is None else zip(ROLES.values(), solo, strict=False)
    alone = None if solo is None else {r: SoloPower(w, solo[2], training_w) for r, w in both}
    activity = ActivityWindow(tuple(Activity(pid, round(t * SECOND), sm) for pid, t, sm in seen))
    shares = attribute(
        GpuEnergy(total_j, 0, round(seconds * SECOND), points), power, activity, ROLES,
        paired=paired, solo=alone, told_apart=told_apart, background_training_share=share,
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
        share = self.random.uniform(0.2, 0.8)
        for tick in range(300):  # 30 s: power every 100 ms, activity every 200 ms
            if tick % 50 == 0:
                share = min(0.9, max(0.1, share + self.random.uniform(-0.3, 0.3)))
            active = self.random.uniform(0.85, 1.0)
            busy = {FRONT: active * share, BACK: active * (1 - share)}
            above = {FRONT: busy[FRONT] * front_w, BACK: busy[BACK] * back_w}
            for pid, power_w in above.items():
                self.joules[pid] += power_w * 0.1
            noisy_w = IDLE_W + sum(above.values()) + self.random.gauss(0, 3)
            self.points.append(Point(tick * SECOND // 10 + SECOND // 20, noisy_w))
            if tick % 2:
                now_ns = (tick + 1) * SECOND // 10
                self.activities += [Activity(pid, now_ns, round(100 * part)) for pid, part in busy.items()]

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


def test_solo_runs_bring_back_the_shares_of_unequal_partners() -> None:
    solo = {"foreground": SoloPower(500 * 0.95, 95.0), "background": SoloPower(200 * 0.95, 95.0)}
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
    solo = {"foreground": SoloPower(300.0, 90.0), "background": SoloPower(100.0, 50.0)}
    shares = Planted(1, 300, 100).split(solo=solo, told_apart=False)
    assert (shares.method, shares.confidence) == ("solo_calibration", "medium")
    assert shares.foreground_j and shares.background_j
    assert abs(shares.foreground_j / shares.background_j - 3) < 1e-9
    assert shares.sm_ratio_foreground_j is None


def test_under_mps_a_background_counts_with_what_it_takes_once_it_trains() -> None:
    """Alone it idled through half of its run; in the pair it has that behind it, and trained for 0.8 of the window."""
    solo = {"foreground": SoloPower(200.0, 90.0), "background": SoloPower(150.0, 40.0, 300.0)}
    scene = Planted(1, 300, 100)
    known = scene.split(solo=solo, told_apart=False, background_training_share=0.8)
    unknown = scene.split(solo=solo, told_apart=False)
    for shares, watts in ((known, 240.0), (unknown, 150.0)):
        assert shares.foreground_j and shares.background_j
        assert abs(shares.background_j / shares.foreground_j - watts / 200) < 1e-9


def test_with_neither_there_is_no_split() -> None:
    shares = Planted(1, 300, 100).split(told_apart=False)
    assert shares.null_reason is not None and "mps" in shares.null_reason


def test_what_no_one_was_seen_working_for_is_nobodys() -> None:
    points = [Point(k * SECOND // 10, 170.0) for k in range(101)]
    seen = [Activity(pid, k * SECOND // 5, 50) for k in range(1, 26) for pid in (FRONT, BACK)]
    energy = GpuEnergy(1700.0, 0, 10 * SECOND, points)
    shares = attribute(energy, idle(), ActivityWindow(tuple(seen)), ROLES, paired=True)
    assert shares.idle_j is not None and abs(shares.idle_j - 700) < 1
    assert shares.other_j is not None and abs(shares.other_j - 500) < 30  # the second half of the window
    assert shares.confidence == "medium"


@pytest.mark.parametrize("told_apart", [True, False])
@pytest.mark.parametrize("paired", [True, False])
def test_an_idle_power_above_that_of_the_run_splits_nothing(told_apart: bool, paired: bool) -> None:
    points = [Point(k * SECOND // 10, 100.0) for k in range(101)]
    seen = ActivityWindow(tuple(Activity(FRONT, k * SECOND // 5, 60) for k in range(1, 51)))
    alone: dict[Role, SoloPower] = {"foreground": SoloPower(100.0, 60.0), "background": SoloPower(50.0, 40.0)}
    shares = attribute(
        GpuEnergy(1000.0, 0, 10 * SECOND, points), idle(120.0), seen, ROLES, paired=paired, solo=alone,
        told_apart=told_apart,
    )  # fmt: skip
    assert (parts(shares), shares.null_reason) == ([], "idle_baseline_above_run")


def test_a_stranger_gets_its_part_of_a_solo_run() -> None:
    points = [Point(k * SECOND // 10, 170.0) for k in range(101)]
    seen = [Activity(pid, k * SECOND // 5, 40) for k in range(1, 51) for pid in (FRONT, STRANGER)]
    shares = attribute(
        GpuEnergy(1700.0, 0, 10 * SECOND, points), idle(), ActivityWindow(tuple(seen)), ROLES, paired=False
    )
    assert shares.foreground_j is not None and abs(shares.foreground_j - 500) < 5
    assert shares.other_j is not None and abs(shares.other_j - 500) < 5
    assert shares.background_j == 0
