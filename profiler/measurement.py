"""Measures one command, or one block of a script, on this machine and without Ray. It plans and stores nothing.

``measure_command`` is behind ``profiler measure`` and ``profiler.measure``; ``meter`` is ``profiler.meter``. Both read
the counters at the edges themselves and take the 10 Hz trace from a sampler of their own that ends with them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from profiler import host
from profiler.energy.account import EnergyAccount
from profiler.energy.sampler import Sampler
from profiler.energy.several import account_of, energy_columns, gpu_columns
from profiler.energy.sources import Boundary, Sources, discover
from profiler.errors import UsageError
from profiler.process.contained import Command, ContainedProcess, ExitReport, start

RATE_HZ = 10.0
GRACE_S = 5.0
STDERR_FD = 2
EDGE_TICKS = 1.5  # the trace goes on for this long after the end, so that the edge lies between two ticks
NOT_PERMITTED, NOT_FOUND = 126, 127  # what a shell says of a command that cannot be started


@dataclass(frozen=True)
class Measurement:
    """One command that was run and measured.

    `exit_code` and `signal` are the command's own, one of them None; `why` is how it ended ("exited", "timeout",
    "start_failed" ...). `t0_ns`..`t1_ns` (CLOCK_MONOTONIC) is the window. `energy` has the figures and null reasons,
    `gpus` those of each GPU by UUID.
    `cpu_s`: CPU seconds of everything it started; `left_behind`: processes it had left, which were ended.
    """

    argv: tuple[str, ...]
    exit_code: int | None
    signal: int | None
    why: str
    error: str | None
    duration_s: float | None
    t0_ns: int | None
    t1_ns: int | None
    containment: str
    cpu_s: float | None
    max_rss_mib: float | None
    left_behind: int
    energy: EnergyAccount
    gpus: Mapping[str, EnergyAccount]

    @property
    def status(self) -> int:
        """The exit status as a shell would give it: the command's own, or 128 + n for signal n."""
        if self.signal is not None:
            return 128 + self.signal
        if self.exit_code is not None:
            return self.exit_code
        return NOT_PERMITTED if os.strerror(errno.EACCES) in (self.error or "") else NOT_FOUND

    def to_json(self) -> dict[str, Any]:
        """One flat object: exit_code, duration_s, samples, containment, the energy columns, null_reasons, and more.

        `exit_code` is the status as of a shell, also where a signal ended the command. `gpus` has the figures of each
        GPU by UUID."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("energy", "gpus")}
        return {**own, "exit_code": self.status, **energy_columns(self.energy), "gpus": gpu_columns(self.gpus)}


def measure_command(
    argv: Sequence[str],
    *,
    grace_s: float = GRACE_S,
    timeout_s: float | None = None,
    rate_hz: float = RATE_HZ,
    allow_uncontained: bool = False,
    stdout: Path | int | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Measurement:
    """Runs `argv` contained, and measures it from its start to its end. Blocks.

    `stdout`: a file to append both streams to, a descriptor for both, or None to pass them through. `timeout_s` ends
    it: TERM, `grace_s` later KILL. KeyboardInterrupt stops it before it is raised on. Raises ContainmentError where
    processes cannot be contained (unless `allow_uncontained`), UsageError for an empty command.
    """
    if not argv:
        raise UsageError("measure needs a command")
    with _output(stdout) as output, _instruments(rate_hz) as (sources, sampler):
        command = Command(
            argv=tuple(map(str, argv)),
            env=dict(os.environ if env is None else env),
            cwd=Path.cwd() if cwd is None else cwd,
            stdout=output,
            timeout_s=timeout_s,
            grace_s=grace_s,
            labels={"role": "measure"},
        )
        gpus = visible_gpus(sources, command.env)
        with start(command, allow_uncontained=allow_uncontained) as process:
            before = sources.boundary(gpus, edge="start")
            process.release()
            report = _wait(process)
            after = sources.boundary(gpus, edge="end")
        t0_ns, t1_ns = report.t0_ns or before.t_ns, report.t1_ns or after.t_ns
        energy, each = _account(sources, sampler, gpus, before, after, t0_ns, t1_ns)
    return _measurement(command, process.containment, report, energy, each)


@contextmanager
def _output(stdout: Path | int | None) -> Iterator[Path | int | None]:
    """A copy of a standard descriptor: in the keeper the numbers 0 to 2 have another meaning."""
    if not isinstance(stdout, int) or stdout > STDERR_FD:
        yield stdout
        return
    copy = fcntl.fcntl(stdout, fcntl.F_DUPFD_CLOEXEC, STDERR_FD + 1)
    try:
        yield copy
    finally:
        os.close(copy)


def _wait(process: ContainedProcess) -> ExitReport:
    report = process.wait(None)
    assert report is not None, "waiting without a limit ends with a report"
    return report


def _measurement(
    command: Command, containment: str, report: ExitReport, energy: EnergyAccount, each: Mapping[str, EnergyAccount]
) -> Measurement:
    duration_s = None
    if report.t0_ns is not None and report.t1_ns is not None:
        duration_s = (report.t1_ns - report.t0_ns) / 1e9
    return Measurement(
        argv=command.argv,
        exit_code=report.exit_code,
        signal=report.signal,
        why=report.why,
        error=report.error,
        duration_s=duration_s,
        t0_ns=report.t0_ns,
        t1_ns=report.t1_ns,
        containment=containment,
        cpu_s=report.cpu_s,
        max_rss_mib=report.max_rss_mib,
        left_behind=report.left_behind,
        energy=energy,
        gpus=each,
    )


class Meter:
    """A measured block. After it, the energy columns are attributes: ``window.gpu_energy_j``, ``window.duration_s``.

    It measures the devices, not the process: whatever else runs on this machine meanwhile is in the figures.
    """

    def __init__(self, label: str = "", *, rate_hz: float = RATE_HZ) -> None:
        self.label = label
        self._rate_hz = rate_hz
        self._stack = ExitStack()
        self._energy: EnergyAccount | None = None
        self._duration_s: float | None = None

    def __enter__(self) -> Self:
        self._sources, self._sampler = self._stack.enter_context(_instruments(self._rate_hz))
        self._gpus = visible_gpus(self._sources, os.environ)
        self._before = self._sources.boundary(self._gpus, edge="start")
        self._t0_ns = time.monotonic_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        t1_ns = time.monotonic_ns()
        with self._stack:
            after = self._sources.boundary(self._gpus, edge="end")
            self._energy, self.gpus = _account(
                self._sources, self._sampler, self._gpus, self._before, after, self._t0_ns, t1_ns
            )
            self._duration_s = (t1_ns - self._t0_ns) / 1e9

    @property
    def duration_s(self) -> float:
        """Seconds from the block's first line to its end. UsageError while it runs."""
        if self._duration_s is None:
            raise UsageError(f"the block {self.label!r} has not ended yet: its figures are there after it")
        return self._duration_s

    @property
    def energy(self) -> EnergyAccount:
        """All figures with their null reasons. UsageError while the block runs."""
        if self._energy is None:
            raise UsageError(f"the block {self.label!r} has not ended yet: its figures are there after it")
        return self._energy

    def to_json(self) -> dict[str, Any]:
        """One flat object: label, duration_s, the energy columns, null_reasons."""
        return {"label": self.label, "duration_s": self.duration_s, **energy_columns(self.energy)}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in {field.name for field in fields(EnergyAccount)}:
            raise AttributeError(f"a meter has no {name!r}")
        return getattr(self.energy, name)

    def __repr__(self) -> str:
        if self._energy is None:
            return f"Meter({self.label!r}, not ended)"
        return f"Meter({self.label!r}, duration_s={self.duration_s:.3f}, gpu_energy_j={self.energy.gpu_energy_j})"


