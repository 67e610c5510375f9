"""The edges of a window over a counter that moves in steps (a GPU's, every 100 ms): catching a step, and interpolating.

Read anywhere, such a counter is behind by up to a step, 70 J at 700 W, at either end. At a boundary that may wait, the
counter is watched until it moves, so the moment of the step is known to a call's length; what lies between that moment
and the edge of the window is taken from the power trace. Where waiting is not allowed half a step is assumed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import pstdev
from typing import Final

from profiler.energy import integral
from profiler.energy.counters import NOT_ADVANCING, Clock, CounterInfo, EnergyCounter, Reading
from profiler.energy.integral import Point

MAX_PASSES: Final = 1000
# Where calls are quick there is no need to ask more often than this.
PAUSE_S: Final = 0.001
RECENT_POINTS: Final = 8
# Sampled power is a mean over a period, so what happens inside of one moves more than the samples show.
HIDDEN_SPREAD: Final = 1.5
TWO_SIGMA: Final = 2.0
UNIFORM_SIGMA: Final = 1 / math.sqrt(12)
SECOND: Final = 1e9


@dataclass(frozen=True, slots=True)
class Step:
    """A counter caught moving: its last reading before the step and its first one after it."""

    before: Reading
    after: Reading

    @property
    def t_ns(self) -> int:
        return (self.before.t_ns + self.after.t_ns) // 2

    @property
    def width_s(self) -> float:
        return (self.after.t_ns - self.before.t_ns) / SECOND


def catch_steps(watched: Iterable[EnergyCounter], clock_ns: Clock) -> tuple[dict[str, Reading], dict[str, Step]]:
    """Reads each counter until it moves. The last readings by name, and the steps caught.

    Takes half a period on average (50 ms for a GPU), all counters together. One that stands still for so long that it
    cannot be advancing (`CounterInfo.freeze_s`, 0.4 s for a GPU) has no reading: what it shows is of another time."""
    waiting = {counter.info.name: counter for counter in watched}
    began_ns = clock_ns()
    readings = {name: counter.read(clock_ns) for name, counter in waiting.items()}
    steps: dict[str, Step] = {}
    for _ in range(MAX_PASSES):
        pass_began_ns = clock_ns()
        for name, counter in list(waiting.items()):
            before, after = readings[name], counter.read(clock_ns)
            readings[name] = after
            if before.units is not None and after.units is not None and before.units != after.units:
                steps[name] = Step(before, after)
            if name in steps:
                del waiting[name]
            elif (after.t_ns - began_ns) / SECOND >= counter.info.freeze_s:
                del waiting[name]
                if after.units is not None:
                    readings[name] = Reading(after.t_ns, None, NOT_ADVANCING)
        if not waiting:
            break
        if (clock_ns() - pass_began_ns) / SECOND < PAUSE_S:
            time.sleep(PAUSE_S)
    return readings, steps


@dataclass(frozen=True, slots=True)
class Edge:
    """What to add to a counter's reading to get its value at the edge of the window, in J, and how sure that is."""

    correction_j: float
    sigma_j: float


@dataclass(frozen=True, slots=True)
class Power:
    """The power around an edge: the trace's curve, and the window's mean for where the curve has nothing to say."""

    points: Sequence[Point]
    mean_w: float

    def at(self, t_ns: int) -> float:
        """The last power seen at `t_ns` or before: what comes after an edge belongs to another load."""
        before = [point for point in self.points if point.t_ns <= t_ns]
        return before[-1].power_w if before and t_ns - before[-1].t_ns < SECOND else self.mean_w

    def spread_w(self, t_ns: int) -> float:
        """How much the power moves around its samples, in W (standard deviation), judged by the last ones."""
        recent = [point.power_w for point in self.points if point.t_ns <= t_ns][-RECENT_POINTS:]
        return HIDDEN_SPREAD * pstdev(recent) if len(recent) > 1 else 0.1 * self.mean_w

    def between(self, from_ns: int, to_ns: int) -> float:
        """Energy in J from `from_ns` to `to_ns`, negative when they are the other way round."""
        if to_ns < from_ns:
            return -self.between(to_ns, from_ns)
        seconds = (to_ns - from_ns) / SECOND
        measured = integral.integrate(self.points, from_ns, to_ns).energy_j if seconds > 0.2 else None
        return self.at(from_ns) * seconds if measured is None else measured


def start_edge(info: CounterInfo, reading: Reading, step: Step | None, power: Power, t0_ns: int) -> Edge:
    """From the boundary reading at the start to the window's first moment."""
    if step is None:
        return _half_step(info, reading, power, t0_ns)
    drawn_j = power.between(step.t_ns, t0_ns)
    return Edge(drawn_j, power.at(t0_ns) * step.width_s * UNIFORM_SIGMA + _spread_j(power, step.t_ns, t0_ns))


def end_edge(info: CounterInfo, reading: Reading, step: Step | None, power: Power, t1_ns: int) -> Edge:
    """From the boundary reading at the end back to the window's last moment.

    The step that was caught holds the energy of one period, in which the window ended: the part before the end is the
    power of the run by time, never more than the step; the rest is what came after."""
    if step is None or step.before.units is None or step.after.units is None:
        return _half_step(info, reading, power, t1_ns)
    step_j = info.joules(step.after.units - step.before.units)
    began_ns = step.t_ns - round(info.period_s * SECOND)
    if t1_ns <= began_ns:
        # The whole step came after the run, so it tells what was drawn in between too.
        since_j = step_j / info.period_s * (began_ns - t1_ns) / SECOND
        return Edge(-step_j - since_j, power.at(t1_ns) * step.width_s * UNIFORM_SIGMA)
    inside_s = min(t1_ns - began_ns, info.period_s * SECOND) / SECOND
    inside_j = min(power.at(t1_ns) * inside_s, step_j)
    unsure_j = power.spread_w(t1_ns) * inside_s + power.at(t1_ns) * step.width_s * UNIFORM_SIGMA
    return Edge(inside_j - step_j, min(unsure_j, step_j * UNIFORM_SIGMA))


def _half_step(info: CounterInfo, reading: Reading, power: Power, edge_ns: int) -> Edge:
    """A reading anywhere in a step: on average it is behind by half of it."""
    power_w = power.at(edge_ns)
    behind_s = info.period_s / 2 - (reading.t_ns - edge_ns) / SECOND
    return Edge(power_w * behind_s, power_w * info.period_s * UNIFORM_SIGMA)


def _spread_j(power: Power, from_ns: int, to_ns: int) -> float:
    return power.spread_w(to_ns) * abs(to_ns - from_ns) / SECOND


def half_width_j(*edges: Edge) -> float:
    """The half width of the interval that holds the truth in about 95 of 100 windows."""
    return TWO_SIGMA * math.sqrt(sum(edge.sigma_j**2 for edge in edges))
