"""What the keeper asks of the kernel: mounts, prctl, signals, /proc, the report pipe. Thin functions without state."""

import _signal as signal  # type: ignore[import-not-found]  # `signal` without its enums
import ctypes
import os

REPORT_FD = 2
CGROUP_PREFIX = "profiler-keeper-"

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


def text_of(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def write_text(path: str, text: str) -> None:
    """Raises an OSError that names the file."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise OSError(error.errno, f"write {path}: {error.strerror}") from None


def stat_fields(pid: str) -> list[str]:
    """/proc/PID/stat from the state on (field 3 of its manual page is item 0 here)."""
    return text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()


def children() -> list[int]:
    """This process's children; none where the kernel keeps no such list."""
    try:
        return [int(pid) for pid in text_of("/proc/thread-self/children").split()]
    except FileNotFoundError:
        return []


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
