"""Holds the owner's end of a run in its keeper: release, poll, wait, stop. Standard library only.

The owner of a run talks to its keeper (keeper.py) over two pipes. The lease's write end exists in this process alone
(close-on-exec, closed in forks): when this process ends, however it ends, the keeper reads end of file and the kernel
ends the run. It does not start the keeper (launch.py), measure the run or judge how it ended.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
import weakref
from io import FileIO
from types import TracebackType
from typing import Any

from profiler.errors import ContainmentError
from profiler.process.command import ExitReport, TierUnavailableError
from profiler.process.enclosure import Enclosure

ANSWER_MARGIN_S = 10.0  # a keeper that has not answered a stop this long after the grace is killed itself

_leases: weakref.WeakSet[ContainedProcess] = weakref.WeakSet()


def _drop_leases_in_fork() -> None:
    """A fork without exec (multiprocessing) must not keep a run alive after its owner's end."""
    for process in list(_leases):
        process._lease.close()


os.register_at_fork(after_in_child=_drop_leases_in_fork)


class ContainedProcess:
    """A run in its keeper. As a context manager it is stopped, and waited for, on the way out.

    `pid` is the keeper's, `containment` its tier, `enclosure` what the run's processes are known by (None in the
    best-effort tier). Methods are for one thread at a time."""

    def __init__(
        self, keeper: subprocess.Popen[bytes], lease: FileIO, report: FileIO, tier: str, grace_s: float
    ) -> None:
        self.pid = keeper.pid
        self.containment = tier
        self.enclosure: Enclosure | None = None
        self.guard_pid: int | None = None
        self._keeper = keeper
        self._lease = lease
        self._report = report
        self._guard_fd = -1
        self._grace_s = grace_s
        self._text = b""
        self._stray: list[str] = []
        self._events: dict[str, dict[str, Any]] = {}
        self._at_end = False
        self._exit: ExitReport | None = None
        _leases.add(self)

    # -- for the owner -----------------------------------------------------------------------------------------------

    @property
    def t0_ns(self) -> int | None:
        """CLOCK_MONOTONIC right before the trainer's fork, as soon as `poll` or `wait` has learnt it."""
        return self._stamp("started", "t0_ns")

    @property
    def t1_ns(self) -> int | None:
        """CLOCK_MONOTONIC at the trainer's end, as soon as known: a little before the report, which comes when
        everything else is ended too."""
        return self._stamp("trainer_ended", "t1_ns")

    def release(self) -> None:
        """Lets the trainer start; the keeper waits for it since `start` returned."""
        self._send("g")

    def poll(self) -> ExitReport | None:
        """The report once nothing of the run is left, else None. Never blocks."""
        if self._exit is None:
            self._read()
            if self._at_end and self._all_gone():
                self._finish()
        return self._exit

    def wait(self, timeout_s: float | None = None) -> ExitReport | None:
        """Blocks until the report is there or `timeout_s` is over (None: no limit). Wakes ten times a second, so that
        KeyboardInterrupt and cancellation get through."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (report := self.poll()) is None:
            left_s = 0.1 if deadline is None else min(0.1, deadline - time.monotonic())
            if left_s <= 0:
                return None
            self._sleep(left_s)
        return report

    def wait_for_trainer(self) -> None:
        """Blocks until the trainer itself has ended: what it left behind may still be there, `wait` waits for that."""
        while self.poll() is None and self.t1_ns is None:
            self._sleep(0.1)

    def stop(self, grace_s: float | None = None) -> ExitReport:
        """TERM to the trainer, KILL to everything `grace_s` later (None: the command's own, 0: at once). Returns when
        the kernel has emptied the run. A keeper that does not answer is killed, and the run with it. Interrupted
        while it waits, it lets go of the lease: then everything is killed at once."""
        grace_s = self._grace_s if grace_s is None else grace_s
        try:
            if self.poll() is None:
                self._send(f"s{grace_s}")
                self._signal_keeper(signal.SIGCONT)  # in case somebody stopped it
            if self.wait(grace_s + ANSWER_MARGIN_S) is None:
                self._signal_keeper(signal.SIGKILL)
            report = self.wait(None)
        finally:
            self._lease.close()
        assert report is not None
        return report

    def fileno(self) -> int:
        """The report pipe: readable when `poll` has something to take in."""
        return self._report.fileno()

    def __enter__(self) -> ContainedProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- inside ------------------------------------------------------------------------------------------------------

    def await_ready(self, timeout_s: float) -> None:
        """Blocks until the namespace is made. Raises TierUnavailableError or ContainmentError; nothing is left then."""
        deadline = time.monotonic() + timeout_s
        while "ready" not in self._events and not self._at_end and time.monotonic() < deadline:
            self._sleep(0.1)
            self._read()
        ready = self._events.get("ready")
        if ready is not None:
            self.guard_pid, self.enclosure = ready["guard_pid"], ready["cgroup"] or ready["namespace"]
            self._open_guard()
            return
        self._lease.close()
        self._signal_keeper(signal.SIGKILL)
        self._keeper.wait()
        self._close()
        if "unavailable" in self._events:
            raise TierUnavailableError(self.containment, self._events["unavailable"]["error"])
        raise ContainmentError(f"the keeper ended before it was ready: {self._stray_text() or 'no message'}")

    def _open_guard(self) -> None:
        assert self.guard_pid is not None
        try:
            self._guard_fd = os.pidfd_open(self.guard_pid)
        except ProcessLookupError:
            return  # it has ended already; the report pipe is at its end
        self._read()
        if self._at_end:  # it may have ended before the pidfd was opened: then the number may be a stranger's
            os.close(self._guard_fd)
            self._guard_fd = -1

    def _stamp(self, event: str, name: str) -> int | None:
        stamp: int | None = self._events.get(event, {}).get(name)
        return stamp

    def _send(self, line: str) -> None:
        if self._lease.closed:
            return  # a stop was interrupted: it is ending already
        try:
            self._lease.write(f"{line}\n".encode())
        except BrokenPipeError:
            pass  # it has ended: poll tells how

    def _signal_keeper(self, number: int) -> None:
        self._keeper.send_signal(number)
        if self._guard_fd >= 0:
            try:
                signal.pidfd_send_signal(self._guard_fd, number)
            except ProcessLookupError:
                pass

    def _sleep(self, seconds: float) -> None:
        """Until the report pipe, or after its end the processes, have news."""
        waker = select.poll()
        if not self._at_end:
            waker.register(self._report.fileno(), select.POLLIN)
            waker.poll(seconds * 1000)
        else:
            time.sleep(min(seconds, 0.002))

    def _read(self) -> None:
        waker = select.poll()
        waker.register(self._report.fileno(), select.POLLIN)
        while not self._at_end and waker.poll(0):
            chunk = os.read(self._report.fileno(), 65536)
            self._at_end = not chunk
            *lines, self._text = (self._text + chunk).split(b"\n")
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            self._events[event["event"]] = event
        except (ValueError, KeyError, TypeError):  # a traceback of the keeper itself
            self._stray.append(line.decode(errors="replace"))

    def _all_gone(self) -> bool:
        """Both halves: the guard's pidfd is readable only when the kernel has emptied its namespace."""
        if self._guard_fd >= 0:
            waker = select.poll()
            waker.register(self._guard_fd, select.POLLIN)
            if not waker.poll(0):
                return False
        return self._keeper.poll() is not None

    def _finish(self) -> None:
        ended = self._events.get("ended")
        if ended is not None:
            self._exit = ExitReport(**{name: ended[name] for name in ExitReport.__dataclass_fields__})
        else:
            self._exit = self._killed_report()
        self._close()

    def _killed_report(self) -> ExitReport:
        """The keeper ended without a report: what is known is that nothing is left, and since when."""
        code = self._keeper.returncode
        how = f"its waiting half by signal {-code}" if code < 0 else "its guard"
        error = self._stray_text() or f"the keeper was killed ({how})"
        t1_ns = None if self.t0_ns is None else self.t1_ns or time.monotonic_ns()
        return ExitReport(None, None, "keeper_killed", self.t0_ns, t1_ns, None, 0, error, None)

    def _stray_text(self) -> str:
        return "\n".join([*self._stray, self._text.decode(errors="replace")]).strip()

    def _close(self) -> None:
        self._lease.close()
        self._report.close()
        if self._guard_fd >= 0:
            os.close(self._guard_fd)
            self._guard_fd = -1
