"""Measures one command on this machine, contained, from its start to its end, without Ray. It stores nothing.

Behind ``profiler measure`` and ``profiler.measure``. The counters are read at the edges by this process itself; the
trace comes from a sampler that starts and ends with the measurement. A block of a script: `profiler.energy.meter`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from profiler.energy.account import EnergyAccount, account
from profiler.energy.derived import NOT_MEASURED, Derived, Run, derive
from profiler.energy.idle import Resting
from profiler.energy.meter import EDGE_TICKS, RATE_HZ, Meter
from profiler.errors import UsageError
from profiler.process.command import Command, ExitReport
from profiler.process.launch import start

GRACE_S = 5.0
STDERR_FD = 2
NOT_PERMITTED, NOT_FOUND = 126, 127  # what a shell says of a command that cannot be started


@dataclass(frozen=True)
class Measurement:
    """One command that was run and measured.

    `exit_code` and `signal` are the command's own, one of them None; `why` is how it ended ("exited", "timeout",
    "start_failed" ...). `t0_ns`..`t1_ns` (CLOCK_MONOTONIC) is the window. `cpu_s`: CPU seconds of everything it
    started; `left_behind`: processes it had left, which were ended. `gpu_uuids`: the GPUs it could use, over which
    `energy` goes; `energy` has the figures, and the reason of each one that is None, `derived` the command's share of
    the CPU and, where the machine was watched at rest before, the energy above that power (`idle`).
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
    gpu_uuids: tuple[str, ...]
    energy: EnergyAccount
    derived: Derived
    idle: Resting

    @property
    def status(self) -> int:
        """The exit status as a shell would give it: the command's own, or 128 + n for signal n."""
        if self.signal is not None:
            return 128 + self.signal
        if self.exit_code is not None:
            return self.exit_code
        return NOT_PERMITTED if os.strerror(errno.EACCES) in (self.error or "") else NOT_FOUND

    def to_json(self) -> dict[str, Any]:
        """One flat object: exit_code (the status, also where a signal ended the command), duration_s, samples,
        samples_missed, containment, the energy columns, null_reasons, and more."""
        own = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in ("energy", "derived", "idle")
        }
        more = {field.name: getattr(self.derived, field.name) for field in fields(self.derived)}
        columns = {field.name: getattr(self.energy, field.name) for field in fields(self.energy)}
        findings = [{"reason": finding.reason, "evidence": finding.evidence} for finding in self.energy.findings]
        nulls = {**self.energy.null_reasons, **self.derived.null_reasons}
        if self.idle.gpu.power_w is None:
            nulls["gpu_idle_power_w"] = nulls["gpu_energy_net_j"]
        if self.duration_s is None:
            nulls["duration_s"] = self.why
        unsure = {**self.energy.uncertainty_j, **self.derived.uncertainty_j}
        together = {"uncertainty_j": unsure, "null_reasons": nulls, "findings": findings}
        idle = {"gpu_idle_power_w": self.idle.gpu.power_w}
        return {**own, "exit_code": self.status, **idle, **more, **columns, **together}


class MeasurementInterruptedError(KeyboardInterrupt):
    """Ctrl-C, after everything was stopped. `result`: what had been measured until then, a Measurement; of repeated
    commands a Series or Comparison of the repetitions that had come to their end."""

    def __init__(self, result: Any) -> None:
        self.result = result
        super().__init__("interrupted")


