"""The guard: starts the trainer, watches lease, owners, children and time, ends everything, reports. One thread."""

import _signal as signal  # type: ignore[import-not-found]  # `signal` without its enums
import os
import resource
import select
import time

from .system import reset_signals, say
from .tiers import PidNamespace, Subreaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LONGEST_POLL_MS = 3_600_000  # poll takes no more than 24 days
SETTLE_NS = 50_000_000  # helpers that end by themselves right after the trainer are not "left behind"


class Spec:
    """What launch.py asks for. `watched` maps a pidfd to the `why` of the report when its process is gone."""

    def __init__(self, fields: "dict[str, Any]") -> None:
        self.tier: str = fields["tier"]
        self.lease: int = fields["lease"]
        self.watched: dict[int, str] = fields["watched"]
        self.stdin: int | None = fields["stdin"]  # None: /dev/null, which descriptor 0 is already
        self.stdout: int = fields["stdout"]
        self.stderr: int = fields["stderr"]
        self.argv: list[bytes] = fields["argv"]
        self.env: dict[bytes, bytes] = fields["env"]
        self.cwd: bytes = fields["cwd"]
        self.timeout_s: float | None = fields["timeout_s"]
        self.grace_s: float = fields["grace_s"]

    def descriptors(self) -> set[int]:
        return {self.lease, self.stdout, self.stderr, *self.watched, *self.inputs()}

    def inputs(self) -> set[int]:
        return set() if self.stdin is None else {self.stdin}


