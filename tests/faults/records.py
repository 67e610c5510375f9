"""What a session's files must look like after a kill, and after the campaign was finished all the same."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq

import profiler
from profiler.store.ledger import read_ledger


def check_every_file_opens(session: Path) -> None:
    """Every file that has its final name is whole. Of a log being appended to, the last line may be cut."""
    for path in session.rglob("*"):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.suffix == ".parquet":
            pq.read_table(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".csv":
            with path.open(newline="") as stream:
                lines = list(csv.reader(stream))
            assert {len(line) for line in lines} <= {len(lines[0])} if lines else True, path
        elif path.suffix == ".jsonl":
            for line in path.read_text().split("\n")[:-1]:
                json.loads(line)


def finished_files(session: Path) -> dict[Path, bytes]:
    """Content of everything that belongs to runs with a final row: it must never change again. Hidden files are what a
    killed writer left half-written; they go at the next start."""
    kept: dict[Path, bytes] = {}
    opened = profiler.open(session)
    for row in opened.attempts():
        kept |= _content(opened.folder.run_file(row["run_id"], row["attempt"]))
        if row["is_final"]:
            folder = opened.folder.run_folder(row["experiment_id"])
            for path in folder.rglob("*"):
                kept |= _content(path) if path.is_file() and not path.name.startswith(".") else {}
    return kept


def _content(path: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes()}


def check_unchanged(files: dict[Path, bytes]) -> None:
    changed = [str(path) for path, content in files.items() if not path.exists() or path.read_bytes() != content]
    assert not changed, f"changed: {changed}"


def check_complete(session: Path, runs: int, digest: str | None = None) -> Counter[str]:
    """Exactly one final row for each planned run, every attempt that the ledger started has its row, and no trainer
    was executed without an attempt. Returns counts: attempts, executed, kills (attempts without a record of theirs)."""
    opened = profiler.open(session)
    attempts = opened.attempts()
    finals = Counter(row["run_id"] for row in attempts if row["is_final"])
    assert finals == {opened.folder.run_id(index): 1 for index in range(1, runs + 1)}
    assert {row["plan_digest"] for row in attempts if row["valid"]} <= {digest or plan_digest(session)}
    events: dict[str, Counter[tuple[str, int]]] = defaultdict(Counter)
    for event in read_ledger(opened.folder.ledger).events:
        events[event["event"]][event.get("run_id", ""), event.get("attempt", 0)] += 1
    recorded = Counter((row["run_id"], row["attempt"]) for row in attempts)
    assert events["attempt_started"] - events["attempt_not_executed"] == recorded, "started and recorded differ"
    executed = Counter({row["attempt"]: 0 for row in attempts})
    for row in attempts:
        lines = _executed_lines(opened.folder.root / row["experiment_id"], row["attempt"], row["is_final"])
        assert lines <= 1, f"{row['run_id']} attempt {row['attempt']} executed {lines} times"
        assert lines == 1 or not row["valid"]
        executed[row["attempt"]] += lines
    logs = [path.read_text(errors="replace") for path in session.rglob("training.log")]
    assert sum(text.count("executed ") for text in logs) == executed.total()
    interrupted = sum("interrupted" in row["reasons"] for row in attempts)
    return Counter(attempts=len(attempts), executed=executed.total(), interrupted=interrupted)


def _executed_lines(folder: Path, attempt: int, newest: bool) -> int:
    archived = folder / "attempts" / str(attempt) / "training.log"
    log = folder / "training.log" if newest else archived
    return log.read_text(errors="replace").count("executed ") if log.exists() else 0


def plan_digest(session: Path) -> str:
    digest = read_ledger(session / "ledger.jsonl").events[0]["plan_digest"]
    assert isinstance(digest, str)
    return digest
