"""The ways to hold a run's processes, best first: PID namespace, cgroup, subreaper. Chosen by the owner, not here."""

import _signal as signal  # type: ignore[import-not-found]  # `signal` without its enums
import os
import time

from .system import (
    CGROUP_PREFIX,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    call,
    cgroup_root,
    children,
    mount,
    parents,
    prctl,
    remove_cgroup,
    stat_fields,
    text_of,
    write_text,
)


class PidNamespace:
    """The guarantee is the kernel's: when PID 1 of the namespace ends, for whatever reason, all in it is killed."""

    name = "pid_namespace"
    folder = ""  # of a cgroup of its own

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
    folder = ""

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
        # KILL goes to the children only: theirs come here as orphans, and a list of children is read so quickly that
        # nothing can move to a new PID meanwhile, as it can during a scan of all processes
        for pid in (children() or self.members()) if number == signal.SIGKILL else self.members():
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
