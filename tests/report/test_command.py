"""`profiler report` and `session.report`: where the page goes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import profiler
from profiler.cli.main import main
from profiler.errors import CannotRunError, SessionError, UsageError
from tests.report import sessions
from tests.report.sessions import Run
from tests.store.build import largest_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return sessions.make_session(tmp_path / "results", [Run(seconds=2.0)]).root


def test_it_goes_into_the_session_and_is_replaced_by_the_next_one(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(root)]) == 0
    page = root / "report.html"
    assert capsys.readouterr().out == f"{page}\n"
    first = page.read_bytes()
    assert main(["report", str(root)]) == 0
    assert page.read_bytes() == first
    assert [path.name for path in root.glob(".*")] == []


def test_python_writes_the_same_page(root: Path, tmp_path: Path) -> None:
    session = profiler.open(root)
    assert session.report(tmp_path / "new" / "page.html") == tmp_path / "new" / "page.html"
    assert (tmp_path / "new" / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("name", ["nowhere", "results"])
def test_what_is_no_session_is_refused(root: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(root.parent.parent / name)]) == 2
    assert name in capsys.readouterr().err


def test_a_file_that_is_no_report_is_left_alone(root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "train.py"
    mine.write_text("print('mine')\n")
    with pytest.raises(UsageError, match="is not a report"):
        profiler.open(root).report(mine)
    assert mine.read_text() == "print('mine')\n"
    with pytest.raises(UsageError, match="is a folder"):
        profiler.open(root).report(tmp_path)


def test_an_unknown_run_and_a_place_without_writing_are_told(root: Path) -> None:
    session = profiler.open(root)
    with pytest.raises(SessionError, match="no run 'nobody'"):
        session.report(root / "report.html", traces=["nobody"])
    with pytest.raises(CannotRunError, match=r"/proc/page\.html"):
        session.report("/proc/page.html")
    assert not (root / "report.html").exists()


def test_a_full_disk_leaves_the_older_page_whole(root: Path) -> None:
    session = profiler.open(root)
    page = session.report(root / "report.html")
    before = page.read_bytes()
    with largest_file(4096), pytest.raises(CannotRunError, match=r"cannot write .*report\.html"):
        session.report(page)
    assert page.read_bytes() == before
    assert [path.name for path in root.glob(".*")] == []
