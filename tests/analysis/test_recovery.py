"""Planted effects are inside their intervals as often as these promise; equal campaigns are rarely called different.

The small counts here catch a wrong formula. The figures of 1,000 data sets: tests/benchmarks/effects_recovery.py.
"""

from __future__ import annotations

import pytest
from scipy.stats import binom

from tests.analysis.recovery import KINDS, PLANTED, alarms, recovery

ONE_IN_10_000 = 1e-4


def least(trials: int, share: float) -> int:
    """Fewer than this come up once in 10,000 tries where the true share is `share`."""
    return int(binom.ppf(ONE_IN_10_000, trials, share))


def most(trials: int, share: float) -> int:
    return int(binom.ppf(1 - ONE_IN_10_000, trials, share))


def check_recovery(trials: int) -> None:
    found = recovery(24, trials, seed=11)
    for what, *_where, truth in PLANTED:
        assert least(trials, 0.93) <= found.inside[what], what
        if truth == 0:
            assert found.significant[what] <= most(trials, 0.05), what
    assert found.significant["linear: epochs on energy, solo"] == trials


def check_alarms(trials: int) -> None:
    for kind in KINDS:
        assert alarms(kind, 8, trials, seed=11).alarmed <= most(trials, 0.05), kind


def test_a_few_planted_data_sets() -> None:
    check_recovery(12)


@pytest.mark.slow
def test_a_few_equal_campaigns() -> None:
    check_alarms(5)


def test_a_real_difference_is_found() -> None:
    found = alarms(KINDS[0], 12, 4, seed=11, more_energy=0.2)
    assert found.alarmed == 4
