"""Campaigns on a virtual GPU: right joules, one device for a pair, and the incident that must not happen again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import profiler
from profiler.store.ledger import read_ledger
from tests.campaigns import command, config, environment, pair, quick, run, run_json
from tests.fakes.nvml import FakeNvml

pytestmark = pytest.mark.ray

SQUATTER_MIB = 5500.0


def test_counter_energy_is_that_of_the_closed_form(tmp_path: Path, fake_nvml: FakeNvml) -> None:
    fake_nvml.power(300.0)
    path = config(tmp_path, [quick(epochs=1, epoch_seconds=3.0)], cooling={"seconds": 0})
    row = run_json("run", path, "--results", tmp_path / "results", **fake_nvml.env)["runs"][0]
    truth_j = 300.0 * row["duration_s"]
    assert row["verdict"] == "valid"
    assert row["gpu_uuid"] is not None
    assert abs(row["gpu_energy_j"] - truth_j) <= 300.0 * 0.25  # the counter moves every 100 ms, at both edges
    assert abs(row["gpu_energy_integral_j"] - truth_j) <= 0.02 * truth_j
    assert row["gpu_power_mean_w"] == pytest.approx(300.0, abs=0.5)
    assert abs(row["gpu_counter_integral_gap_percent"]) < 10
    assert "gpu_energy_j" in row["energy_sources"]


@pytest.mark.cluster
def test_a_second_gpu_of_the_node_holds_no_run_up(tmp_path: Path, fake_nvml_library: Path) -> None:
    two = FakeNvml(tmp_path / "two.state", fake_nvml_library, gpus=2)
    path = config(tmp_path, [quick(epochs=1)], cooling={"seconds": 0}, gate={"max_wait_seconds": 0})
    row = run_json("run", path, "--results", tmp_path / "results", **two.env)["runs"][0]
    assert (row["verdict"], row["gate_wait_s"]) == ("valid", 0)
    assert row["gpu_energy_j"] is not None


def test_a_pair_has_one_device_and_cooling_is_proven(tmp_path: Path, fake_nvml: FakeNvml) -> None:
    fake_nvml.power(200.0)
    item = pair({"epochs": 2, "epoch_seconds": 0.4}, {"epochs": 2, "epoch_seconds": 0.2})
    path = config(tmp_path, [item], cooling={"seconds": 3})
    document = run_json("run", path, "--results", tmp_path / "results", **fake_nvml.env)
    (row,) = document["runs"]
    assert row["background_gpu_uuid"] == row["gpu_uuid"] is not None
    assert row["background_started_at"] < row["started_at"] < row["ended_at"] < row["background_ended_at"]
    *_, last = read_ledger(Path(document["path"], "ledger.jsonl")).events
    after_s = datetime.fromisoformat(last["t_utc"]) - datetime.fromisoformat(row["background_ended_at"])
    assert 3 <= row["cooling_s"] <= after_s.total_seconds(), "as long as asked, between the run and the session's end"
    assert row["cooling_end"] == "seconds"
    assert row["cooling_idle_proven"] is True


def test_the_incident_a_squatter_before_run_3_and_during_run_5(tmp_path: Path, fake_nvml: FakeNvml) -> None:
    runs = [quick(epochs=1, epoch_seconds=2.5, seed=seed) for seed in range(1, 7)]
    runs[1]["cooling"] = {"seconds": 10}  # time for the squatter to come before the gate of run 3 looks
    path = config(tmp_path, runs, cooling={"seconds": 0}, gate={"max_wait_seconds": 60})
    results = tmp_path / "results"
    campaign = subprocess.Popen(
        command("run", path, "--results", results),
        env=environment(**fake_nvml.env), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    _until(lambda: _records(results) == 2, campaign)
    with _squatter(fake_nvml) as first:
        _until(lambda: _log(results, 3) or _waits(campaign), campaign)
        time.sleep(1)
        assert not _log(results, 3)
    _until(lambda: _log(results, 5), campaign)
    with _squatter(fake_nvml) as second:
        time.sleep(1.6)
    _, stderr = campaign.communicate(timeout=120)
    assert campaign.returncode == 0, stderr
    session = profiler.open(next(results.glob("run_*")))
    rows = {row["index"]: row for row in session.rows()}
    assert rows[3]["verdict"] == "valid"
    assert rows[3]["gate_wait_s"] > 0.5
    assert f"process {first}" in stderr_of(campaign, stderr)
    assert rows[5]["verdict"] == "contaminated"
    assert "foreign_gpu_process" in rows[5]["reasons"]
    assert set(rows[5]["reasons"]) <= {"foreign_gpu_process", "memory_not_idle"}  # it may have come before the trainer
    assert f"PID {second}" in rows[5]["evidence"]["foreign_gpu_process"]
    assert f"{SQUATTER_MIB:.0f} MiB" in rows[5]["evidence"]["foreign_gpu_process"]
    assert [index for index, row in rows.items() if not row["safe"]] == [5]
    seen = session.processes()
    assert set(seen["pid"]) == {second}
    assert not seen["own"].any()


@pytest.mark.cluster
def test_a_squatter_that_stays_ends_the_campaign_by_name(tmp_path: Path, fake_nvml: FakeNvml) -> None:
    path = config(tmp_path, [quick(), quick(seed=2)], cooling={"seconds": 0}, gate={"max_wait_seconds": 0.5})
    with _squatter(fake_nvml) as pid:
        refused = run_json("run", path, "--results", tmp_path / "results", expect=3, **fake_nvml.env)
    message = refused["errors"][0]["message"]
    assert f"process {pid}" in message
    assert "resume" in message
    session = next((tmp_path / "results").glob("run_*"))
    finished = run_json("resume", session, **fake_nvml.env)
    assert [row["attempt"] for row in finished["runs"]] == [1, 1]
    assert all(row["verdict"] == "valid" for row in finished["runs"])


def test_a_session_that_goes_on_with_another_gpu_says_so(tmp_path: Path, fake_nvml: FakeNvml) -> None:
    path = config(tmp_path, [quick(), quick(behaviour="exit_3")], cooling={"seconds": 0}, max_retries=0)
    session = run_json("run", path, "--results", tmp_path / "results", expect=1, **fake_nvml.env)["path"]
    first = fake_nvml.gpus[0].uuid
    again = ("resume", session, "--retry-failed")
    assert "no node has now" not in run(*again, **fake_nvml.env).stderr
    fake_nvml.set(uuid="GPU-00000000-fa4e-0000-0000-000000000009")
    assert (
        f"warning: runs of this session were on {first}, which no node has now" in run(*again, **fake_nvml.env).stderr
    )


@contextmanager
def _squatter(fake_nvml: FakeNvml) -> Iterator[int]:
    """A real process of somebody else that the virtual GPU shows with 5.5 GB."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    fake_nvml.add_process(process.pid, SQUATTER_MIB)
    try:
        yield process.pid
    finally:
        fake_nvml.remove_process(process.pid)
        process.kill()
        process.wait()


def _records(results: Path) -> int:
    return len(list(results.glob("run_*/dataset/runs/*.parquet")))


def _log(results: Path, index: int) -> bool:
    return bool(list(results.glob(f"run_*/quick_quick_{index:03d}/training.log")))


_said: dict[int, str] = {}


def _waits(campaign: subprocess.Popen[str]) -> bool:
    """Whether the campaign has told that a run waits."""
    assert campaign.stderr is not None
    line = campaign.stderr.readline()
    _said[campaign.pid] = _said.get(campaign.pid, "") + line
    return " waits: " in line


def stderr_of(campaign: subprocess.Popen[str], rest: str) -> str:
    return _said.get(campaign.pid, "") + rest


def _until(condition: Callable[[], Any], campaign: subprocess.Popen[str], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert campaign.poll() is None, "the campaign ended early"
        assert time.monotonic() < deadline
        time.sleep(0.02)
