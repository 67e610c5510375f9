"""Scenes for campaigns: as root and as an ordinary user."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.scene import Scene, made_scene
from tests.process.harness import NOBODY


@pytest.fixture
def scene() -> Iterator[Scene]:
    """For the user that runs the tests."""
    yield from _scene(os.geteuid())


# As root the second takes a minute more; `make cluster` has it, and so has the matrix.
USERS = ["root", pytest.param("user", marks=pytest.mark.cluster)] if os.geteuid() == 0 else ["user"]


@pytest.fixture(params=USERS)
def either(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """As root and as an ordinary user; whoever is not root has the second only."""
    yield from _scene(NOBODY if os.geteuid() == 0 and request.param == "user" else os.geteuid())


def _scene(uid: int) -> Iterator[Scene]:
    # not pytest's own temporary folder: that one is closed to other users
    with (
        tempfile.TemporaryDirectory(prefix="profiler-scene-", ignore_cleanup_errors=True) as folder,
        made_scene(Path(folder), uid) as made,
    ):
        if isinstance(made, str):
            pytest.skip(made)
        yield made
