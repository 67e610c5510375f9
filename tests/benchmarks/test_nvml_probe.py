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
    # Either step came at some time between two readings of the counter: that is all that may be between the paths.
    unsure_s = 0.001 + sum(idle["edges_ms"]) / 1000  # and the document has its seconds to a ms
    assert idle["counter_j"] == pytest.approx(420 * idle["seconds"], abs=420 * unsure_s)
    assert abs(idle["gap_percent"]["buffer"]) < 100 * unsure_s / (idle["seconds"] - unsure_s)
    assert [process["pid"] for process in idle["processes"]] == [os.getpid()]
