"""Copies of a session at a URI: the same files there as here, whatever the store did meanwhile."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from profiler import copies
from profiler.copies import copying, new_session, reopened
from profiler.errors import CannotRunError, NotCopiedError, SessionError, UsageError
from profiler.store.layout import SessionFolder, create_session
from profiler.store.read import open_session
from profiler.store.remote import is_uri, open_store, refuse_uri, shown

Tell = Callable[[dict[str, Any]], None]


@pytest.fixture
def folder(tmp_path: Path) -> SessionFolder:
    made = create_session(tmp_path / "here")
    made.campaign_yaml.write_text("name: test\n")
    made.ledger.write_text("{}\n")
    return made


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def end_run(folder: SessionFolder, tell: Tell, index: int, text: str = "row") -> None:
    """An attempt leaves its files, and the driver tells of it."""
    run_id, experiment = folder.run_id(index), f"quick_{index:03d}"
    folder.run_folder(experiment).mkdir(exist_ok=True)
    folder.training_log(experiment).write_text(f"log of {run_id}")
    folder.run_file(run_id, 1).write_text(text)
    tell({"event": "attempt", "row": {"run_id": run_id, "experiment_id": experiment, "attempt": 1}})


def files(root: Path) -> dict[str, str]:
    """What lies below, hidden files left out."""
    found = [path for path in root.rglob("*") if path.is_file()]
    names = {path.relative_to(root).as_posix(): path for path in found}
    return {name: path.read_text() for name, path in names.items() if "/." not in f"/{name}"}


def await_file(path: Path) -> None:
    until = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.01)


def test_a_run_is_there_when_it_has_ended_and_the_whole_session_at_the_end(folder: SessionFolder, there: Path) -> None:
    target = there / folder.session_id
    with copying(folder, open_store(there.as_uri()), lambda event: None) as tell:
        end_run(folder, tell, 1)
        await_file(target / "dataset" / "runs" / f"{folder.run_id(1)}-1.parquet")
        assert not (target / "ledger.jsonl").exists()
        folder.run_file(folder.run_id(1), 1).write_text("row with its cooling")
        tell({"event": "cooled", "run_id": folder.run_id(1)})
        end_run(folder, tell, 2)
    assert files(target) == files(folder.root)
    assert files(target)[f"dataset/runs/{folder.run_id(1)}-1.parquet"] == "row with its cooling"


def test_what_was_merged_or_moved_here_is_gone_there(folder: SessionFolder, there: Path) -> None:
    target = there / folder.session_id
    with copying(folder, open_store(there.as_uri()), lambda event: None) as tell:
        end_run(folder, tell, 1)
        await_file(target / "dataset" / "runs" / f"{folder.run_id(1)}-1.parquet")
        folder.run_file(folder.run_id(1), 1).rename(folder.dataset("runs") / "merged.parquet")
    assert files(target) == files(folder.root)


def test_a_store_that_fails_stops_nothing_and_gets_the_rest_at_the_end(folder: SessionFolder, there: Path) -> None:
    said: list[dict[str, Any]] = []
    target = there / folder.session_id
    with copying(folder, open_store(there.as_uri()), said.append) as tell:
        target.write_text("in the way")  # where the session's folder would be: no file of it can be put
        end_run(folder, tell, 1)
        until = time.monotonic() + 20
        while not any(event["event"] == "warning" for event in said) and time.monotonic() < until:
            tell({"event": "power"})
            time.sleep(0.01)
        (warning,) = [event["message"] for event in said if event["event"] == "warning"]
        assert "could not be copied to file://" in warning and "it is tried again" in warning
        target.unlink()
        end_run(folder, tell, 2)
    assert files(target) == files(folder.root)


def test_what_is_missing_at_the_end_is_named_and_a_resume_copies_it(
    folder: SessionFolder, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "PAUSE_S", 0.01)
    target = there / folder.session_id
    with pytest.raises(NotCopiedError) as caught, copying(folder, open_store(there.as_uri()), print) as tell:
        target.write_text("in the way")
        end_run(folder, tell, 1)
    assert sorted(caught.value.missing) == sorted(files(folder.root))
    assert f"4 files are not at {target.as_uri()}" in str(caught.value)
    assert f"profiler resume {folder.root}" in str(caught.value)
    target.unlink()
    with copying(folder, reopened(folder), print):
        pass
    assert files(target) == files(folder.root)


def test_an_interrupted_campaign_copies_what_it_has(folder: SessionFolder, there: Path) -> None:
    with pytest.raises(KeyboardInterrupt), copying(folder, open_store(there.as_uri()), print) as tell:
        end_run(folder, tell, 1)
        raise KeyboardInterrupt
    assert files(there / folder.session_id) == files(folder.root)


def test_a_copy_is_whole_only_when_nothing_is_there_twice(
    folder: SessionFolder, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "PAUSE_S", 0.01)
    row = Path("dataset", "runs", f"{folder.run_id(1)}-1.parquet")
    with pytest.raises(NotCopiedError) as caught, copying(folder, open_store(there.as_uri()), print) as tell:
        end_run(folder, tell, 1)
        await_file(there / folder.session_id / row)
        (folder.root / row).rename(folder.dataset("runs") / "merged.parquet")
        (there / folder.session_id / row).unlink()
        (there / folder.session_id / row).mkdir()  # what stands there now cannot be removed as a file
    assert sorted(caught.value.missing) == [str(row), "ledger.jsonl"]
    assert not (there / folder.session_id / "ledger.jsonl").exists()


def test_a_copy_that_is_behind_does_not_say_that_the_campaign_is_finished(
    folder: SessionFolder, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "SHARED_INTERVAL_S", 0.0)
    ledger = there / folder.session_id / "ledger.jsonl"
    with copying(folder, open_store(there.as_uri()), print) as tell:
        end_run(folder, tell, 1)
        await_file(ledger)
        folder.ledger.write_text('{}\n{"event": "session_finished"}\n')
        folder.summary_csv.write_text("the next one")
        end_run(folder, tell, 2)
        await_file(there / folder.session_id / "summary.csv")
        time.sleep(0.05)
        assert ledger.read_text() == "{}\n"
    assert ledger.read_text() == folder.ledger.read_text()


def test_a_copy_outlives_its_session(folder: SessionFolder, there: Path) -> None:
    row = there / folder.session_id / "dataset" / "runs" / f"{folder.run_id(1)}-1.parquet"
    with pytest.raises(CannotRunError), copying(folder, open_store(there.as_uri()), print) as tell:
        end_run(folder, tell, 1)
        await_file(row)
        shutil.rmtree(folder.root)
        raise CannotRunError("the disk is gone")
    assert row.read_text() == "row"


def test_a_name_that_the_store_cannot_have_does_not_end_the_copying(
    folder: SessionFolder, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "PAUSE_S", 0.01)
    odd = ["quick_001/odd\udcff", "quick_001/odd\udcff2"]  # no UTF-8
    folder.run_folder("quick_001").mkdir()
    for name in odd:
        (folder.root / name).touch()
    with pytest.raises(NotCopiedError) as caught, copying(folder, open_store(there.as_uri()), print) as tell:
        end_run(folder, tell, 1)
    assert sorted(caught.value.missing) == ["ledger.jsonl", *odd]


def test_a_refused_campaign_leaves_nothing_there(folder: SessionFolder, there: Path) -> None:
    with pytest.raises(CannotRunError, match="no node"), copying(folder, open_store(there.as_uri()), print):
        shutil.rmtree(folder.root)
        raise CannotRunError("no node")
    assert list(there.iterdir()) == []


def test_drivers_of_two_machines_that_begin_in_one_second_do_not_mix_their_files(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, sessions = open_store(there.as_uri()), []
    for machine in ("one", "two"):
        monkeypatch.setenv("PROFILER_SPOOL", str(tmp_path / machine))
        sessions.append(new_session(store, lambda: datetime(2026, 1, 1, tzinfo=UTC)))
    assert [folder.session_id for folder in sessions] == ["run_20260101_000000", "run_20260101_000001"]
    assert [path.name for path in (tmp_path / "two" / "results").iterdir()] == ["run_20260101_000001"]
    for folder in sessions:
        folder.ledger.write_text(folder.session_id)
        with copying(folder, store, print):
            pass
        assert files(there / folder.session_id) == files(folder.root)


def test_a_refused_campaign_gives_its_name_up(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROFILER_SPOOL", str(tmp_path / "spool"))
    store = open_store(there.as_uri())
    folder = new_session(store)
    with pytest.raises(CannotRunError, match="no node"), copying(folder, store, print):
        shutil.rmtree(folder.root)
        raise CannotRunError("no node")
    assert list(there.iterdir()) == []


def test_a_session_without_copies_has_none(folder: SessionFolder) -> None:
    assert reopened(folder) is None


@pytest.mark.parametrize("text", [b"what is this\n", b"", b"[1]\n", b"null\n", b"{}\n", b"\xff\xfe\n"])
def test_a_damaged_record_is_named(folder: SessionFolder, text: bytes) -> None:
    (folder.root / ".copied").write_bytes(text)
    with pytest.raises(SessionError, match="is damaged; remove it"):
        reopened(folder)


def test_damaged_lines_of_the_record_are_put_again(folder: SessionFolder, there: Path) -> None:
    (folder.root / ".copied").write_bytes(
        f'{{"uri": "{there.as_uri()}"}}\n5\n{{"name": "x"}}\n\xff\n'.encode("latin-1")
    )
    with copying(folder, reopened(folder), print) as tell:
        end_run(folder, tell, 1)
    assert files(there / folder.session_id) == files(folder.root)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("foo://x/y", "Unrecognized filesystem type"),
        ("s3://", "it names no bucket or folder"),
        ("file://elsewhere/x", "hostname"),
        ("s3://[bad", "Cannot parse URI"),
        ("mock://x/y", "nothing is kept"),
        ("file:///tmp/a b", "a space is %20 there"),
        ("s3://key:hunter2@bucket/x", "a password does not belong in a URI"),
        ("s3://key:hunter2@[bad/x", "a password does not belong in a URI"),
        ("s3://key:with/hunter2@bucket/x", "a password does not belong in a URI"),
        ("foo://hunter2@x/y?z=hunter2", r"foo://\*\*\*@x/y\?\*\*\*: Unrecognized filesystem type"),
        ("s3://hunter2@[bad", "Cannot parse URI"),
        ("s3://bucket/x?access_token;hunter2=1", "a access_token does not belong in a URI"),
        ("s3://bucket/x?sas=hunter2", "a sas does not belong in a URI"),
        ("abfs://box@account/x?tenant_id=1&client_secret=hunter2", "a client_secret does not belong in a URI"),
        ("s3://bucket/x?region=eu&Session_Token=hunter2", "a Session_Token does not belong in a URI"),
    ],
)
def test_a_uri_that_can_not_be_is_refused(uri: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        open_store(uri)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["s3://key:hunter2@bucket/x", "s3:/key:hunter2@bucket/x", "s3://k:with/hunter2@[b", "s3://b/x?key=hunter2"]
)
def test_no_message_shows_the_secret_of_a_uri(uri: str) -> None:
    with pytest.raises(UsageError, match="a folder of this machine is needed") as refused:
        refuse_uri(uri)
    with pytest.raises(SessionError, match="is a URI") as unread:
        open_session(uri)
    assert "hunter2" not in f"{refused.value} {unread.value}" and "***" in str(refused.value)


def test_a_uri_without_secrets_is_shown_as_it_is() -> None:
    for uri in ("s3://bucket/run", "file:///home/me@work/results", "file:/home/me@work"):
        assert shown(uri) == uri


def test_a_place_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotRunError, match=r"results cannot be put at file://.*Not a directory"):
        open_store((tmp_path / "file" / "x").as_uri())


def test_readers_say_that_a_uri_must_be_copied_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for uri in ("s3://bucket/run_20260101_000000", Path("s3://bucket/run_20260101_000000")):
        with pytest.raises(SessionError, match=r"is a URI.*copy_files.*profiler resume"):
            open_session(uri)
    monkeypatch.chdir(tmp_path)
    Path("a:").mkdir()
    assert is_uri("s3://bucket") and is_uri("file:///x") and not is_uri("results") and not is_uri("a:/")
