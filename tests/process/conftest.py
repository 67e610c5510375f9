"""Places for owners: as root and as an ordinary user, in the tier that the machine gives each of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.harness import NOBODY, Place, make_place


@pytest.fixture(scope="session", params=["root", "user"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Every test with it runs twice: as root, and as an ordinary user. As an ordinary user only the second can be."""
    if os.geteuid() != 0 and request.param == "root":
        pytest.skip("not root")
    uid = NOBODY if os.geteuid() == 0 and request.param == "user" else os.geteuid()
    # not pytest's own temporary folder: that one is closed to other users
    with tempfile.TemporaryDirectory(prefix="profiler-test-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        made = make_place(Path(folder), uid)
        if isinstance(made, str):
            pytest.skip(made)
        with made.owner(["true"], tier="pid_namespace") as owner:
            if "error" in owner.started:
                pytest.skip(owner.started["message"])
        yield made
        for segment in made.shared_memory():  # the lesser tiers leave it
            segment.unlink()


@pytest.fixture(params=["pid_namespace", "cgroup", "subreaper"])
def tier(request: pytest.FixtureRequest, place: Place) -> str:
    """Every tier that works here for the place's user (the lesser ones once, where both users can be had)."""
    if request.param != "pid_namespace" and os.geteuid() == 0 and place.uid != 0:
        pytest.skip("done as root")
    with place.owner(["true"], tier=request.param) as owner:
        if "error" in owner.started:
            pytest.skip(owner.started["message"])
    return str(request.param)
