"""An alarm clock that one thread puts off again and again, and that wakes another one when it does not.

To put it off is one call into the kernel (timerfd); a thread that looked again and again would have to wake for it.
"""

from __future__ import annotations

import ctypes
import os
import time
import weakref
from typing import Final

from profiler.energy.grid import SECOND_NS

_CLOEXEC: Final = os.O_CLOEXEC
_ABSOLUTE: Final = 1


class _TimerSpec(ctypes.Structure):
    """struct itimerspec: how long until it rings again, and when it rings first."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class Alarm:
    """Rings at the time that `put_off` was last given, and then every `again_ns`. Raises OSError where the kernel gives
    none.

    One thread puts it off. It is there until its last user is gone: a thread that hung may yet come back to it."""

    def __init__(self, again_ns: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.timerfd_create(time.CLOCK_MONOTONIC, _CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        # Not at the interpreter's end: the thread that waits is still there, and the number may be another file's.
        weakref.finalize(self, os.close, self._fd).atexit = False
        self._spec = _TimerSpec(*divmod(again_ns, SECOND_NS))
        self._set = libc.timerfd_settime
        self._arguments = (self._fd, _ABSOLUTE, ctypes.byref(self._spec), None)

    def put_off(self, t_ns: int) -> None:
        """It rings at `t_ns` (CLOCK_MONOTONIC, above 0), at once if that has passed."""
        self._spec.s, self._spec.ns = divmod(t_ns, SECOND_NS)
        self._set(*self._arguments)

    def wait(self) -> None:
        """Returns when it has rung since the last call."""
        os.read(self._fd, 8)
