"""The ledger keeps what it was told, whatever happened to the process that told it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import CannotRunError
from profiler.store.ledger import ATTEMPT_STARTED, Ledger, read_ledger
from tests.store.build import NOON


def ledger(path: Path) -> Ledger:
    return Ledger(path, lambda: NOON)


def test_events_come_back_in_order_with_their_time(tmp_path: Path) -> None:
    diary = ledger(tmp_path / "ledger.jsonl")
    diary.append({"event": "session_created", "pid": 4})
    diary.append({"event": ATTEMPT_STARTED, "run_id": "r-001", "attempt": 1, "t_utc": "2026-01-01T00:00:00Z"})
    first, second = diary.read().events
    assert first == {"t_utc": "2026-03-01T12:00:00.123456+00:00", "event": "session_created", "pid": 4}
    assert second["t_utc"] == "2026-01-01T00:00:00Z"


def test_a_missing_ledger_is_empty(tmp_path: Path) -> None:
    assert read_ledger(tmp_path / "none").events == ()


def test_an_event_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a name"):
        ledger(tmp_path / "l").append({"run_id": "r"})


def test_a_torn_line_at_every_byte_loses_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger(path).append({"event": "one"})
    whole = path.read_bytes()
    ledger(path).append({"event": "two"})
    both = path.read_bytes()
    for cut in range(len(whole), len(both) - 1):
        path.write_bytes(both[:cut])
        before = read_ledger(path)
        assert [event["event"] for event in before.events] == ["one"]
        assert before.torn == (cut > len(whole))
        ledger(path).append({"event": "three"})
        after = read_ledger(path)
        assert [event["event"] for event in after.events] == ["one", "three"]
        assert after.torn == before.torn


def test_a_last_line_that_only_lacks_its_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger(path).append({"event": "one"})
    path.write_bytes(path.read_bytes()[:-1])
    ledger(path).append({"event": "two"})
    assert [event["event"] for event in read_ledger(path).events] == ["one", "two"]


@given(garbage=st.binary(max_size=200))
def test_garbage_never_hides_whole_events(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    ledger(path).append({"event": "before"})
    with path.open("ab") as file:
        file.write(garbage)
    ledger(path).append({"event": "after"})
    names = [event["event"] for event in read_ledger(path).events]
    assert names[0] == "before"
    assert names[-1] == "after"


def test_earlier_bytes_never_change(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    seen = b""
    for number in range(20):
        ledger(path).append({"event": "e", "number": number})
        now = path.read_bytes()
        assert now.startswith(seen)
        seen = now
    assert [json.loads(line)["number"] for line in seen.splitlines()] == list(range(20))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_ledger_is_refused_in_words(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CannotRunError, match="cannot write"):
        ledger(tmp_path / "ledger.jsonl").append({"event": "e"})
