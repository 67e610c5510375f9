"""The keeper: holds one run's processes so that the kernel ends them with it. A program that contained.py starts.

    owner ──lease pipe──► waiting half ─► guard (PID 1 of a new PID + mount namespace) ─► trainer ─► anything
          ◄─report pipe──────────────────────┘

It runs as ``python -I -S keeper.py LABEL=VALUE...`` with the spec (marshal) on descriptor 0 and the report pipe as
descriptor 2, so that even a traceback reaches the owner. The waiting half makes the namespace, forks and waits. The
guard prepares the namespace, says "ready", waits for ``g`` on the lease, starts the trainer and then watches: the
lease (end of file: the owner is gone, end everything; ``s SECONDS``: TERM, grace, KILL), the pidfds it was given, its
children, the time-out. After the trainer nothing in the namespace survives, and only then the report is written.

It does not measure, judge, retry or know what a trainer is. Imports are few because they are most of its start-up
time: ``signal`` and ``json`` alone would cost more than everything else together.
"""

import _signal as signal  # type: ignore[import-not-found]  # `signal` without its enums
import ctypes
import marshal
import os
import resource
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

REPORT_FD = 2
CGROUP_PREFIX = "profiler-keeper-"
SETTLE_NS = 50_000_000  # helpers that end by themselves right after the trainer are not "left behind"

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 0x2, 0x4, 0x8, 0x4000, 0x80000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

Value = None | bool | int | float | str
LIBC = ctypes.CDLL(None, use_errno=True)


def call(step: str, function: str, *arguments: object) -> None:
    """Calls a libc function; a result other than 0 becomes an OSError that names the `step`."""
    if getattr(LIBC, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{step}: {os.strerror(number)}")


def mount(kind: str | None, target: str, flags: int, options: str | None = None) -> None:
    source = b"none" if kind is None else kind.encode()
    data = None if options is None else options.encode()
    call(
        f"mount {target}",
        "mount",
        source,
        target.encode(),
        None if kind is None else source,
        ctypes.c_ulong(flags),
        data,
    )


def prctl(option: int, value: int) -> None:
    call(
        f"prctl {option}",
        "prctl",
        option,
        ctypes.c_ulong(value),
        ctypes.c_ulong(0),
        ctypes.c_ulong(0),
        ctypes.c_ulong(0),
    )


def to_json(value: Value) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str):
        return repr(value)
    units = value.encode("utf-16-be", "surrogatepass")
    codes = [units[i] * 256 + units[i + 1] for i in range(0, len(units), 2)]
    return '"' + "".join(chr(c) if 32 <= c < 127 and c not in (34, 92) else f"\\u{c:04x}" for c in codes) + '"'


def say(event: str, **fields: Value) -> None:
    """One JSON line to the owner. An owner that is gone is no error here: the lease tells."""
    pairs = [("event", event), *fields.items()]
    line = "{" + ", ".join(f"{to_json(key)}: {to_json(value)}" for key, value in pairs) + "}\n"
    try:
        os.write(REPORT_FD, line.encode())
    except OSError:
        pass


def reset_signals() -> None:
    """Default actions and an empty mask, whatever the owner had (Ray workers, for one, may ignore SIGCHLD)."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except OSError:  # the two that the C library keeps for itself
                pass
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class Spec:
    """What contained.py asks for. `watched` maps a pidfd to the `why` of the report when its process is gone."""

    def __init__(self, fields: "dict[str, Any]") -> None:
        self.tier: str = fields["tier"]
        self.lease: int = fields["lease"]
        self.watched: dict[int, str] = fields["watched"]
        self.stdout: int = fields["stdout"]
        self.stderr: int = fields["stderr"]
        self.argv: list[str] = fields["argv"]
        self.env: dict[str, str] = fields["env"]
        self.cwd: str = fields["cwd"]
        self.timeout_s: float | None = fields["timeout_s"]
        self.grace_s: float = fields["grace_s"]

    def descriptors(self) -> set[int]:
        return {self.lease, self.stdout, self.stderr, *self.watched}


def text_of(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def write_text(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def stat_fields(pid: str) -> list[str]:
    """/proc/PID/stat from the state on (field 3 of its manual page is item 0 here)."""
    return text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()


def cgroup_root() -> str | None:
    for line in text_of("/proc/self/mounts").splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return fields[1]
    return None


def remove_cgroup(folder: str) -> None:
    """Removes an empty cgroup and those that a run may have made below it."""
    for path, _, _ in os.walk(folder, topdown=False):
        os.rmdir(path)


def parents() -> dict[int, int]:
    """pid -> parent pid of every process in sight. Zombies are left out, unless threads of theirs live on."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = stat_fields(name)
            except OSError:  # it ended meanwhile
                continue
            state, parent, threads = fields[0], fields[1], fields[17]
            if state not in "ZX" or int(threads) > 1:
                found[int(name)] = int(parent)
    return found


