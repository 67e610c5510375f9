"""A wall clock that is moved by an hour in mid-run changes no duration and no energy. Real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes import powercap
from tests.fakes.clocks import Clocks, compiler
from tests.fakes.nvml import FakeNvml

pytestmark = pytest.mark.slow

HOUR_S = 3600.0
CPU_W = 40.0


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
def test_a_step_of_an_hour_changes_nothing_and_is_told(tmp_path: Path, fake_nvml: FakeNvml, step_s: float) -> None:
    if compiler() is None:
        pytest.skip("no C compiler for the moved clocks")
    clocks = Clocks(tmp_path)
    zones = [powercap.Zone("intel-rapl:0", "package-0", CPU_W)]
    powercap.build(tmp_path, zones)
    fake_nvml.bursts(600.0, 100.0, period_s=0.7)
    environment = {**os.environ, **fake_nvml.env, **clocks.env, "PROFILER_SYSFS_ROOT": str(tmp_path)}
    began, started_s = tmp_path / "began", time.monotonic()
    command = [sys.executable, "-m", "profiler", "measure", "--json", "--", "sh", "-c", f"touch {began}; sleep 3"]
    with powercap.Player(tmp_path, zones):
        measured = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not began.exists():
            assert measured.poll() is None and time.monotonic() < deadline, measured.communicate()
            time.sleep(0.02)
        time.sleep(1.3)
        clocks.move(step_s, 0.0)
        shown, said = measured.communicate(timeout=60)
        ended_s = time.monotonic()
    assert measured.returncode == 0, said
    found = json.loads(shown)
    assert 3.0 <= found["duration_s"] <= ended_s - started_s
    assert started_s <= found["t0_ns"] / 1e9 <= found["t1_ns"] / 1e9 <= ended_s
    assert found["duration_s"] == pytest.approx((found["t1_ns"] - found["t0_ns"]) / 1e9)
    truth_j = (fake_nvml.energy_mj(found["t1_ns"]) - fake_nvml.energy_mj(found["t0_ns"])) / 1000
    assert abs(found["gpu_energy_j"] - truth_j) < max(0.02 * truth_j, 2 * found["uncertainty_j"]["gpu_energy_j"])
    assert found["gpu_energy_integral_j"] == pytest.approx(truth_j, rel=0.1)
    assert found["cpu_package_energy_j"] == pytest.approx(CPU_W * found["duration_s"], rel=0.1)
    stepped = [finding["evidence"] for finding in found["findings"] if finding["reason"] == "clock_stepped"]
    assert stepped and f"{step_s:+.1f} s" in stepped[0]
