"""Drawing: bounds, types, distributions, uniqueness, and the same values on every machine for ever."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.hyperparameters import HyperparameterSpec
from profiler.mutation import Range, Scalar, TooFewValuesError, Vector, draw_unique, stream, vector_of


def whole(low: int, high: int, distribution: str = "uniform", zero: float = 0.0) -> Range:
    return Range("int", low, high, "log_uniform" if distribution == "log_uniform" else "uniform", zero)


def real(low: float, high: float, distribution: str = "uniform", zero: float = 0.0) -> Range:
    return Range("float", low, high, "log_uniform" if distribution == "log_uniform" else "uniform", zero)


def streams(seed: int) -> Callable[[int], random.Random]:
    return lambda number: stream(seed, number)


def test_the_values_of_a_seed_never_change() -> None:
    """These very values were drawn when the method was fixed: a stored seed must give the same plan for ever."""
    assert [whole(5, 15).draw(stream(7, "a", n)) for n in range(6)] == [9, 8, 13, 13, 5, 6]
    assert [whole(1000, 20000, "log_uniform").draw(stream(7, "b", n)) for n in range(3)] == [10141, 1322, 13734]
    assert [real(0.3, 0.6).draw(stream(7, "c", n)) for n in range(3)] == [
        0.474641309776486,
        0.35362083052724436,
        0.41445321443088845,
    ]
    assert [real(5e-5, 1.5e-4, "log_uniform").draw(stream(7, "d", n)) for n in range(3)] == [
        7.998605458714796e-05,
        0.00011052177183428296,
        0.00011969005706196339,
    ]


@given(st.integers(-100, 100), st.integers(0, 200), st.integers())
def test_integers_stay_inside_and_are_integers(low: int, width: int, seed: int) -> None:
    drawn = whole(low, low + width)
    value = drawn.draw(stream(seed))
    assert type(value) is int and low <= value <= low + width and drawn.contains(value)


@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300), st.booleans(), st.integers())
def test_floats_stay_inside_and_are_floats(a: float, b: float, logarithmic: bool, seed: int) -> None:
    low, high = sorted((a, b))
    value = real(low, high, "log_uniform" if logarithmic else "uniform").draw(stream(seed))
    assert type(value) is float and low <= value <= high
    assert float(repr(value)) == value


@pytest.mark.parametrize("distribution", ["uniform", "log_uniform"])
def test_both_ends_of_an_integer_range_come(distribution: str) -> None:
    drawn = whole(2, 10, distribution)
    assert {drawn.draw(stream(n)) for n in range(400)} == set(range(2, 11))


def test_uniform_integers_are_uniform() -> None:
    counts = Counter(whole(0, 9).draw(stream("uniform", n)) for n in range(5000))
    assert all(abs(counts[value] - 500) < 5 * math.sqrt(500) for value in range(10))


def test_log_uniform_is_uniform_in_the_logarithm() -> None:
    drawn = real(1e-5, 1e-3, "log_uniform")
    shares = sorted(
        math.log(drawn.draw(stream("log", n)) / 1e-5) / math.log(100) for n in range(2000)
    )  # fmt: skip
    distance = max(abs(share - (n + 0.5) / 2000) for n, share in enumerate(shares))
    assert distance < 1.63 / math.sqrt(2000)  # Kolmogorov-Smirnov, 1 %


def test_zero_comes_with_its_probability_and_typed() -> None:
    values = [real(1e-5, 1e-3, "log_uniform", 0.3).draw(stream("zero", n)) for n in range(2000)]
    assert abs(mean(value == 0 for value in values) - 0.3) < 0.05
    assert all(type(value) is float for value in values)
    assert {whole(5, 9, zero=1.0).draw(stream(n)) for n in range(5)} == {0}


@pytest.mark.parametrize(
    ("drawn", "size"),
    [
        (whole(2, 10), 9),
        (whole(2, 2), 1),
        (whole(2, 10, zero=0.5), 10),
        (whole(-1, 1, zero=0.5), 3),
        (whole(2, 10, zero=1.0), 1),
        (real(0.5, 0.5), 1),
        (real(1.0, math.nextafter(1.0, 2)), 2),
        (real(-math.ulp(0.0), math.ulp(0.0)), 3),
        (real(0.5, 0.5, zero=0.1), 2),
    ],
)
def test_sizes_are_counted_and_values_enumerated(drawn: Range, size: int) -> None:
    assert drawn.size() == size
    values = [drawn.at(n) for n in range(size)]
    assert len({repr(value) for value in values}) == size
    assert all(drawn.contains(value) for value in values)
    assert {drawn.draw(stream(n)) for n in range(300)} == set(values)


def draw(
    ranges: dict[str, Range],
    count: int,
    base: dict[str, Scalar | None],
    taken: set[Vector] | None = None,
    seed: int = 1,
) -> list[dict[str, Scalar]]:
    return draw_unique(
        ranges,
        count,
        base=base,
        defaults={vector_of(base)},
        taken=set() if taken is None else taken,
        streams=streams(seed),
    )


KFOLD: dict[str, Scalar | None] = {"kfold": 10, "alpha": 1e-5}


def test_every_value_there_is_can_be_had_and_not_one_more() -> None:
    values = draw({"kfold": whole(2, 10)}, 8, KFOLD)
    assert sorted(value["kfold"] for value in values) == [2, 3, 4, 5, 6, 7, 8, 9]
    with pytest.raises(TooFewValuesError, match="beside the default 8 exist") as caught:
        draw({"kfold": whole(2, 10)}, 9, KFOLD)
    assert (caught.value.wanted, caught.value.exist, caught.value.used) == (9, 8, 0)


def test_a_default_inside_a_range_that_only_gives_zeros_takes_none_of_them() -> None:
    drawn = real(0.01, 0.1, zero=1.0)
    assert draw({"learning_rate": drawn}, 1, {"learning_rate": 0.01}) == [{"learning_rate": 0.0}]
    assert drawn.contains(0.0) and not drawn.contains(0.05)
    with pytest.raises(TooFewValuesError, match="beside the default 0 exist"):
        draw({"learning_rate": drawn}, 1, {"learning_rate": 0.0})


def test_what_is_taken_is_not_drawn_again() -> None:
    taken = {vector_of({**KFOLD, "kfold": 3}), vector_of({**KFOLD, "kfold": 4, "alpha": 0.5})}
    values = draw({"kfold": whole(2, 10)}, 7, KFOLD, taken)
    assert sorted(value["kfold"] for value in values) == [2, 4, 5, 6, 7, 8, 9]
    with pytest.raises(TooFewValuesError, match=r"8 exist, of which 8 are taken .* 0 are left") as caught:
        draw({"kfold": whole(2, 10)}, 1, KFOLD, taken)
    assert caught.value.used == 8


def test_several_names_are_unique_together() -> None:
    ranges = {"a": whole(1, 3), "b": whole(1, 3)}
    values = draw(ranges, 8, {"a": 2, "b": 2})
    assert len({(value["a"], value["b"]) for value in values}) == 8
    assert {"a": 2, "b": 2} not in values
    with pytest.raises(TooFewValuesError, match="unique values of a x b"):
        draw(ranges, 9, {"a": 2, "b": 2})


def test_an_integer_is_not_the_float_of_the_same_size() -> None:
    assert vector_of({"a": 7}) != vector_of({"a": 7.0})
    assert vector_of({"a": 7.0000001}) != vector_of({"a": 7.0})
    assert vector_of({"a": None, "b": True}) == vector_of({"b": True, "a": None})


@pytest.mark.slow
def test_rare_values_are_found_when_they_are_all_that_is_left() -> None:
    drawn = whole(1, 2000, zero=0.999999)
    values = draw({"a": drawn}, 2000, {"a": 0})
    assert len({value["a"] for value in values}) == 2000
    wide = {"a": real(1.0, 2.0, zero=1 - 1e-12), "b": real(0.5, 0.5)}
    assert len({value["a"] for value in draw(wide, 5, {"a": 0.0, "b": 0.5})}) == 5


def test_another_count_leaves_the_first_values_as_they_are() -> None:
    few = draw({"a": real(0, 1)}, 3, {"a": 0.5})
    many = draw({"a": real(0, 1)}, 10, {"a": 0.5})
    assert many[:3] == few
    assert draw({"a": real(0, 1)}, 3, {"a": 0.5}, seed=2) != few


@settings(max_examples=60)
@given(
    st.integers(0, 2**62),
    st.integers(0, 40),
    st.integers(1, 30),
    st.sets(st.integers(0, 40), max_size=20),
    st.integers(0, 40),
)
def test_uniqueness_holds_for_any_space(seed: int, high: int, count: int, used: set[int], default: int) -> None:
    base: dict[str, Scalar | None] = {"a": default, "b": "x"}
    taken = {vector_of({"a": value, "b": "x"}) for value in used}
    free = set(range(high + 1)) - used - {default}
    before = set(taken)
    if len(free) < count:
        with pytest.raises(TooFewValuesError):
            draw({"a": whole(0, high)}, count, base, taken, seed)
        assert taken == before
        return
    values = [value["a"] for value in draw({"a": whole(0, high)}, count, base, taken, seed)]
    assert len(set(values)) == count and set(values) <= free
    assert taken - before == {vector_of({"a": value, "b": "x"}) for value in values}


def test_texts_of_old_files_are_typed() -> None:
    epochs = HyperparameterSpec(name="epochs", type="int", default=10)
    rate = HyperparameterSpec(name="rate", type="float", default=0.1)
    assert [epochs.from_text(text) for text in ("7", " 7 ", "7.000000", "7e0")] == [7, 7, 7, 7]
    for text in ("7.0000001", "x", "", "nan", "inf"):
        with pytest.raises(ValueError):
            epochs.from_text(text)
    assert rate.from_text("7") == 7.0 and type(rate.from_text("7")) is float
    assert rate.from_text("0.1") == 0.1 != rate.from_text("0.10000001")
    flag = HyperparameterSpec(name="flag", type="bool", default=False)
    assert flag.from_text("True") is True
    with pytest.raises(ValueError):
        flag.from_text("1")


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e299, max_value=1e299))
def test_a_float_survives_the_vector(value: float) -> None:
    spec = HyperparameterSpec(name="rate", type="float", default=0.0)
    typed = spec.coerce(value)
    ((_, text),) = vector_of({"rate": typed})
    assert json.loads(text) == value and spec.from_text(text) == value
