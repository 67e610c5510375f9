"""Tables for people: what fits, what folds, what is left out."""

from __future__ import annotations

from profiler.cli.tables import Heading, lines_of

HEADINGS = (Heading("#", figures=True), Heading("run"), Heading("values", long=True), Heading("time", figures=True))
ROWS = [("1", "alpha", "a=1 b=2", "2 s"), ("12", "be", "a=3", "10 s")]


def test_a_table_that_fits_has_a_line_a_row() -> None:
    assert lines_of(HEADINGS, ROWS, None) == [
        " #   run     values    time",
        "---------------------------",
        " 1   alpha   a=1 b=2    2 s",
        "12   be      a=3       10 s",
    ]
    assert lines_of(HEADINGS, ROWS, 27) == lines_of(HEADINGS, ROWS, None)


def test_a_table_that_does_not_fit_puts_long_texts_below() -> None:
    assert lines_of(HEADINGS, ROWS, 26) == [
        " #   run     time",
        "-----------------",
        " 1   alpha    2 s",
        "    values: a=1 b=2",
        "12   be      10 s",
        "    values: a=3",
    ]


def test_long_texts_fold_to_the_width_and_lose_nothing() -> None:
    text = " ".join(f"parameter_{number}=0.{number}" for number in range(10))
    lines = lines_of(HEADINGS, [("1", "alpha", text, "2 s")], 60)
    assert all(len(line) <= 60 for line in lines)
    assert " ".join(" ".join(lines).split()).endswith(f"values: {text}")


def test_a_value_with_a_line_end_stays_in_its_row() -> None:
    lines = lines_of(HEADINGS, [("1", "two\nlines\x1b[31m", "é\t", "2 s")], None)
    assert lines[2:] == [r"1   two\nlines\x1b[31m   é\t       2 s"]


def test_columns_without_any_value_are_left_out() -> None:
    rows = [("1", "alpha", "-", "-"), ("2", "be", "-", "3 s")]
    assert lines_of(HEADINGS, rows, None)[0] == "#   run     time"


def test_an_empty_table_shows_its_headings() -> None:
    assert lines_of(HEADINGS, [], 80) == ["#   run   values   time", "-----------------------"]


def test_as_many_columns_as_fit_stand_beside_each_other_and_the_rest_below() -> None:
    headings = (Heading("run"), Heading("energy", figures=True), Heading("metric", figures=True))
    rows = [("a" * 30, "123 J", "0.9")]
    lines = lines_of(headings, rows, 42)
    assert max(map(len, lines)) <= 42
    assert any("metric: 0.9" in line for line in lines)
    assert lines_of(headings, rows, None)[2].endswith("0.9")
