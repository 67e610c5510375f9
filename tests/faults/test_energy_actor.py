"""A killed EnergyActor costs samples, not runs and not the energy of a run."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import profiler
from tests.campaigns import config, quick
from tests.fakes.nvml import FakeNvml
from tests.faults.scene import Scene
from tests.process.harness import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.ray]

RATE_HZ = 10.0


def on_disk_ns(session: Path) -> int:
    """Time of the newest sample of the session that no end of a process can take away; 0 before there is one."""
    times = [
        pq.read_table(path, columns=["t_mono_ns"])["t_mono_ns"] for path in session.glob("dataset/samples/**/*.parquet")
    ]
    return max((pc.max(column).as_py() for column in times if len(column)), default=0)


def test_the_campaign_goes_on_with_a_gap_in_the_trace_and_exact_energy(
    scene: Scene, tmp_path: Path, fake_nvml: FakeNvml
) -> None:
    fake_nvml.bursts(600.0, 100.0, period_s=0.7)
    scene = dataclasses.replace(scene, more={**scene.more, **fake_nvml.env})
    long = quick(epochs=60, epoch_seconds=0.3, marker=scene.mark)
    path = config(scene.folder, [long, quick(seed=2)], max_retries=0, cooling={"seconds": 0})
    drive = scene.drive("run", path, "--results", scene.folder / "results")
    try:
        drive.await_text("001 attempt 1: training")
        wait_until(lambda: bool(drive.keepers()), 60)
        trains_ns = time.monotonic_ns()
        wait_until(lambda: on_disk_ns(scene.session()) > trains_ns, 60)
        actor = drive.ray_process("ray::EnergyActor")
        assert actor is not None
        killed_ns = time.monotonic_ns()
        os.kill(actor, signal.SIGKILL)
        drive.process.wait(120)
    except subprocess.TimeoutExpired:
        pytest.fail(drive.text())
    finally:
        drive.close()
    assert drive.process.returncode == 0, drive.text()
    session = profiler.open(scene.session())
    first, second = session.rows()
    shown = ("samples", "samples_missed", "duration_s", "gpu_energy_j", "reasons", "null_reasons", "energy_sources")
    print(json.dumps({name: first[name] for name in shown}))
    assert (first["valid"], second["valid"]) == (True, True)

    start_ns, end_ns = first["window_start_ns"], first["window_end_ns"]
    truth_j = (fake_nvml.energy_mj(end_ns) - fake_nvml.energy_mj(start_ns)) / 1000
    assert "counter" in first["energy_sources"]["gpu_energy_j"]
    assert abs(first["gpu_energy_j"] - truth_j) < max(0.01 * truth_j, 2 * first["energy_uncertainty_j"]["gpu_energy_j"])

    trace = session.samples(first["run_id"])
    read_ns = sorted(trace.loc[(trace["source"] == "node") & ~trace["missed"], "t_mono_ns"])
    assert read_ns[0] < killed_ns < read_ns[-1], "it was started again, and samples the same run"
    hole_s = max(b - a for a, b in pairwise(read_ns)) / 1e9
    assert hole_s > 3 / RATE_HZ
    assert first["samples"] == pytest.approx(RATE_HZ * first["duration_s"], abs=2)
    assert first["samples_missed"] >= RATE_HZ * hole_s - 2
    assert not drive.survivors(0.3)
