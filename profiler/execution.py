"""What the measured part of an attempt produced. Facts only."""

from __future__ import annotations

from dataclasses import dataclass

from profiler.energy.sources import Boundary
from profiler.gpu_activity import ActivityWindow
from profiler.process.command import ExitReport
from profiler.process.enclosure import Enclosure
from profiler.verdict import Finding


@dataclass(frozen=True)
class Execution:
    """What the measured part of an attempt produced. `enclosure`: where the trainer's processes lived, None where
    containment leaves nothing to know them by; `oom_kills`: processes of this node that the kernel ended for lack of
    memory meanwhile; `activity`: who kept the GPU busy when; `server_pids`: MPS servers that stand for the trainers;
    `contention`: what others did on the CPUs, None where the kernel does not tell."""

    report: ExitReport
    containment: str
    enclosure: Enclosure | None
    argv: tuple[str, ...]
    before: Boundary
    after: Boundary
    oom_kills: int
    activity: ActivityWindow
    server_pids: tuple[int, ...] = ()
    contention: Finding | None = None

    @property
    def window_ns(self) -> tuple[int, int]:
        """The trainer's start and end; where it never started, the times of the boundary reads."""
        return self.report.window_ns(self.before.t_ns, self.after.t_ns)
