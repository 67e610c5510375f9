"""Turns SIGTERM and Ctrl-C into a stop between two training steps, and into an exit when a step takes too long.

The signal's byte reaches a watcher thread through a wake-up descriptor even while the main thread is inside a long
computation, where no Python handler can run. The watcher then gives the main thread HARD_LIMIT_S to come to the next
step, and SAVE_LIMIT_S more if it has come there, to save its checkpoint: less than the profiler gives it.
"""

import os
import signal
import sys
import threading
import time
from types import FrameType

from _kit.errors import StoppedError

HARD_LIMIT_S = 1.5
SAVE_LIMIT_S = 2.5
PIECE_S = 0.1
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether somebody asked this trainer to stop."""

    def __init__(self, hard_limit_s: float = HARD_LIMIT_S) -> None:
        self._hard_limit_s = hard_limit_s
        self._write_end = -1
        self._at_step = False
        self.signum: int | None = None

    def install(self) -> None:
        """Take over the signals; main thread only. Forked children get the default actions back."""
        read_end, self._write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._write_end, False)
        for signum in SIGNALS:
            signal.signal(signum, self._on_signal)
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        # A signal to a child that was just forked must not reach the parent through the pipe they still share.
        os.register_at_fork(before=self._mute, after_in_parent=self._unmute, after_in_child=restore_defaults)
        threading.Thread(target=self._watch, args=(read_end,), name="stop-watcher", daemon=True).start()

    def check(self) -> None:
        """Raise StoppedError if a stop was asked for; trainers call it between steps."""
        if self.signum is not None:
            self._at_step = True
            raise StoppedError(self.signum)

    @staticmethod
    def _mute() -> None:
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)

    def _unmute(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        self.signum = signum

    def _watch(self, read_end: int) -> None:
        while True:
            signum = os.read(read_end, 1)[0]
            if signum in SIGNALS:
                break
        self.signum = signum
        _wait(self._hard_limit_s)
        if self._at_step:
            _wait(SAVE_LIMIT_S)
        where = "while it saved" if self._at_step else "in the middle of a step"
        sys.stderr.write(f"stopped by signal {signum} {where}; no checkpoint of this moment\n")
        sys.stderr.flush()
        os._exit(128 + signum)


def _wait(seconds: float) -> None:
    """In short pieces: a machine that stops the whole process for a second takes one of them, and the main thread has
    the others. One that is late because the main thread computed, in calls that let nobody else run, counts whole."""
    left_s = seconds
    while left_s > PIECE_S / 2:
        began_s, cpu_s = time.monotonic(), time.process_time()
        threading.Event().wait(PIECE_S)
        # The CPU time of several threads is more than what passed.
        left_s -= max(PIECE_S, min(time.monotonic() - began_s, time.process_time() - cpu_s))


def restore_defaults() -> None:
    """Give the signals their default actions and stop listening to them; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        return
    signal.set_wakeup_fd(-1)
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_DFL)


def end_by_signal(signum: int) -> None:
    """End this process by `signum` itself, so that the parent sees the true wait status; does not return."""
    sys.stdout.flush()
    sys.stderr.flush()
    restore_defaults()
    os.kill(os.getpid(), signum)
