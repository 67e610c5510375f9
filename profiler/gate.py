"""The gate before a run: is the GPU free, are the energy sources alive, is there disk space, is it still the same boot?

Each check is a function from facts to problems and changes nothing; `wait_until_clear` repeats them for a bounded time.
It ends no process, and decides nothing about quarantine or about what happens during a run.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from profiler.energy.counters import Reading
from profiler.energy.nvml import GPU_LOST, GpuProcess, GpuReading, NvmlReadError
from profiler.gpu_processes import describe_process

Kind = Literal[
    "foreign_process",
    "memory_not_idle",
    "temperature",
    "gpu_lost",
    "gpu_unreadable",
    "source_not_alive",
    "disk_space",
    "node_rebooted",
]

# What no waiting mends.
HOPELESS: Final[frozenset[Kind]] = frozenset({"gpu_lost", "node_rebooted"})
# The driver will never answer these here: such a check says nothing, and must not hold up every run for ever.
_NEVER_ANSWERED: Final = frozenset({"nvml_not_supported", "nvml_function_missing", "nvml_no_permission"})
FIRST_POLL_S: Final = 0.2  # a killed process is gone from NVML within 0.2 s
LONGEST_POLL_S: Final = 2.0
MIB: Final = 1 << 20


@dataclass(frozen=True)
class GateProblem:
    """One reason not to start. `device`: the GPU's UUID, where there is one. `pid`, `user`, `command` and `memory_mib`
    are of the process in the way; None or "" where /proc does not tell (it is gone, or not visible from here)."""

    kind: Kind
    detail: str
    device: str | None = None
    pid: int | None = None
    user: str | None = None
    command: str = ""
    memory_mib: float | None = None


@dataclass(frozen=True)
class GateResult:
    """How the wait ended: `clear`, or with the `problems` of the last look; `waited_s` is 0.0 when clear at once."""

    clear: bool
    waited_s: float
    problems: tuple[GateProblem, ...]


class GateDevice(Protocol):
    """What the gate needs of a GPU; `NvmlDevice` is one."""

    uuid: str
    index: int

    def read(self) -> GpuReading: ...

    def processes(self) -> tuple[GpuProcess, ...]: ...


Check = Callable[[], Sequence[GateProblem]]


def check_gpu(
    device: GateDevice,
    own_pids: Collection[int],
    idle_memory_mib: float | None,
    margin_mib: float,
    max_temperature_c: float | None = None,
) -> list[GateProblem]:
    """Strangers on the GPU, memory above `idle_memory_mib` + `margin_mib`, heat above `max_temperature_c`, a lost GPU.

    `own_pids` are PIDs as NVML shows them: those outside of any run's namespace. What they hold is taken off the memory
    in use. None for a limit: not asked.
    """
    reading = device.read()
    if GPU_LOST in reading.null_reasons.values():
        return [_of(device, "gpu_lost", "the driver lost it: see `dmesg | grep -i xid`")]
    try:
        processes: tuple[GpuProcess, ...] = device.processes()
    except NvmlReadError as error:
        if error.reason == GPU_LOST:
            return [_of(device, "gpu_lost", "the driver lost it: see `dmesg | grep -i xid`")]
        processes = ()
        problems = _unreadable(device, "processes", error.reason)
    else:
        problems = [_stranger(device, process) for process in processes if process.pid not in own_pids]
    if idle_memory_mib is not None:
        own = [process for process in processes if process.pid in own_pids]
        problems += _memory(device, reading, own, problems, idle_memory_mib, margin_mib)
    if max_temperature_c is not None:
        problems += _temperature(device, reading, max_temperature_c)
    return problems


def _of(device: GateDevice, kind: Kind, text: str) -> GateProblem:
    return GateProblem(kind, f"GPU {device.index}: {text}", device.uuid)


def _stranger(device: GateDevice, process: GpuProcess) -> GateProblem:
    seen = describe_process(device.uuid, process.pid, process.memory_mib, 0)
    user = _user_name(seen.user_id)
    memory = "unknown memory" if process.memory_mib is None else f"{process.memory_mib:.0f} MiB"
    who = f"user {user}: {seen.command or 'no command line'}" if user else "not visible in /proc here"
    detail = f"GPU {device.index}: process {process.pid} holds {memory} ({who})"
    return GateProblem(
        "foreign_process", detail, device.uuid, process.pid, user, seen.command, memory_mib=process.memory_mib
    )


def _user_name(user_id: int | None) -> str | None:
    if user_id is None:
        return None
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)


def _memory(
    device: GateDevice,
    reading: GpuReading,
    own: Sequence[GpuProcess],
    strangers: Sequence[GateProblem],
    idle_mib: float,
    margin_mib: float,
) -> list[GateProblem]:
    if reading.memory_mib is None:
        return _unreadable(device, "memory", reading.null_reasons["memory_mib"])
    if any(process.memory_mib is None for process in own):
        return []  # nobody can say how much of it is ours
    foreign_mib = reading.memory_mib - sum(process.memory_mib or 0.0 for process in own)
    if foreign_mib <= idle_mib + margin_mib:
        return []
    pids = [str(problem.pid) for problem in strangers if problem.pid is not None]
    holder = f"held by {', '.join(pids)}" if pids else "held by no process that the driver shows"
    text = f"{foreign_mib:.0f} MiB in use, idle is {idle_mib:.0f} + {margin_mib:.0f} MiB; {holder}"
    return [GateProblem("memory_not_idle", f"GPU {device.index}: {text}", device.uuid, memory_mib=foreign_mib)]


def _temperature(device: GateDevice, reading: GpuReading, limit_c: float) -> list[GateProblem]:
    if reading.temp_c is None:
        return _unreadable(device, "temperature", reading.null_reasons["temp_c"])
    if reading.temp_c <= limit_c:
        return []
    return [_of(device, "temperature", f"{reading.temp_c:.0f} C, the limit is {limit_c:.0f} C")]


def _unreadable(device: GateDevice, what: str, reason: str) -> list[GateProblem]:
    if reason in _NEVER_ANSWERED:
        return []
    return [_of(device, "gpu_unreadable", f"{what} could not be read ({reason})")]


def check_sources(
    readings: Mapping[str, Reading], expected: Collection[str], devices: Mapping[str, str] | None = None
) -> list[GateProblem]:
    """Counters of `expected` (names seen when the campaign began) that are gone or give no number now. `devices`: the
    UUID of the GPU that a counter is of, by the counter's name."""
    return [
        GateProblem("source_not_alive", f"energy source {name}: {reason}", (devices or {}).get(name))
        for name in sorted(expected)
        if (reason := _dead(readings.get(name))) is not None
    ]


