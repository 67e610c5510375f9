"""What goes into a contained run and what comes out: the command, the report of its end, the tiers. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from profiler.errors import ContainmentError

TIERS = ("pid_namespace", "cgroup", "subreaper")  # best first
HOLDING_TIERS = ("pid_namespace", "cgroup")  # a kill -9 of any single process leaves nothing

Why = Literal[
    "exited", "stopped", "timeout", "lease_closed", "owner_gone", "start_failed", "keeper_killed"
]  # fmt: skip


@dataclass(frozen=True)
class Command:
    """What to run. `stdout`: a file to append to, a descriptor, or None for this process's own stdout and stderr.
    `stderr`: a file to append to, or None: where stdout goes. `stdin`: a descriptor, or None for /dev/null. `env` is
    the whole environment. `timeout_s` counts from the trainer's start; `grace_s` lies between TERM and KILL. `labels`
    (session, key, run, attempt, role) are shown in the keeper's argv."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    stdout: Path | int | None = None
    stderr: Path | None = None
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