class Guard:
    """The half that starts the trainer, watches everything and ends everything. One run, one thread, one loop."""

    def __init__(self, spec: Spec, tier: PidNamespace | Subreaper, waiting_half: int, outer_pid: int) -> None:
        self.spec, self.tier, self.outer_pid = spec, tier, outer_pid
        self.watched = {**spec.watched, waiting_half: "keeper_killed"}
        self.go = False
        self.why: str | None = None  # why it ends before the trainer ended by itself
        self.error: str | None = None
        self.kill_now = False
        self.rest_told = False  # TERM was sent to what a stopped trainer left
        self.deadline_ns: int | None = None  # of the time-out, then of the grace
        self.trainer: int | None = None
        self.status: int | None = None
        self.t0_ns: int | None = None
        self.t1_ns: int | None = None
        self.started = -1  # read end of the pipe that closes when the trainer's program has been loaded
        self.wake = -1
        self.poller = select.poll()

    # -- what it watches ---------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Every wake-up comes through one poll: signals too, by a pipe."""
        self.wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in STOPPING:
            signal.signal(number, lambda number, frame: self.end("keeper_killed", f"the keeper got signal {number}"))
        for fd in (self.wake, self.spec.lease, *self.watched):
            self.poller.register(fd, select.POLLIN)

    def turn(self, timeout_ms: float | None) -> None:
        """Waits for events (None: for ever) and takes them in."""
        for fd, _ in self.poller.poll(timeout_ms):
            if fd == self.wake:
                os.read(fd, 65536)
            elif fd == self.spec.lease:
                self.hear()
            elif fd == self.started:
                self.learn_start()
            else:
                self.end(self.watched[fd])
        self.reap()

    def hear(self) -> None:
        message = os.read(self.spec.lease, 4096).decode()
        if not message:
            self.end("lease_closed")
        for line in message.splitlines():
            if line == "g":
                self.go = True
            elif line.startswith("s"):
                self.stop("stopped", float(line[1:] or self.spec.grace_s))

    def learn_start(self) -> None:
        text = os.read(self.started, 4096).decode(errors="replace")
        self.poller.unregister(self.started)
        os.close(self.started)
        self.started = -1
        if text:
            self.end("start_failed", text)
        else:
            say("started", t0_ns=self.t0_ns)

    def reap(self) -> bool:
        """Takes every ended child, and the trainer's status with it. Returns whether there are children left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.trainer and self.status is None:
                    self.t1_ns, self.status = time.monotonic_ns(), status
                    say("trainer_ended", t1_ns=self.t1_ns)
        except ChildProcessError:
            return False

    # -- how it ends -------------------------------------------------------------------------------------------------

    def end(self, why: str, error: str | None = None) -> None:
        """Everything is killed at once; the first reason is kept."""
        if self.why is None:
            self.why, self.error = why, error
        self.kill_now = True

    def stop(self, why: str, grace_s: float) -> None:
        """TERM to the trainer now; what is left when the grace is over is killed. A second stop can only hasten it."""
        deadline_ns = time.monotonic_ns() + int(grace_s * 1e9)
        if self.why is not None:
            self.deadline_ns = min(deadline_ns, self.deadline_ns or deadline_ns)
            return
        self.why, self.deadline_ns = why, deadline_ns
        if self.trainer is None:
            self.kill_now = True
        elif self.status is None:
            for number in (signal.SIGTERM, signal.SIGCONT):  # a stopped process handles nothing
                os.kill(self.trainer, number)  # not reaped yet, so the number is still the trainer's

    def check_deadline(self) -> None:
        if self.deadline_ns is None or time.monotonic_ns() < self.deadline_ns:
            return
        if self.why is None:
            self.stop("timeout", self.spec.grace_s)
        else:
            self.kill_now = True

    def over(self) -> bool:
        """Whether the time has come to kill the rest. A stopped trainer's helpers get TERM after it, not with it: a
        trainer that saves on TERM needs its workers, and behind a shell wrapper the work is done by the helper."""
        if self.kill_now:
            return True
        if self.status is None:
            return False
        if self.why is None:
            return True
        if not self.rest_told:
            self.rest_told = True
            self.tier.signal_all(signal.SIGTERM)
        return not self.tier.members()

    def watch(self) -> None:
        while not self.over():
            left_ns = None if self.deadline_ns is None else max(0, self.deadline_ns - time.monotonic_ns())
            self.turn(None if left_ns is None else min(left_ns / 1e6 + 1, LONGEST_POLL_MS))
            self.check_deadline()

    def end_all(self) -> int:
        """Kills until there is no child left to reap. Returns how many, besides the trainer, had to be killed."""
        settle_until_ns = time.monotonic_ns() + (0 if self.kill_now else SETTLE_NS)
        while (left := self.tier.members()) and time.monotonic_ns() < settle_until_ns:
            self.await_child(2)
            self.reap()
        left_behind = len([pid for pid in left if pid != self.trainer or self.status is not None])
        while self.reap():
            self.tier.signal_all(signal.SIGKILL)
            self.await_child(10)
        return left_behind

    def await_child(self, timeout_ms: int) -> None:
        waker = select.poll()
        waker.register(self.wake, select.POLLIN)
        if waker.poll(timeout_ms):
            os.read(self.wake, 65536)

    # -- the trainer -------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """The whole life of the guard, from "ready" to the report."""
        self.listen()
        self.turn(0)  # lease and pidfds once before anything starts: closes the race with an owner that just died
        namespace = os.stat("/proc/self/ns/pid").st_ino if os.getpid() == 1 else None
        cgroup = os.path.basename(self.tier.folder) or None
        say("ready", guard_pid=self.outer_pid, namespace=namespace, cgroup=cgroup, containment=self.tier.name)
        while not (self.go or self.kill_now):
            self.turn(None)
        if not self.kill_now:
            self.start_trainer()
            self.watch()
        left_behind = self.end_all()
        self.tier.clean()
        if self.started >= 0:
            self.learn_start()
        self.report(left_behind)

    def start_trainer(self) -> None:
        self.started, started_write = os.pipe()
        self.poller.register(self.started, select.POLLIN)
        # a TERM for the trainer that comes before its program waits until it has the default actions
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        self.t0_ns = time.monotonic_ns()
        try:
            self.trainer = os.fork()
        except OSError as error:
            self.end("start_failed", f"cannot fork: {error.strerror}")
        if self.trainer == 0:
            self.become_trainer(started_write)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        for fd in {started_write, self.spec.stdout, self.spec.stderr, *self.spec.inputs()}:
            os.close(fd)
        if self.spec.timeout_s is not None:
            self.deadline_ns = self.t0_ns + int(self.spec.timeout_s * 1e9)

    def become_trainer(self, started_write: int) -> "NoReturn":
        """In the fork. Descriptors other than 0, 1, 2 are closed by the exec: all are close-on-exec."""
        step = "prepare the trainer"
        try:
            signal.set_wakeup_fd(-1)
            reset_signals()
            self.tier.adopt()
            os.setsid()
            for fd in self.spec.inputs():
                os.dup2(fd, 0)
            os.dup2(self.spec.stdout, 1)
            os.dup2(self.spec.stderr, 2)
            step = f"enter the working directory {os.fsdecode(self.spec.cwd)!r}"
            os.chdir(self.spec.cwd)
            step = f"start {os.fsdecode(self.spec.argv[0])!r}"
            os.execvpe(self.spec.argv[0], self.spec.argv, self.spec.env)
        except (OSError, ValueError) as error:  # ValueError: words that no program can be given, as an empty name
            why = error.strerror if isinstance(error, OSError) else str(error)
            os.write(started_write, f"cannot {step}: {why}".encode(errors="replace"))
        finally:
            os._exit(127)

    def report(self, left_behind: int) -> None:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = None
        if self.status is not None and self.why != "start_failed":
            code = os.waitstatus_to_exitcode(self.status)
        say(
            "ended",
            why=self.why or "exited",
            exit_code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            t0_ns=self.t0_ns,
            t1_ns=self.t1_ns,
            cpu_s=usage.ru_utime + usage.ru_stime,
            max_rss_mib=usage.ru_maxrss / 1024,
            left_behind=left_behind,
            error=self.error,
        )