def measure_command(
    argv: Sequence[str],
    *,
    grace_s: float = GRACE_S,
    timeout_s: float | None = None,
    rate_hz: float = RATE_HZ,
    idle_s: float | None = None,
    allow_uncontained: bool = False,
    stdin: int | None = None,
    stdout: Path | int | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Measurement:
    """Runs `argv` contained, and measures it from its start to its end. Blocks.

    `stdin`: a descriptor that the command reads, or None for /dev/null. `stdout`: a file to append both streams to, a
    descriptor for both, or None to pass them through. `timeout_s` ends it: TERM, `grace_s` later KILL.
    `idle_s`: watch the machine for so long before, while nothing else runs, for the energy above idle.
    KeyboardInterrupt stops it, and goes on as a MeasurementInterruptedError. Raises ContainmentError where processes
    cannot be contained (unless `allow_uncontained`), UsageError for an empty command.
    """
    environ = dict(os.environ if env is None else env)
    with plain_descriptor(stdout) as output, Meter(rate_hz=rate_hz, environ=environ) as meter:
        command = Command(
            argv=checked_argv(argv),
            env=environ,
            cwd=Path.cwd() if cwd is None else cwd,
            stdin=stdin,
            stdout=output,
            timeout_s=timeout_s,
            grace_s=grace_s,
            labels={"role": "measure"},
        )
        return measure_once(command, meter, at_rest(meter, idle_s), allow_uncontained=allow_uncontained)


def at_rest(meter: Meter, idle_s: float | None) -> Resting:
    """What the devices draw in the next `idle_s` seconds, in which nothing should run; None: not asked for."""
    return Resting(NOT_MEASURED, NOT_MEASURED) if idle_s is None else meter.rest(idle_s)


def checked_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """The command's words. UsageError for none, or for one string: nothing here splits it as a shell would."""
    if isinstance(argv, str) or not argv:
        raise UsageError(f"measure needs a command as a list, for example ['sleep', '2'], not {argv!r}")
    return tuple(map(str, argv))


def measure_once(command: Command, meter: Meter, idle: Resting, *, allow_uncontained: bool) -> Measurement:
    """Runs `command` once under an open meter. Blocks; stops it before an exception leaves, which for a Ctrl-C while
    it runs is a MeasurementInterruptedError. `idle`: from `at_rest`."""
    interrupt: KeyboardInterrupt | None = None
    token = meter.sampler.hold(time.monotonic_ns())
    try:
        with start(command, allow_uncontained=allow_uncontained) as process:
            before = meter.sources.boundary(meter.gpu_uuids, edge="start")
            process.release()
            try:
                process.wait_for_trainer()
            except KeyboardInterrupt as error:
                interrupt = error
                process.stop()
            after = meter.sources.boundary(meter.gpu_uuids, edge="end")
            report = process.wait(None)
        assert report is not None, "waiting without a limit ends with a report"
        t0_ns, t1_ns = report.window_ns(before.t_ns, after.t_ns)
        time.sleep(EDGE_TICKS / meter.sampler.rate_hz)
        samples = meter.sampler.window(min(before.t_ns, t0_ns), max(after.t_ns, t1_ns))
    finally:
        meter.sampler.release(token)
    energy = account(before, after, samples, meter.sources, meter.gpu_uuids, t0_ns, t1_ns)
    duration_s = (t1_ns - t0_ns) / 1e9
    derived = derive(energy, Run(duration_s, report.cpu_s, before, after), idle.gpu, idle.cpu)
    measured = _measurement(command, process.containment, report, meter.gpu_uuids, energy, derived, idle)
    if interrupt is not None:
        raise MeasurementInterruptedError(measured) from interrupt
    return measured


@contextmanager
def plain_descriptor(stdout: Path | int | None) -> Iterator[Path | int | None]:
    """A copy of a standard descriptor: in the keeper the numbers 0 to 2 have another meaning."""
    if not isinstance(stdout, int) or stdout > STDERR_FD:
        yield stdout
        return
    copy = fcntl.fcntl(stdout, fcntl.F_DUPFD_CLOEXEC, STDERR_FD + 1)
    try:
        yield copy
    finally:
        os.close(copy)


def _measurement(
    command: Command,
    containment: str,
    report: ExitReport,
    gpu_uuids: tuple[str, ...],
    energy: EnergyAccount,
    derived: Derived,
    idle: Resting,
) -> Measurement:
    duration_s = None
    if report.t0_ns is not None and report.t1_ns is not None and report.why != "start_failed":
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
        gpu_uuids=gpu_uuids,
        energy=energy,
        derived=derived,
        idle=idle,
    )
