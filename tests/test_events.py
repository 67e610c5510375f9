"""Reading what a trainer said: tolerant of everything, and silent about nothing."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.events import MAX_LINE_BYTES, MAX_PROBLEMS, TrainerEvents, read_events


def events_of(tmp_path: Path, *events: Any, end: str = "\n") -> TrainerEvents:
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(lines) + end)
    return read_events(path)


WHOLE = (
    {"event": "config", "t_ns": 1, "hyperparameters": {"lr": 0.1}, "data_source": "idx files", "data_hash": "ab"},
    {"event": "ready", "t_ns": 2},
    {"event": "epoch", "t_ns": 3, "epoch": 1, "metrics": {"acc": 0.5}},
    {"event": "epoch", "t_ns": 4, "epoch": 2, "metrics": {"acc": 1}},
    {"event": "done", "t_ns": 5, "metrics": {"acc": 0.75}, "epochs": 2},
)


def test_a_whole_training(tmp_path: Path) -> None:
    events = events_of(tmp_path, *WHOLE)
    assert events.effective == {"lr": 0.1}
    assert (events.data_source, events.data_hash) == ("idx files", "ab")
    assert events.ready_t_ns == 2
    assert [(e.epoch, e.t_ns, dict(e.metrics)) for e in events.epochs] == [(1, 3, {"acc": 0.5}), (2, 4, {"acc": 1.0})]
    assert events.done is not None
    assert (events.done.epochs, events.done.t_ns, dict(events.done.metrics)) == (2, 5, {"acc": 0.75})
    assert not events.oom
    assert events.after_done == ()
    assert events.problems == ()


def test_no_file_is_a_trainer_that_said_nothing(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none") == TrainerEvents()


def test_a_folder_in_its_place_is_a_problem(tmp_path: Path) -> None:
    assert "Is a directory" in read_events(tmp_path).problems[0]


@pytest.mark.timeout(20)
def test_a_pipe_or_a_device_in_its_place_is_a_problem_and_is_not_waited_for(tmp_path: Path) -> None:
    pipe, endless = tmp_path / "pipe", tmp_path / "endless"
    os.mkfifo(pipe)
    endless.symlink_to("/dev/zero")
    for path in (pipe, endless):
        assert "not a plain file" in read_events(path).problems[0]


def test_a_line_torn_at_any_byte_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    text = "\n".join(json.dumps(event) for event in WHOLE).encode()
    last = text.rindex(b"\n") + 1
    for cut in range(last + 1, len(text)):
        path.write_bytes(text[:cut])
        events = read_events(path)
        assert events.done is None
        assert len(events.epochs) == 2
        assert events.problems == ()


def test_half_a_character_is_a_problem(tmp_path: Path) -> None:
    events = events_of(tmp_path, '{"event": "config", "t_ns": 1, "hyperparameters": {"a": "\\ud800"}}')
    assert events.effective is None
    assert events.problems == ("events: line 1 is not JSON",)
    assert events_of(tmp_path, '{"event": "config", "t_ns": 1, "hyperparameters": {"a": "\\u00fc"}}').effective == {
        "a": "ü"
    }


def test_a_last_line_without_its_end_counts(tmp_path: Path) -> None:
    assert events_of(tmp_path, *WHOLE, end="").done is not None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{not json}", "line 1 is not JSON"),
        ("[1, 2]", "line 1 is not an object"),
        ('{"event": "later", "t_ns": 1}', "unknown event 'later'"),
        ('{"event": "ready"}', "t_ns is None"),
        ('{"event": "config", "t_ns": 1}', "has no hyperparameters"),
        ('{"event": "epoch", "t_ns": 1, "epoch": "one"}', "epoch is 'one'"),
        ('{"event": "epoch", "t_ns": 1, "epoch": true}', "epoch is True"),
        ('{"event": "done", "t_ns": 1, "epochs": 1, "metrics": [1]}', "metrics is not an object"),
        ('{"event": "done", "t_ns": 1, "epochs": 1, "metrics": {"a": "0.5"}}', "metric a is '0.5', not a number"),
        ('{"event": "done", "t_ns": 1, "epochs": 1, "metrics": {"a": true}}', "metric a is True"),
        ('{"event": "done", "t_ns": 1, "epochs": 1.5}', "epochs is 1.5"),
        ("[" * 100_000, "line 1 is not JSON"),
    ],
)
def test_oddities_become_problems(tmp_path: Path, line: str, problem: str) -> None:
    (found,) = events_of(tmp_path, line).problems
    assert problem in found
    assert found.startswith("events: ")


def test_a_line_without_end_is_skipped_and_the_next_one_is_read(tmp_path: Path) -> None:
    events = events_of(tmp_path, "x" * (3 * MAX_LINE_BYTES), *WHOLE)
    assert events.done is not None
    assert events.problems == (f"events: line 1 is longer than {MAX_LINE_BYTES} bytes",)


def test_problems_are_bounded(tmp_path: Path) -> None:
    assert len(events_of(tmp_path, *["nonsense"] * 1000).problems) == MAX_PROBLEMS


def test_the_last_of_two_configs_counts_and_is_told(tmp_path: Path) -> None:
    first = {"event": "config", "t_ns": 1, "hyperparameters": {"lr": 0.1}}
    second = {"event": "config", "t_ns": 2, "hyperparameters": {"lr": 0.2}}
    events = events_of(tmp_path, first, first, second)
    assert events.effective == {"lr": 0.2}
    assert len(events.problems) == 1


def test_the_last_of_two_dones_counts(tmp_path: Path) -> None:
    events = events_of(tmp_path, *WHOLE, {"event": "done", "t_ns": 6, "epochs": 3, "metrics": {}})
    assert events.done is not None
    assert events.done.epochs == 3
    assert events.after_done == ("done",)
    assert "not the first one" in events.problems[0]


def test_what_came_after_done_is_kept(tmp_path: Path) -> None:
    later = ({"event": name, "t_ns": 6} for name in ("ready", "epoch", "epoch", "nonsense", "oom"))
    assert events_of(tmp_path, *WHOLE, *later).after_done == ("ready", "epoch", "oom")


def test_what_an_epoch_gives_in_place_of_a_number_is_kept(tmp_path: Path) -> None:
    line = {"event": "epoch", "t_ns": 1, "epoch": 1, "metrics": {"acc": None, "loss": 0.5}}
    (found,) = events_of(tmp_path, line).epochs
    assert (found.metrics, found.not_numbers) == ({"loss": 0.5}, {"acc": "None"})


def test_the_first_ready_counts(tmp_path: Path) -> None:
    assert events_of(tmp_path, {"event": "ready", "t_ns": 7}, {"event": "ready", "t_ns": 9}).ready_t_ns == 7


def test_nan_and_huge_numbers_are_kept_for_the_judge(tmp_path: Path) -> None:
    line = '{"event": "done", "t_ns": 1, "epochs": 1, "metrics": {"a": NaN, "b": -Infinity, "c": 1' + "0" * 400 + "}}"
    done = events_of(tmp_path, line).done
    assert done is not None
    assert math.isnan(done.metrics["a"])
    assert done.metrics["b"] == -math.inf
    assert done.metrics["c"] == math.inf


@pytest.mark.parametrize(
    "event",
    [
        {"event": "oom", "message": "CUDA out of memory"},
        {"event": "error", "kind": "oom", "message": "CUDA out of memory"},
    ],
)
def test_out_of_memory_is_told(tmp_path: Path, event: dict[str, Any]) -> None:
    events = events_of(tmp_path, {"t_ns": 1, **event})
    assert events.oom
    assert events.error_text == "CUDA out of memory"


@given(st.binary(max_size=500))
def test_no_bytes_make_it_fail(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    path.write_bytes(data)
    read_events(path)
