"""Where things lie, and that two sessions never share a folder."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from profiler.errors import CannotRunError
from profiler.store.layout import SampleSpan, SessionFolder, create_session
from tests.store.build import BOOT, NOON


def test_the_folder_is_named_after_the_utc_second(tmp_path: Path) -> None:
    local = datetime(2026, 3, 1, 14, 30, 5, 999999, tzinfo=timezone(timedelta(hours=2)))
    folder = create_session(tmp_path / "new" / "results", lambda: local)
    assert folder.session_id == "run_20260301_123005"
    assert {path.name for path in (folder.root / "dataset").iterdir()} == {
        "plan",
        "runs",
        "samples",
        "processes",
        "nodes",
    }


def test_a_taken_second_gives_way_to_the_next_one(tmp_path: Path) -> None:
    eve = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    names = [create_session(tmp_path, lambda: eve).session_id for _ in range(3)]
    assert names == ["run_20261231_235959", "run_20270101_000000", "run_20270101_000001"]


def test_paths_follow_the_contract(tmp_path: Path) -> None:
    folder = SessionFolder(tmp_path / "results" / "run_20260101_000000")
    name = "examples_mnist_cnn_003_parallel"
    relative = {
        "campaign.yaml": folder.campaign_yaml,
        "dataset/runs": folder.dataset("runs"),
        "dataset/samples/node=n%2F1": folder.samples_of("n/1"),
        "dataset/runs/run_20260101_000000-003-2.parquet": folder.run_file("run_20260101_000000-003", 2),
        f"{name}/experiment.json": folder.experiment_json(name),
        f"{name}/training.log": folder.training_log(name),
        f"{name}/background_logs/training_4.log": folder.background_log(name, 4),
        "../.work/run_20260101_000000-003-2": folder.work_dir(folder.run_id(3), 2),
    }
    for expected, path in relative.items():
        assert path == Path(os.path.normpath(folder.root / expected))
    assert folder.run_id(7) == "run_20260101_000000-007"
    assert folder.run_id(1234) == "run_20260101_000000-1234"
    with pytest.raises(ValueError, match="no dataset 'energy'"):
        folder.dataset("energy")


def test_results_that_are_a_file_are_refused_in_words(tmp_path: Path) -> None:
    blocked = tmp_path / "results"
    blocked.write_text("")
    with pytest.raises(CannotRunError, match=r"cannot make a session folder in .*results.*--results"):
        create_session(blocked, lambda: NOON)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_results_are_refused_in_words(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CannotRunError, match="Permission denied"):
        create_session(tmp_path / "results", lambda: NOON)


@pytest.mark.parametrize(
    ("boot", "start", "end", "expected"),
    [
        (BOOT, 10, 20, True),
        (BOOT, 20, 30, True),
        (BOOT, 0, 10, True),
        (BOOT, 12, 13, True),
        (BOOT, 21, 30, False),
        (BOOT, 0, 9, False),
        ("f" * 36, 10, 20, False),
    ],
)
def test_a_trace_files_name_says_what_it_can_hold(boot: str, start: int, end: int, expected: bool) -> None:
    name = SampleSpan(BOOT, 10, 20).file_name(5)
    assert SampleSpan(boot, start, end).may_be_in(name) is expected


@pytest.mark.parametrize(
    "name", ["empty.parquet", "x.parquet", SampleSpan(BOOT, 1, 2).file_name(3)[:-8] + "+2.parquet"]
)
def test_a_name_that_says_nothing_is_opened(name: str) -> None:
    assert SampleSpan("f" * 36, 5, 6).may_be_in(name)


def test_sessions_of_one_second_in_two_places_have_two_keys(tmp_path: Path) -> None:
    here, there = (create_session(tmp_path / name, lambda: datetime(2026, 1, 1, tzinfo=UTC)) for name in ("a", "b"))
    assert here.session_id == there.session_id
    assert here.key != there.key
    (tmp_path / "link").symlink_to(here.root)
    assert SessionFolder(tmp_path / "link").key == here.key
