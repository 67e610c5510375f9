"""pytest fixtures for virtual hardware; tests/conftest.py makes them known to every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import nvml


@pytest.fixture(scope="session")
def fake_nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the compiled virtual libnvidia-ml.so.1."""
    if nvml.compiler() is None:
        pytest.skip("no C compiler (cc or gcc) for the virtual NVML")
    return nvml.build(tmp_path_factory.mktemp("fake-nvml"))


@pytest.fixture
def fake_nvml(tmp_path: Path, fake_nvml_library: Path) -> nvml.FakeNvml:
    """One idle H100 (70 W) for child processes: start them with `env={**os.environ, **fake_nvml.env}`."""
    return nvml.FakeNvml(tmp_path / "nvml.state", fake_nvml_library)


@pytest.fixture
def fake_nvml_here(fake_nvml: nvml.FakeNvml) -> Iterator[nvml.FakeNvml]:
    """The same, also for nvidia-ml-py in the test's own process."""
    with fake_nvml.attached():
        yield fake_nvml
