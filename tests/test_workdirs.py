"""Old work directories go, those of a driven session stay."""

from __future__ import annotations

import os
from pathlib import Path

from profiler.store.layout import SessionFolder
from profiler.workdirs import prune_work


def make(results: Path, session: str, count: int, age_s: int) -> list[Path]:
    (results / session).mkdir(parents=True, exist_ok=True)
    paths = [results / ".work" / f"{session}-{number:03d}-1" for number in range(1, count + 1)]
    for number, path in enumerate(paths):
        path.mkdir(parents=True)
        (path / "file").write_text("evidence")
        os.utime(path, (1_000_000 - age_s + number, 1_000_000 - age_s + number))
    return paths


def test_the_newest_are_kept(tmp_path: Path) -> None:
    paths = make(tmp_path, "run_20260101_000000", 6, age_s=100)
    removed = prune_work([tmp_path], lambda folder: False, kept=4)
    assert sorted(removed) == paths[:2]
    assert [path.exists() for path in paths] == [False, False, True, True, True, True]


def test_a_driven_session_is_left_alone(tmp_path: Path) -> None:
    old = make(tmp_path, "run_20260101_000000", 3, age_s=1000)
    make(tmp_path, "run_20260102_000000", 2, age_s=10)

    def driven(folder: SessionFolder) -> bool:
        return folder.session_id == "run_20260101_000000"

    assert prune_work([tmp_path], driven, kept=2) == []
    assert all(path.exists() for path in old)


def test_without_a_work_folder_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert prune_work([tmp_path], lambda folder: False) == []
