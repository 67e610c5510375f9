"""Turns SIGTERM and Ctrl-C into a stop between two training steps, and into an exit when a step takes too long.

The signal's byte reaches a watcher thread through a wake-up descriptor even while the main thread is inside a long
computation, where no Python handler can run. The watcher then gives the main thread HARD_LIMIT_S to come to the next
step and to save its checkpoint.
"""

import os
import signal
import sys
import threading
from types import FrameType

from _kit.errors import StoppedError

HARD_LIMIT_S = 1.5
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether somebody asked this trainer to stop."""

    def __init__(self, hard_limit_s: float = HARD_LIMIT_S) -> None:
        self._hard_limit_s = hard_limit_s
        self._write_end = -1
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
        threading.Event().wait(self._hard_limit_s)
        sys.stderr.write(f"stopped by signal {signum} in the middle of a step; no checkpoint of this moment\n")
        sys.stderr.flush()
        os._exit(128 + signum)


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
