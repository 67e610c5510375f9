"""Figures as text: significant digits, units, and no figure where there is none."""

from __future__ import annotations

import math

import pytest

from profiler.report.numbers import difference_percent, figure, signed_percent, spread, with_unit
from profiler.report.svg import Scale, apart, tick_texts, ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (7, "7"), (12345, "12,345"), (1700.089, "1,700"), (12.345, "12.35"), (0.01234, "0.01234"),
     (1234567.8, "1,234,568"), (2e-7, "2.000e-07"), (-3.14159, "-3.142"), (math.inf, "inf")],
)  # fmt: skip
def test_figures_have_four_significant_digits(value: float | None, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(None, "J", "–"), (999.4, "J", "999.4 J"), (6950.5, "J", "6.950 kJ"), (3.2e6, "J", "3.200 MJ"),
     (45.0, "s", "45.00 s"),
     (600.0, "s", "10 min"), (9000.0, "s", "2 h 30 min"), (55.0, "°C", "55.00 °C")],
)  # fmt: skip
def test_units_stand_beside_the_figure(value: float | None, unit: str, text: str) -> None:
    assert with_unit(value, unit) == text


def test_spread_is_that_of_the_known_values() -> None:
    seen = spread([4.0, None, 1.0, 3.0, 2.0])
    assert seen is not None
    assert (seen.count, seen.mean, seen.minimum, seen.median, seen.maximum) == (4, 2.5, 1.0, 2.5, 4.0)
    assert seen.deviation == pytest.approx(math.sqrt(5 / 3))
    assert spread([None, None]) is None
    alone = spread([2.0])
    assert alone is not None and alone.deviation is None and alone.lower_quartile == 2.0


def test_differences_have_a_sign_and_no_reference_gives_none() -> None:
    assert signed_percent(difference_percent(110.0, 100.0)) == "+10.0 %"
    assert signed_percent(difference_percent(100.0, 100.0)) == "0 %"
    assert difference_percent(1.0, 0.0) is None
    assert signed_percent(None) == "–"


@pytest.mark.parametrize(("low", "high"), [(0.0, 343.2), (-0.004, 0.0021), (1e6, 1.0001e6), (0.79, 0.8)])
def test_ticks_are_round_few_and_inside(low: float, high: float) -> None:
    places = ticks(low, high)
    assert 2 <= len(places) <= 7
    assert all(low - 1e-9 <= place <= high + 1e-9 * abs(high) for place in places)
    texts = tick_texts(places)
    assert len(set(texts)) == len(texts)
    assert [float(text.replace(",", "")) for text in texts] == pytest.approx(places, rel=1e-3, abs=1e-9)


def test_labels_do_not_overlap_and_stay_inside() -> None:
    kept = apart([(100.0, "start"), (104.0, "ready"), (199.0, "the end")], 0.0, 200.0)
    assert [text for _, text in kept] == ["start", "the end"]
    assert kept[1][0] < 180


def test_a_scale_maps_its_ends() -> None:
    x = Scale(10.0, 20.0, 0.0, 100.0)
    assert (x(10.0), x(15.0), x(20.0)) == (0.0, 50.0, 100.0)
