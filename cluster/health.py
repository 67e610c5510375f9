"""Notices that Ray itself has ended under a running campaign, which Ray's own calls answer by waiting. Repairs nothing.

A driver whose raylet or gcs is gone hangs in its next call, or is ended by Ray a minute later without a word. So a
thread asks both ports, and interrupts the driver's main thread when one of them stays dead. Some of Ray's calls hear no
signal: a main thread that hangs in one is not waited for. The process ends, and its runs end with it, as after SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from profiler.errors import CannotRunError
from profiler.reach import Endpoint, Patience, Reach

INTERVAL_S = 0.5
PATIENCE = Patience(refused_s=3.0, silent_s=30.0)  # a gcs with fault tolerance may be started anew
HEARING_S = 3.0  # a main thread that runs Python hears a signal at once
NUDGE = signal.SIGRTMIN + 3  # not SIGINT: who starts a program in the background of a script has it ignored there


class Health:
    """What is known of Ray. `lost`: None while all is well, else what is gone, in words."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self.lost: str | None = None
        self._reach = Reach(endpoints, PATIENCE)
        self._stopped = threading.Event()
        self._heard = threading.Event()

    def watch(self, thread: threading.Thread) -> None:
        """Look until `stop`; at the first loss interrupt `thread` as Ctrl-C would, if it is the main thread."""
        while not self._stopped.wait(INTERVAL_S):
            self.lost = self._reach.look()
            if self.lost is not None:
                if thread is threading.main_thread() and thread.ident is not None:
                    signal.pthread_kill(thread.ident, NUDGE)
                    if not self._heard.wait(HEARING_S):
                        self._end_the_process()
                return

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The handler of `NUDGE`, in the main thread."""
        self._heard.set()
        raise KeyboardInterrupt

    def _end_the_process(self) -> None:
        if self._stopped.is_set():
            return
        try:
            print(
                f"error: {self.lost}, and what waits for it cannot be interrupted: ended", file=sys.stderr, flush=True
            )
        finally:  # also where the terminal is gone
            os._exit(CannotRunError.exit_code)

    def stop(self) -> None:
        self._stopped.set()


@contextmanager
def watched(endpoints: Mapping[str, Endpoint]) -> Iterator[Health]:
    """Watch `endpoints` (name -> host and port) for the thread that enters the block, as long as it is in it."""
    health = Health(endpoints)
    thread = threading.current_thread()
    watcher = threading.Thread(target=health.watch, args=(thread,), daemon=True, name="ray-health")
    before = signal.signal(NUDGE, health.interrupt) if thread is threading.main_thread() else None
    watcher.start()
    try:
        yield health
    finally:
        health.stop()
        watcher.join()
        if before is not None:
            signal.signal(NUDGE, before)
