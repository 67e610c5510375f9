"""The probe of a real GPU runs through on a virtual one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.fakes.nvml import FakeNvml


def test_probe_reads_everything_and_the_paths_agree(fake_nvml: FakeNvml):
    fake_nvml.power(420.0)
    fake_nvml.add_process(os.getpid(), 100.0)
    command = [sys.executable, "-m", "tests.benchmarks.nvml_probe", "--seconds", "1", "--watch-seconds", "0.3"]
    done = subprocess.run(command, env={**os.environ, **fake_nvml.env}, check=True, capture_output=True, text=True)
    seen = json.loads(done.stdout)
    assert seen["counter_problem"] is None and seen["first_reading"]["null_reasons"] == {}
    idle = seen["loads"]["idle"]
    assert idle["counter_j"] == pytest.approx(420 * idle["seconds"], rel=0.05)
    assert abs(idle["gap_percent"]["buffer"]) < 5
    assert [process["pid"] for process in idle["processes"]] == [os.getpid()]
