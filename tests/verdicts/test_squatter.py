"""The short form of the long campaign with a stranger: five runs, two of them pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.verdicts.squatter import CONFIG, as_planted, first_runs, replay

pytestmark = [pytest.mark.ray, pytest.mark.cluster]  # a minute; the incident in test_campaign_gpu is like it


def test_exactly_the_squatted_run_is_not_safe(tmp_path: Path, fake_nvml_library: Path) -> None:
    found = replay(first_runs(CONFIG, 5, tmp_path), 4, tmp_path, fake_nvml_library)
    assert as_planted(found), found
    assert (found["runs"], found["pairs"], found["not_safe"]) == (5, 2, [4])
