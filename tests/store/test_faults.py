"""A full disk, a killed writer and a busy writer: what was written before is whole, and readers never see a part."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler.errors import CannotRunError
from profiler.store.layout import SessionFolder
from profiler.store.ledger import Ledger, read_ledger
from profiler.store.read import Session, open_session
from profiler.store.write import Recorder, clean_temporary, refresh_summaries, write_samples
from tests.store.build import T0_NS, attempt_row, largest_file, sample, session_folder

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A tmpfs of that size; skips the test where mounting is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def contents(folder: SessionFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}


def check_whole(folder: SessionFolder) -> int:
    """Everything opens; the number of recorded attempts."""
    session = open_session(folder.root)
    attempts = session.attempts()
    session.runs(flat=True)
    assert read_ledger(folder.ledger).torn == 0
    assert not list(folder.root.rglob(".*.tmp"))
    return len(attempts)


def test_a_full_disk_ends_with_a_clear_error_and_whole_files(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 512) as disk:
        folder = session_folder(disk, 40)
        recorder = Recorder(folder, Ledger(folder.ledger))
        recorded = 0
        with pytest.raises(CannotRunError, match=r"disk full: .* could not be written .*Free space"):
            for index in range(1, 41):
                before = contents(folder)
                recorder.record(attempt_row(folder, index))
                recorded = index
        assert recorded > 3
        after = contents(folder)
        summaries = {folder.summary_csv, folder.summary_safe_csv, folder.ledger}
        assert all(after[path] == data for path, data in before.items() if path not in summaries)
        assert check_whole(folder) in (recorded, recorded + 1)


def test_a_session_goes_on_after_space_was_made(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 384) as disk:
        folder = session_folder(disk, 6)
        recorder = Recorder(folder, Ledger(folder.ledger))
        recorder.record(attempt_row(folder, 1))
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        with pytest.raises(CannotRunError, match="disk full"):
            recorder.record(attempt_row(folder, 2))
        with pytest.raises(CannotRunError, match="disk full"):
            write_samples(folder, "node-a", [sample(T0_NS + i, i) for i in range(2000)])
        filler.unlink()
        recorder.record(attempt_row(folder, 2))
        assert check_whole(folder) == 2
        assert len(folder.summary_csv.read_text().splitlines()) == 3


def test_a_file_size_limit_reads_as_a_full_disk(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 2)
    recorder = Recorder(folder, Ledger(folder.ledger))
    recorder.record(attempt_row(folder, 1))
    before = contents(folder)
    with largest_file(2000), pytest.raises(CannotRunError, match="disk full"):
        recorder.record(attempt_row(folder, 2))
    assert contents(folder) == before


def test_a_ledger_line_that_does_not_fit_leaves_no_part(tmp_path: Path) -> None:
    diary = Ledger(tmp_path / "ledger.jsonl")
    diary.append({"event": "one"})
    before = diary.path.read_bytes()
    with largest_file(len(before) + 20), pytest.raises(CannotRunError, match="disk full"):
        diary.append({"event": "two", "text": "x" * 100})
    assert diary.path.read_bytes() == before


WRITER = """
import itertools, sys
from pathlib import Path
from profiler.store.layout import SessionFolder
from profiler.store.ledger import Ledger
from profiler.store.write import Recorder, compact, write_samples
from tests.store.build import T0_NS, attempt_row, sample
folder = SessionFolder(Path(sys.argv[1]))
recorder = Recorder(folder, Ledger(folder.ledger))
start = int(sys.argv[2])
print("ready", flush=True)
for index in range(start, 400):
    recorder.record(attempt_row(folder, index))
    write_samples(folder, "node-a", [sample(T0_NS + index * 100 + i, i) for i in range(50)])
    if index % 5 == 0:
        compact(folder, ["samples", "runs"])
    print(index, flush=True)
"""


def start_writer(folder: SessionFolder, first: int) -> subprocess.Popen[str]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder.root), str(first)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    return writer


@pytest.mark.fault
def test_a_killed_writer_loses_nothing_it_reported(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 400)
    chance = random.Random(5)
    done = 0
    for _ in range(4):
        writer = start_writer(folder, done + 1)
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(chance.randrange(4))]
        time.sleep(chance.uniform(0, 0.1))
        writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.communicate()[0].split()]
        done = told[-1] if told else done
        clean_temporary(folder)
        refresh_summaries(folder)
        attempts = check_whole(folder)
        assert attempts in (done, done + 1)
        Session(folder.root).samples(folder.run_id(1))
        done = attempts
    assert done > 0


@pytest.mark.fault
def test_readers_never_see_a_part_while_a_writer_works(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 400)
    writer = start_writer(folder, 1)
    try:
        seen, until = 0, time.monotonic() + 120
        while seen < 8 and time.monotonic() < until:
            session = open_session(folder.root)
            count = len(session.attempts())
            assert count >= seen
            seen = count
            trace = session.samples(folder.run_id(1))
            assert trace["t_mono_ns"].is_unique
            if folder.summary_csv.exists():
                assert folder.summary_csv.read_text().endswith("\n")
        assert seen >= 8
    finally:
        writer.kill()
        writer.communicate()
