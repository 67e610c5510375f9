"""The scheduling priority of the calling thread: the best that this process is allowed. It changes no other thread."""

from __future__ import annotations

import os
import threading
from typing import Final, Literal

Priority = Literal["fifo", "nice", "normal"]
NICE: Final = -10


def raise_own() -> Priority:
    """SCHED_FIFO, else nice -10, else nothing. Children started from the thread do not inherit SCHED_FIFO."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        return "fifo"
    except OSError:
        pass
    try:
        # On Linux a thread's own id stands for the thread alone.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        return "nice"
    except OSError:
        return "normal"
