"""Means and differences with their intervals, against scipy's own tests and against chance itself."""

from __future__ import annotations

from random import Random

import pytest
from scipy import stats

from profiler.intervals import compare, summarize


@pytest.mark.parametrize(("n_a", "n_b"), [(2, 2), (5, 3), (20, 30)])
def test_welch_is_scipys(n_a: int, n_b: int) -> None:
    rng = Random(n_a)
    a, b = [rng.gauss(10, 1) for _ in range(n_a)], [rng.gauss(11, 3) for _ in range(n_b)]
    found, known = compare(a, b), stats.ttest_ind(b, a, equal_var=False)
    interval = known.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(known.pvalue)
    assert found.shown == (known.pvalue < 0.05)


def test_one_mean_is_scipys() -> None:
    values = [3.0, 4.0, 8.0, 1.5]
    found = summarize(values)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.n, found.min, found.max) == (4, 1.5, 8.0)


def test_the_percent_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, held = Random(1), 0
    for _ in range(400):
        a, b = [rng.gauss(100, 5) for _ in range(8)], [rng.gauss(120, 10) for _ in range(8)]
        found = compare(a, b)
        assert found.percent_low is not None and found.percent_high is not None
        held += found.percent_low <= 20 <= found.percent_high
    assert 0.92 <= held / 400 <= 0.98


def test_a_single_value_has_no_interval() -> None:
    assert (summarize([2.0]).mean, summarize([2.0]).half_width) == (2.0, None)
    found = compare([2.0], [3.0, 3.0])
    assert (found.difference, found.low, found.p_value, found.shown) == (1.0, None, None, False)


def test_equal_values_differ_by_nothing_and_zero_has_no_percent() -> None:
    same = compare([2.0, 2.0], [2.0, 2.0])
    assert (same.difference, same.low, same.high, same.p_value, same.shown) == (0.0, 0.0, 0.0, 1.0, False)
    assert compare([0.0, 0.0], [1.0, 2.0]).percent is None


def test_figures_around_zero_have_no_percent() -> None:
    """Energy above idle may be below 0 by what it is unsure of."""
    found = compare([-0.5, 0.5000001], [0.1, 0.2])
    assert (found.percent, found.percent_low, found.shown) == (None, None, False)


def test_nothing_cannot_be_summarized() -> None:
    with pytest.raises(ValueError, match="at least one"):
        summarize([])