class PidNamespace:
    """The guarantee is the kernel's: when PID 1 of the namespace ends, for whatever reason, all in it is killed."""

    name = "pid_namespace"

    def isolate(self) -> None:
        uid, gid = os.geteuid(), os.getegid()
        if uid == 0:
            try:
                return call("unshare pid+mount namespace", "unshare", CLONE_NEWPID | CLONE_NEWNS)
            except PermissionError:
                pass  # root without CAP_SYS_ADMIN, as in a container: as an ordinary user then
        call("unshare user namespace", "unshare", CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS)
        write_text("/proc/self/setgroups", "deny")
        write_text("/proc/self/uid_map", f"{uid} {uid} 1")
        write_text("/proc/self/gid_map", f"{gid} {gid} 1")
        return None

    def settle(self) -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # towards the waiting half, which has one thread
        mount(None, "/", MS_REC | MS_SLAVE)  # later mounts of the host stay visible, ours stay here
        mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        if os.path.isdir("/dev/shm"):
            size = os.statvfs("/dev/shm")  # as large as the one it hides
            mount("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, f"mode=1777,size={size.f_blocks * size.f_frsize}")

    def adopt(self) -> None:
        """Called in the trainer before its program starts."""

    def members(self) -> list[int]:
        """Living processes of the run, without the guard."""
        return [pid for pid in parents() if pid != 1]

    def signal_all(self, number: int) -> None:
        if os.getpid() != 1:
            raise RuntimeError("not PID 1 of a namespace: kill(-1) would reach every process of this user")
        try:
            os.kill(-1, number)
        except ProcessLookupError:
            pass

    def clean(self) -> None:
        """Called in the waiting half after the guard's end: the kernel has emptied the namespace already."""


class Subreaper:
    """Best effort: orphans come back to the guard, after its end to the waiting half; both kill what they are given."""

    name = "subreaper"

    def isolate(self) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)

    def settle(self) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)

    def adopt(self) -> None:
        """Called in the trainer before its program starts."""

    def members(self) -> list[int]:
        tree, family = parents(), {os.getpid()}
        grown = True
        while grown:
            children = {pid for pid, parent in tree.items() if parent in family} - family
            family |= children
            grown = bool(children)
        return [pid for pid in family if pid != os.getpid()]

    def signal_all(self, number: int) -> None:
        for pid in self.members():
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):  # gone, or a set-uid program: reported as it stays
                pass

    def clean(self) -> None:
        while True:
            self.signal_all(signal.SIGKILL)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            time.sleep(0.005)