def meter(label: str = "", *, rate_hz: float = RATE_HZ) -> Meter:
    """Measures a ``with`` block of any script: ``with profiler.meter("epoch 1") as window: ...``. Needs no Ray."""
    return Meter(label, rate_hz=rate_hz)


@contextmanager
def _instruments(rate_hz: float) -> Iterator[tuple[Sources, Sampler]]:
    """Open sources and a running sampler; both end with the block."""
    with discover() as sources:
        sampler = Sampler(sources, rate_hz, node_id=host.hostname(), boot_id=host.boot_id())
        with sampler:
            yield sources, sampler


def visible_gpus(sources: Sources, env: Mapping[str, str]) -> tuple[str, ...]:
    """UUIDs of the GPUs that a process with `env` may use: those in CUDA_VISIBLE_DEVICES, else all."""
    named = env.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return tuple(gpu.uuid for gpu in sources.gpus)
    wanted = [part.strip() for part in named.split(",") if part.strip()]
    return tuple(gpu.uuid for gpu in sources.gpus if any(_is_named(gpu.index, gpu.uuid, part) for part in wanted))


def _is_named(index: int, uuid: str, part: str) -> bool:
    return part == str(index) if part.isdigit() else uuid.startswith(part)


def _account(
    sources: Sources,
    sampler: Sampler,
    gpus: tuple[str, ...],
    before: Boundary,
    after: Boundary,
    t0_ns: int,
    t1_ns: int,
) -> tuple[EnergyAccount, Mapping[str, EnergyAccount]]:
    """The figures of the window over all `gpus`, and of each."""
    time.sleep(EDGE_TICKS / sampler.rate_hz)
    samples = sampler.window(t0_ns, t1_ns)
    return account_of(before, after, samples, sources, gpus, t0_ns, t1_ns)
