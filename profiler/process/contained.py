"""Starts a command in a keeper and holds the other end: release, poll, wait, stop. Standard library only.

The owner of a run talks to its keeper (keeper.py) over two pipes. The lease's write end exists in this process alone
(close-on-exec, closed in forks): when this process ends, however it ends, the keeper reads end of file and the kernel
ends the run. It does not choose what to run, measure it or judge how it ended.
"""

from __future__ import annotations

import json
import marshal
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from profiler.errors import CannotRunError, ContainmentError

KEEPER = Path(__file__).with_name("keeper.py")
TIERS = ("pid_namespace", "cgroup", "subreaper")  # best first
HOLDING_TIERS = ("pid_namespace", "cgroup")  # a kill -9 of any single process leaves nothing
READY_TIMEOUT_S = 60.0
ANSWER_MARGIN_S = 10.0  # a keeper that has not answered a stop this long after the grace is killed itself

Why = Literal[
    "exited", "stopped", "timeout", "lease_closed", "owner_gone", "start_failed", "keeper_killed"
]  # fmt: skip


@dataclass(frozen=True)
class Command:
    """What to run. `stdout`: a file to append to, a descriptor, or None for this process's own stdout and stderr;
    stderr goes where stdout goes. `stdin`: a descriptor, or None for /dev/null. `env` is the whole environment.
    `timeout_s` counts from the trainer's start;
    `grace_s` lies between TERM and KILL. `labels` (session, run, attempt, role) are shown in the keeper's argv."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    stdout: Path | int | None = None
    stdin: int | None = None
    timeout_s: float | None = None
    grace_s: float = 5.0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ExitReport:
    """How a run ended, written when nothing of it is left. Exactly one of `exit_code` and `signal` is a number, or
    neither where the trainer never ran (`start_failed`, stopped before release) or nobody saw its end
    (`keeper_killed`). `t0_ns` / `t1_ns`: CLOCK_MONOTONIC right before the trainer's fork and at its end, None if it
    never started. `cpu_s`: CPU seconds of the whole tree; `max_rss_mib`: of its largest process; both None if
    unknown. `left_behind`: processes besides the trainer that had to be killed."""

    exit_code: int | None
    signal: int | None
    why: Why
    t0_ns: int | None
    t1_ns: int | None
    cpu_s: float | None
    left_behind: int
    error: str | None
    max_rss_mib: float | None

    def window_ns(self, before_ns: int, after_ns: int) -> tuple[int, int]:
        """The trainer's start and end; where there was none, the times that the caller saw before and after it."""
        return (
            before_ns if self.t0_ns is None else self.t0_ns,
            after_ns if self.t1_ns is None else self.t1_ns,
        )


class TierUnavailableError(ContainmentError):
    """One tier does not work here. `tier` names it, `reason` is the failing step and the kernel's words."""

    def __init__(self, tier: str, reason: str) -> None:
        self.tier, self.reason = tier, reason
        super().__init__(f"containment tier {tier} does not work here: {reason}")


_leases: weakref.WeakSet[ContainedProcess] = weakref.WeakSet()


def _drop_leases_in_fork() -> None:
    """A fork without exec (multiprocessing) must not keep a run alive after its owner's end."""
    for process in list(_leases):
        process._lease.close()


os.register_at_fork(after_in_child=_drop_leases_in_fork)


class ContainedProcess:
    """A run in its keeper. As a context manager it is stopped, and waited for, on the way out.

    `pid` is the keeper's, `containment` its tier, `namespace_inode` that of the run's PID namespace (None in the
    other tiers). Methods are for one thread at a time."""

    def __init__(
        self, keeper: subprocess.Popen[bytes], lease: FileIO, report: FileIO, tier: str, grace_s: float
    ) -> None:
        self.pid = keeper.pid
        self.containment = tier
        self.namespace_inode: int | None = None
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
            self.guard_pid, self.namespace_inode = ready["guard_pid"], ready["namespace"]
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


def start(
    command: Command,
    *,
    watch_pids: Sequence[int] = (),
    tier: str | None = None,
    allow_uncontained: bool = False,
) -> ContainedProcess:
    """Makes the keeper and its namespace; returns when ready. The trainer starts with `release()`.

    The run ends with this process and with each of `watch_pids` (`why` is then "owner_gone"). `tier`: exactly this
    one; None: the best that works, the best-effort one only with `allow_uncontained`. Raises ContainmentError with
    each tier's reason, CannotRunError for a bad command, a watched process that is gone, or an unwritable output."""
    if tier is not None:
        return _start_in(command, watch_pids, tier)
    reasons = []
    for name in TIERS if allow_uncontained else HOLDING_TIERS:
        try:
            return _start_in(command, watch_pids, name)
        except TierUnavailableError as error:
            reasons.append(f"{name}: {error.reason}")
    raise ContainmentError(
        "no containment tier works here, so nothing could guarantee that a killed run leaves no process behind\n  "
        + "\n  ".join(reasons)
        + "\n`profiler doctor` names the fix; --allow-uncontained runs all the same, marked as uncontained"
    )


