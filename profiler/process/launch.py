"""Starts a command in a keeper: finds the tier, makes the pipes, hands over the descriptors. Standard library only.

What comes back is held by contained.py. It does not choose what to run, measure it or judge how it ended.
"""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import Any

from profiler.errors import CannotRunError, ContainmentError
from profiler.host import start_time
from profiler.process.command import HOLDING_TIERS, TIERS, Command, TierUnavailableError
from profiler.process.contained import ContainedProcess

KEEPER = Path(__file__).with_name("keeper.py")
READY_TIMEOUT_S = 60.0


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
        stdout, stderr = _outputs(ours, command.stdout, command.stderr)
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


def _outputs(ours: ExitStack, target: Path | int | None, errors: Path | None) -> tuple[int, int]:
    """Descriptors for the trainer's stdout and stderr."""
    stdout, stderr = _output(ours, target)
    return stdout, stderr if errors is None else _output(ours, errors)[1]


def _output(ours: ExitStack, target: Path | int | None) -> tuple[int, int]:
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
