"""What every test may use: the virtual hardware of tests/fakes."""

from tests.fakes.fixtures import fake_nvml, fake_nvml_here, fake_nvml_library

__all__ = ["fake_nvml", "fake_nvml_here", "fake_nvml_library"]