def _start_in(command: Command, watch_pids: Sequence[int], tier: str) -> ContainedProcess:
    _check(command)
    _fill_standard_descriptors()
    with ExitStack() as ours:  # every descriptor that the keeper gets and this process does not keep
        watched = {_pidfd(ours, os.getpid()): "lease_closed"}
        watched.update({_pidfd(ours, pid): "owner_gone" for pid in watch_pids})
        stdout, stderr = _outputs(ours, command.stdout)
        stdin = _input(ours, command.stdin)
        lease_read, lease = _pipe()
        ours.enter_context(lease_read)
        report, report_write = _pipe()
        ours.enter_context(report_write)
        spec = {
            "tier": tier, "lease": lease_read.fileno(), "watched": watched,
            "stdin": stdin[0] if stdin else None, "stdout": stdout, "stderr": stderr,
            "argv": [os.fsencode(part) for part in command.argv],
            "env": {os.fsencode(name): os.fsencode(value) for name, value in command.env.items()},
            "cwd": os.fsencode(command.cwd),
            "timeout_s": command.timeout_s, "grace_s": command.grace_s,
        }  # fmt: skip
        keeper = _spawn(
            keeper_argv(command.labels, tier),
            stdin=_memory_file(ours, marshal.dumps(spec)),
            stdout=subprocess.DEVNULL,
            stderr=report_write,
            pass_fds=sorted({lease_read.fileno(), *stdin, stdout, stderr, *watched}),
            # the trainer's environment is in the spec; this is what some Pythons need to load at all
            env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            cwd="/",
            start_new_session=True,
        )
    process = ContainedProcess(keeper, lease, report, tier, command.grace_s)
    process.await_ready(READY_TIMEOUT_S)
    return process


def keeper_argv(labels: Mapping[str, str], tier: str) -> list[str]:
    """The keeper's command line: found again by `find.py` through the script's name and these labels."""
    shown = {**labels, "tier": tier, "owner": f"{os.getpid()}:{start_time(os.getpid())}"}
    return [sys.executable, "-I", "-S", str(KEEPER), *(f"{name}={value}" for name, value in shown.items())]


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which `pid` started; None if there is none. With the PID it names one process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except OSError:
        return None


def _check(command: Command) -> None:
    texts = [*command.argv, *command.env, *command.env.values(), *command.labels.values(), command.cwd]
    if not command.argv or any("\0" in str(text) for text in texts) or any("=" in name for name in command.env):
        raise CannotRunError(
            f"not a command that can be started: {command.argv!r} (it is empty, it or its environment holds a NUL, "
            "or a variable's name holds a '=')"
        )


def _fill_standard_descriptors() -> None:
    """A process started with 0, 1 or 2 closed would give those numbers to its pipes, and subprocess overwrite them."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)


def _pidfd(ours: ExitStack, pid: int) -> int:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise CannotRunError(f"process {pid}, with which the run should end, is already gone") from None
    except OSError as error:
        raise ContainmentError(f"pidfd_open({pid}): {error.strerror}; Linux 5.3 or later is needed") from error
    ours.callback(os.close, fd)
    return fd


def _outputs(ours: ExitStack, target: Path | int | None) -> tuple[int, int]:
    """Descriptors for the trainer's stdout and stderr."""
    if not isinstance(target, Path):
        # copies: in the keeper, the numbers 0 to 2 have another meaning
        own = [os.dup(fd) for fd in ((1, 2) if target is None else (target, target))]
        for fd in own:
            ours.callback(os.close, fd)
        return own[0], own[1]
    try:
        fd = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise CannotRunError(f"cannot write the run's output to {target}: {error.strerror}") from error
    ours.callback(os.close, fd)
    return fd, fd


def _input(ours: ExitStack, source: int | None) -> list[int]:
    """A copy of the descriptor that the trainer reads as its stdin, if it has one."""
    if source is None:
        return []
    try:
        fd = os.dup(source)
    except OSError as error:
        raise CannotRunError(f"cannot read the command's input from descriptor {source}: {error.strerror}") from error
    ours.callback(os.close, fd)
    return [fd]


def _pipe() -> tuple[FileIO, FileIO]:
    """As file objects: whatever interrupts, a lease that nobody holds any more is closed and its run ends."""
    read, write = os.pipe()
    return FileIO(read, "r"), FileIO(write, "w")


def _spawn(argv: list[str], **options: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(argv, **options)
    except OSError as error:  # no process or memory left for this user
        raise CannotRunError(f"cannot start the keeper {argv[0]}: {error.strerror}") from error


def _memory_file(ours: ExitStack, content: bytes) -> int:
    fd = os.memfd_create("keeper-spec")
    ours.callback(os.close, fd)
    with open(fd, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
