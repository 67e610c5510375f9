"""Finished results and files of a node that does not see the session: kept, sent in pieces, taken in whole."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from profiler import spool
from profiler.driver_lock import is_driven
from profiler.errors import CannotRunError
from profiler.shipped import found_folders
from profiler.store.arrival import complete_arrival, drop_arrivals, take_piece
from profiler.store.layout import SessionFolder, create_session
from profiler.store.ledger import Ledger, session_identity

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture
def node(tmp_path: Path) -> SessionFolder:
    place = spool.place({"PROFILER_SPOOL": str(tmp_path / "spool")})
    folder, descriptor = spool.open_session(place, "identity", "run_20260101_000000")
    os.close(descriptor)
    return folder


def test_a_result_is_kept_as_it_was_until_it_is_acknowledged(node: SessionFolder) -> None:
    row = {"run_id": f"{node.session_id}-001", "attempt": 2, "started_at": WHEN, "gpu_energy_j": 1 / 3, "x": None}
    spool.keep(node, {"row": row, "processes": [], "retry_may_help": False, "kind": "result"})
    assert list(spool.kept(node)) == [{"row": row, "processes": [], "retry_may_help": False}]
    assert list(spool.kept(SessionFolder(node.root.with_name("run_20260101_000001")))) == []
    spool.forget(node, row["run_id"], 2)
    assert list(spool.kept(node)) == []


def test_sessions_of_two_drivers_in_the_same_second_share_nothing(tmp_path: Path) -> None:
    sessions = [create_session(tmp_path / name, lambda: WHEN) for name in ("one", "other")]
    for session in sessions:
        Ledger(session.ledger).append({"event": "session_created", "pid": os.getpid(), "plan_digest": "1"})
    one, other = (session_identity(session.ledger) for session in sessions)
    assert one != other
    moved = tmp_path / "moved"
    sessions[0].root.rename(moved)
    Ledger(SessionFolder(moved).ledger).append({"event": "session_finished"})
    assert session_identity(SessionFolder(moved).ledger) == one
    name = sessions[0].session_id
    assert name == sessions[1].session_id
    here, there = (spool.open_session(tmp_path, identity, name) for identity in (one, other))
    row = {"run_id": f"{name}-001", "attempt": 1}
    spool.keep(here[0], {"row": row, "processes": [], "retry_may_help": False})
    assert [kept["row"] for kept in spool.kept(here[0])] == [row]
    assert list(spool.kept(there[0])) == []
    for _, descriptor in (here, there):
        os.close(descriptor)
    with pytest.raises(CannotRunError, match="no event"):
        session_identity(tmp_path / "nothing")


def test_files_travel_in_bounded_pieces_and_appear_together(node: SessionFolder, tmp_path: Path) -> None:
    files = {
        "training.log": os.urandom(2 * spool.PIECE_BYTES + 5),
        "empty": b"",
        "background_logs/training_1.log": b"x",
    }
    for name, data in files.items():
        path = node.run_folder("e1") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (node.run_folder("e1") / "attempts" / "1").mkdir(parents=True)
    (node.run_folder("e1") / "attempts" / "1" / "old").write_text("no")
    pieces = list(spool.pieces(node, "e1"))
    assert max(len(piece["data"]) for piece in pieces) == spool.PIECE_BYTES
    home = SessionFolder(tmp_path / "results" / node.session_id)
    home.run_folder("e1").mkdir(parents=True)
    (home.run_folder("e1") / "training.log").write_text("of attempt 1")
    for piece in pieces:
        take_piece(home, "e1", 2, piece)
    assert home.training_log("e1").read_text() == "of attempt 1"
    complete_arrival(home, "e1", 2)
    assert {name: (home.run_folder("e1") / name).read_bytes() for name in files} == files
    assert (home.attempt_folder("e1", 1) / "training.log").read_text() == "of attempt 1"


def test_an_arrival_that_was_broken_off_begins_anew(tmp_path: Path) -> None:
    home = SessionFolder(tmp_path / "run_20260101_000000")
    take_piece(home, "e1", 1, {"path": "training.log", "offset": 0, "data": b"half of a longer"})
    take_piece(home, "e1", 1, {"path": "training.log", "offset": 0, "data": b"whole"})
    complete_arrival(home, "e1", 1)
    assert home.training_log("e1").read_bytes() == b"whole"
    take_piece(home, "e1", 2, {"path": "training.log", "offset": 0, "data": b"half"})
    drop_arrivals(home)
    assert home.training_log("e1").read_bytes() == b"whole"


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x"])
def test_a_file_that_would_leave_the_runs_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="called"):
        take_piece(SessionFolder(tmp_path), "e1", 1, {"path": name, "offset": 0, "data": b""})


def test_a_place_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotRunError, match="PROFILER_SPOOL"):
        spool.place({"PROFILER_SPOOL": str(tmp_path / "file")})
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(CannotRunError, match="PROFILER_SPOOL"):
        spool.place({"PROFILER_SPOOL": str(tmp_path / "link")})


def test_a_session_is_locked_while_it_is_open_and_old_ones_go(tmp_path: Path) -> None:
    old, late, own = (tmp_path / "sessions" / name for name in ("old", "late", "own"))
    results = {place: place / ".work" / "run_20250101_000000-001-1.result" for place in (old, late, own)}
    for place, result in results.items():
        (place / "run_20250101_000000").mkdir(parents=True)
        result.parent.mkdir()
        result.touch()
        for path in (result, result.parent, place / "run_20250101_000000", place):
            os.utime(path, (0, 0))
    os.utime(results[late].parent)  # a result came in not long ago
    other_use = tmp_path / "results" / "run_20250101_000000"
    other_use.mkdir(parents=True)
    os.utime(other_use, (0, 0))
    folder, descriptor = spool.open_session(tmp_path, "own", "run_20250101_000000")
    assert [place.exists() for place in (old, late, own, other_use)] == [False, True, True, True]
    assert is_driven(folder)
    os.close(descriptor)
    assert not is_driven(folder)


def test_folders_are_found_where_they_are_or_where_they_travelled_to(tmp_path: Path) -> None:
    here, package = tmp_path / "repos" / "a", tmp_path / "_ray_pkg_1"
    for folder in (here, package / "repos" / "a", package / "repos" / "b"):
        folder.mkdir(parents=True)
        (folder / "workload.yaml").touch()
    gone = str(tmp_path / "driver" / "repos" / "b")
    asked = {str(here): True, gone: True, str(tmp_path / "driver" / "own"): False}
    path = ["/usr/lib", str(package)]
    shipped = str(package / "repos" / "b")
    nowhere = {str(tmp_path / "driver" / "own"): None}
    assert found_folders(asked, prefer_shipped=False, path=path) == {str(here): str(here), gone: shipped, **nowhere}
    travelled = str(package / "repos" / "a")
    assert found_folders(asked, prefer_shipped=True, path=path) == {str(here): travelled, gone: shipped, **nowhere}