def _dead(reading: Reading | None) -> str | None:
    if reading is None:
        return "counter_vanished"
    return reading.null_reason if reading.units is None else None


def check_disk(
    folder: Path, needed_mib: float, statvfs: Callable[[Path], os.statvfs_result] = os.statvfs
) -> list[GateProblem]:
    """Less than `needed_mib` (or no file entry) free for an ordinary user on the file system of `folder`."""
    try:
        facts = statvfs(folder)
    except OSError as error:
        return [GateProblem("disk_space", f"{folder}: {error.strerror}")]
    free_mib = facts.f_bavail * facts.f_frsize / MIB
    if free_mib < needed_mib:
        return [GateProblem("disk_space", f"{folder}: {free_mib:.0f} MiB free, a run needs {needed_mib:.0f} MiB")]
    if facts.f_files and not facts.f_favail:
        return [GateProblem("disk_space", f"{folder}: no file entry (inode) free")]
    return []


def check_boot(expected_boot_id: str, boot_id: str) -> list[GateProblem]:
    """The node was rebooted since the campaign looked at it: its sampler and its clocks are not the same any more."""
    if not expected_boot_id or not boot_id or expected_boot_id == boot_id:
        return []
    return [GateProblem("node_rebooted", f"boot id {boot_id}, was {expected_boot_id}")]


def wait_until_clear(
    checks: Sequence[Check],
    max_wait_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    on_wait: Callable[[float, Sequence[GateProblem]], None] | None = None,
) -> GateResult:
    """Repeat `checks` until none has a problem, for at most `max_wait_seconds`; always looks at least once.

    `on_wait(waited_s, problems)` is called before each pause. It does not wait for what no waiting mends (`HOPELESS`).
    """
    start, slept = clock(), False
    for pause_s in _pauses():
        problems = tuple(problem for check in checks for problem in check())
        waited_s = clock() - start if slept else 0.0
        if not problems:
            return GateResult(True, waited_s, ())
        left_s = max_wait_seconds - waited_s
        if left_s <= 0 or any(problem.kind in HOPELESS for problem in problems):
            return GateResult(False, waited_s, problems)
        if on_wait is not None:
            on_wait(waited_s, problems)
        sleep(min(pause_s, left_s))
        slept = True
    raise AssertionError("pauses never end")


def _pauses() -> Iterator[float]:
    pause_s = FIRST_POLL_S
    while True:
        yield pause_s
        pause_s = min(LONGEST_POLL_S, pause_s * 1.5)
