"""Random power profiles in real time on the virtual driver: a few of what `python -m tests.energy.realtime` plays."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from tests.energy.realtime import loads, play, summary

pytestmark = pytest.mark.slow


def test_a_few_short_trainings_side_by_side(fake_nvml_library: Path, tmp_path: Path) -> None:
    outcomes = play(list(loads(8, seed=3, lengths=[1.0])), 4, tmp_path, fake_nvml_library)
    assert [outcome.seconds for outcome in outcomes] == pytest.approx([1.0] * 8)
    assert all(outcome.truth_j > 50 for outcome in outcomes)
    assert median(outcome.error for outcome in outcomes) <= 0.02
    # On a machine that is busy a window closes late; what is between load and window is idle power, and known.
    assert all(abs(one.energy_j - one.truth_j) < 3 * one.uncertainty_j + 0.6 * abs(one.late_ms) for one in outcomes)
    assert summary(outcomes)["profiles"] == 8
