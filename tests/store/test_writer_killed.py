"""SIGKILL of the writer at random moments: every file opens, what was recorded is there, nothing is half."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from profiler.store.layout import SessionFolder
from profiler.store.read import open_session, parquet_files, read_rows
from profiler.store.schema import SAMPLES
from profiler.store.write import clean_temporary

ROUNDS = int(os.environ.get("PROFILER_KILLS", "5"))
RUNS = 40


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(ROUNDS))
def test_nothing_that_was_told_is_lost(tmp_path: Path, turn: int) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.store.writer", tmp_path / "results", str(RUNS)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    folder = SessionFolder(Path(writer.stdout.readline().strip()))
    try:
        writer.wait(timeout=random.Random(turn).uniform(0.0, 1.5))
    except subprocess.TimeoutExpired:
        writer.kill()
    told = [line.split() for line in writer.stdout.read().splitlines() if line.count(" ") == 1]
    writer.wait()
    for path in parquet_files(folder.root):
        pq.read_table(path)
    for path in folder.root.glob("*/experiment.json"):
        json.loads(path.read_text())
    rows = open_session(folder.root).final_rows()
    assert {row["run_id"] for row in rows} >= {what for kind, what in told if kind == "run"}
    last_ns = max((int(what) for kind, what in told if kind == "samples"), default=0)
    stored = read_rows(folder.dataset("samples"), SAMPLES)
    assert max((row["t_mono_ns"] for row in stored), default=0) >= last_ns
    assert len(stored) == len({(row["t_mono_ns"], row["device"]) for row in stored})
    clean_temporary(folder)
    assert not list(folder.root.rglob(".*.tmp"))
