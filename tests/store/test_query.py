"""Conditions and orders over the flat table of runs, one session or many; what is no condition is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import profiler
from profiler.errors import SessionError, UsageError
from profiler.store.collection import Sessions
from profiler.store.query import choose, flat_rows
from profiler.store.write import write_run, write_samples
from tests.store.build import attempt_row, failed, sample, session_folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two sessions: three runs with learning rates 0.1, 0.2, 0.3, the second failed; and one that was never started."""
    folder = session_folder(tmp_path, 3)
    for index in (1, 2, 3):
        values = {"epochs": 2, "learning_rate": index / 10}
        energy = {"gpu_energy_j": None if index == 3 else 100.0 * index}
        more: dict[str, Any] = failed() if index == 2 else {}
        write_run(folder, attempt_row(folder, index, hyperparameters=values, **energy, **more))
    session_folder(tmp_path, 1)
    return tmp_path


def found(results: Path, where: str | None, *sort: str) -> list[str]:
    rows = profiler.open(results).rows()
    return [rows[place]["run_id"][-5:] for place in choose(flat_rows(rows), where, sort)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("safe", 2),
        ("model = 'mnist_cnn' and hp_learning_rate >= 0.2", 2),
        ("list_contains(reasons, 'exit')", 1),
        ("verdict is null", 1),
        ("metric_test_accuracy > 0.5 -- a remark", 3),
        ("started_at > '2026-01-01'", 3),
    ],
)
def test_a_condition_chooses(results: Path, where: str, expected: int) -> None:
    assert len(found(results, where)) == expected


def test_the_order_has_nulls_last(results: Path) -> None:
    rows = profiler.open(results).rows()
    places = choose(flat_rows(rows), None, ("gpu_energy_j:desc", "run_id"))
    assert [rows[place]["gpu_energy_j"] for place in places] == [200.0, 100.0, None, None]


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("modle = 'x'", "model"),
        ("model =", "syntax error"),
        ("1=1); drop table runs; select (1", "one condition"),
        ("exists (select * from read_csv('/etc/passwd'))", "Cannot access file"),
        ("exists (select * from '/etc/passwd.csv')", "Cannot access file"),
        ("exists (select * from rows)", "rows"),
        ("'a'", "BOOL"),
    ],
)
def test_what_is_no_condition_over_runs_is_refused(results: Path, where: str, told: str) -> None:
    rows = [{"secret": 1}]  # a variable that a condition must not see
    with pytest.raises(UsageError, match=told):
        found(results, where)
    assert rows


def test_an_unknown_column_to_sort_by_is_refused_with_the_nearest(results: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'gpu_energy_j'"):
        found(results, None, "gpu_energy")


def test_many_sessions_are_one_dataset(results: Path) -> None:
    opened = profiler.open(results)
    assert isinstance(opened, Sessions)
    assert len(opened) == 2
    assert opened.counts()["planned"] == 4
    frame = opened.runs(flat=True)
    assert (len(frame), frame["hp_learning_rate"].count()) == (4, 3)
    assert opened.row(frame["run_id"][0])["index"] == 1
    assert len(opened.plan()) == 4
    with pytest.raises(SessionError, match="2 sessions"):
        opened.row("examples_mnist_cnn_001")


def test_the_trace_of_a_run_is_found_in_its_session(results: Path) -> None:
    opened = profiler.open(results)
    assert isinstance(opened, Sessions)
    row = opened.rows()[0]
    write_samples(opened.sessions[0].folder, row["node_id"], [sample(row["window_start_ns"] + 1)])
    assert len(opened.samples(row["run_id"])) == 1


def test_a_folder_without_sessions_is_told(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="not a session"):
        profiler.open(tmp_path)