class Cgroup(Subreaper):
    """A cgroup (v2) of its own, ended by one write to cgroup.kill: holds unless both halves are killed at once."""

    name = "cgroup"

    def __init__(self) -> None:
        self.folder = ""

    def isolate(self) -> None:
        super().isolate()
        root = cgroup_root()
        own = [line[3:] for line in text_of("/proc/self/cgroup").splitlines() if line.startswith("0::")]
        if root is None or not own:
            raise FileNotFoundError(2, "no cgroup v2 hierarchy is mounted")
        namespace, started = os.stat("/proc/self/ns/pid").st_ino, stat_fields("self")[19]
        folder = f"{root}{own[0].rstrip('/')}/{CGROUP_PREFIX}{namespace}-{os.getpid()}-{started}"
        os.mkdir(folder)
        self.folder = folder
        if not os.path.exists(f"{folder}/cgroup.kill"):
            os.rmdir(folder)
            raise FileNotFoundError(2, "the kernel has no cgroup.kill (Linux 5.14 or later has)")

    def settle(self) -> None:
        super().settle()
        self.try_entry()

    def try_entry(self) -> None:
        """Moves a short-lived child in: a folder that can be made is not yet one that may be entered."""
        child = os.fork()
        if child == 0:
            code = 1
            try:
                self.adopt()
                code = 0
            except OSError as error:
                code = error.errno or 1
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != 0:
            raise OSError(code, f"enter {self.folder}: {os.strerror(code)}")

    def adopt(self) -> None:
        write_text(f"{self.folder}/cgroup.procs", "0")

    def members(self) -> list[int]:
        inside = {int(pid) for pid in text_of(f"{self.folder}/cgroup.procs").split()}
        return [*inside, *(pid for pid in super().members() if pid not in inside)]

    def signal_all(self, number: int) -> None:
        if number == signal.SIGKILL:
            write_text(f"{self.folder}/cgroup.kill", "1")
        super().signal_all(number)

    def clean(self) -> None:
        super().clean()
        while os.path.isdir(self.folder):
            try:
                write_text(f"{self.folder}/cgroup.kill", "1")
                remove_cgroup(self.folder)
            except OSError:  # still populated
                time.sleep(0.005)


TIERS: dict[str, type[PidNamespace] | type[Subreaper]] = {t.name: t for t in (PidNamespace, Cgroup, Subreaper)}


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
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
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
            os.kill(self.trainer, signal.SIGTERM)  # not reaped yet, so the number is still the trainer's

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
            self.turn(None if left_ns is None else left_ns / 1e6 + 1)
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
        say("ready", guard_pid=self.outer_pid, namespace=namespace, containment=self.tier.name)
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
        self.t0_ns = time.monotonic_ns()
        self.trainer = os.fork()
        if self.trainer == 0:
            self.become_trainer(started_write)
        for fd in {started_write, self.spec.stdout, self.spec.stderr}:
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
            os.dup2(self.spec.stdout, 1)
            os.dup2(self.spec.stderr, 2)
            step = f"enter the working directory {self.spec.cwd!r}"
            os.chdir(self.spec.cwd)
            step = f"start {self.spec.argv[0]!r}"
            os.execvpe(self.spec.argv[0], self.spec.argv, self.spec.env)
        except OSError as error:
            os.write(started_write, f"cannot {step}: {error.strerror}".encode(errors="replace"))
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


def prepare_process() -> Spec:
    """Takes the spec from descriptor 0 and makes this process a plain one: signals, descriptors, no core files."""
    with open(0, "rb") as file:
        spec = Spec(marshal.load(file))
    null = os.open("/dev/null", os.O_RDWR)  # becomes descriptor 0
    os.dup2(null, 1)
    os.set_inheritable(0, True)
    for fd in spec.descriptors():
        os.set_inheritable(fd, False)
    reset_signals()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    return spec


def guard(spec: Spec, tier: PidNamespace | Subreaper, waiting_half: int) -> None:
    outer_pid = int(os.readlink("/proc/self"))  # as the owner sees it: this is still the outer /proc
    os.setsid()
    try:
        tier.settle()
    except OSError as error:
        say("unavailable", error=str(error))
        return
    Guard(spec, tier, waiting_half, outer_pid).serve()


def wait_for(child: int, spec: Spec, tier: PidNamespace | Subreaper) -> None:
    """The waiting half: holds no pipe, so that the owner's end of file means what it says."""
    for fd in spec.descriptors():
        os.close(fd)
    os.dup2(0, REPORT_FD)
    while os.waitpid(-1, 0)[0] != child:
        pass
    tier.clean()


def main() -> None:
    spec = prepare_process()
    tier = TIERS[spec.tier]()
    try:
        tier.isolate()
    except OSError as error:
        say("unavailable", error=str(error))
        return
    waiting_half = os.pidfd_open(os.getpid())
    child = os.fork()
    if child == 0:
        guard(spec, tier, waiting_half)
    else:
        wait_for(child, spec, tier)


if __name__ == "__main__":
    main()
    os._exit(0)
