"""What every test may use: the virtual hardware of tests/fakes."""

import signal
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fakes.fixtures import fake_nvml, fake_nvml_here, fake_nvml_library

__all__ = ["fake_nvml", "fake_nvml_here", "fake_nvml_library"]

# Under nohup the one is ignored, in a shell's background the other, and every program that a test starts would inherit
# that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine may stop a test for a second: how long one example takes says nothing.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

SLOW = ("report", "legacy", "conformance", "repos", "cli/test_measure_repeated.py", "cli/test_run.py")
"""Folders and files that `make check` leaves to `make test`, as if each of their tests were marked slow."""


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    here = Path(__file__).parent
    slow = [here / name for name in SLOW]
    for item in items:
        if any(path == item.path or path in item.path.parents for path in slow):
            item.add_marker("slow")
