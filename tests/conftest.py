"""What every test may use: the virtual hardware of tests/fakes."""

import signal

from tests.fakes.fixtures import fake_nvml, fake_nvml_here, fake_nvml_library

__all__ = ["fake_nvml", "fake_nvml_here", "fake_nvml_library"]

# Under nohup this signal is ignored, and every program that a test starts would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
