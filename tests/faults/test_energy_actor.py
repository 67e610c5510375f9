"""A killed EnergyActor costs samples, not runs."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

import profiler
from tests.campaigns import config, quick
from tests.faults.scene import Scene

pytestmark = [pytest.mark.fault, pytest.mark.ray]


def test_the_campaign_goes_on_with_a_gap_in_the_trace(scene: Scene) -> None:
    path = config(scene.folder, [quick(epochs=20, epoch_seconds=0.3, marker=scene.mark), quick(seed=2)], max_retries=0)
    drive = scene.drive("run", path, "--results", scene.folder / "results")
    try:
        drive.await_text("001 attempt 1: training")
        time.sleep(1)
        actor = drive.ray_process("ray::EnergyActor")
        assert actor is not None
        os.kill(actor, signal.SIGKILL)
        assert drive.process.wait(120) == 0, drive.text()
    finally:
        drive.close()
    first, second = profiler.open(scene.session()).rows()
    print(json.dumps({name: first[name] for name in ("samples", "samples_missed", "duration_s", "reasons")}))
    assert (first["valid"], second["valid"]) == (True, True)
    assert first["samples"] - first["samples_missed"] < 50  # of 60: Ray needs seconds to start another
    assert not drive.survivors(0.3)
