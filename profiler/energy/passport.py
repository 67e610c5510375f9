"""The passport of a GPU's power sensor: how often it moves, over how long it averages, how late it is.

A known load is switched on and off; how the shown power follows gives window and delay. Fitting is pure; `watch`
reads the device, `save` and `load` keep one JSON file per device (UUID) and driver. It puts no load on a GPU itself
(calibration does).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import ceil, floor
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple, Protocol

from profiler.energy.counters import Clock, EnergyCounter
from profiler.energy.nvml_values import GpuReading

LOOK_S: Final = 0.001
UNSEEN_LIMIT_S: Final = 0.005
"""The moment of an update between two looks further apart than this is not seen."""
REACH: Final = 10
"""Updates that were seen tell the moments of so many before and after them; further on, the period is not known well
enough."""
EDGE_S: Final = 0.002
"""How far such a moment may be off."""
MIN_STEPS: Final = 6
AS_GOOD: Final = 0.02
"""Windows that explain the responses worse by no more than this sum of squares (one response off by 0.14) may be the
true one as well as the best."""
WIDEST_S, WIDEST_SHARE = 0.008, 0.5
"""How far apart such windows may lie, in s or as a share of the best one, for it to be told."""
NO_STEPS: Final = "power_did_not_follow_the_load"
NOT_TOLD_APART: Final = "several_windows_explain_what_was_seen"
NOT_MOVING: Final = "did_not_move"


class Move(NamedTuple):
    """The shown power became `power_w` (W) at `t_ns` (CLOCK_MONOTONIC): the middle of the `unseen_s` between two looks,
    or the middle of what `placed` left of it."""

    t_ns: int
    power_w: float
    unseen_s: float


@dataclass(frozen=True)
class Passport:
    """What was measured of one sensor; None with a reason in `null_reasons`. `power_kind`: instant or average.
    `update_period_s` of the power, `window_s` it is a mean of, `delay_s` behind the load (kernel launch included),
    `counter_period_s` of the energy counter; `steps`: how many steps of the load it is made of."""

    gpu_uuid: str
    gpu_name: str
    driver: str
    measured_at: str
    power_kind: str | None
    update_period_s: float | None
    window_s: float | None
    delay_s: float | None
    counter_period_s: float | None
    steps: int
    null_reasons: Mapping[str, str]

    def text(self) -> str:
        """One line for the record of a run."""
        parts = {
            "update": self.update_period_s,
            "window": self.window_s,
            "delay": self.delay_s,
            "counter": self.counter_period_s,
        }
        known = ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in parts.items() if value is not None)
        return f"passport of {self.measured_at} (driver {self.driver}): {known or 'nothing measured'}"


@dataclass(frozen=True, slots=True)
class LoadStep:
    """The load was switched on (or off) at CLOCK_MONOTONIC `t_ns`."""

    t_ns: int
    on: bool


class PowerDevice(Protocol):
    """What of a GPU is needed here."""

    uuid: str
    name: str

    def read(self, clock_ns: Clock = time.monotonic_ns) -> GpuReading: ...


def watch(
    device: PowerDevice, until: Callable[[], bool], clock_ns: Clock, sleep: Callable[[float], None]
) -> tuple[list[Move], str | None]:
    """Reads the power about every ms until told to stop: the moments at which it moved (the first reading counts as
    one), and its kind."""
    moved: list[Move] = []
    kind = None
    last_ns = clock_ns()
    while not until():
        seen = device.read(clock_ns)
        kind = seen.power_kind or kind
        if seen.power_w is not None:
            power_w = round(seen.power_w, 3)  # NVML tells mW
            if not moved or moved[-1].power_w != power_w:
                moved.append(Move((last_ns + seen.t_ns) // 2, power_w, (seen.t_ns - last_ns) / 1e9))
            last_ns = seen.t_ns
        sleep(LOOK_S)
    return moved, kind


def counter_period_s(counter: EnergyCounter, seconds: float, clock_ns: Clock) -> float | None:
    """How often the energy counter moves when it is read without pause; None when it does not."""
    end_ns = clock_ns() + round(seconds * 1e9)
    moved: list[int] = []
    last = counter.read(clock_ns)
    while last.t_ns < end_ns:
        now = counter.read(clock_ns)
        if now.units is not None and last.units is not None and now.units != last.units:
            moved.append((now.t_ns + last.t_ns) // 2)
        last = now
    return _period_s([b - a for a, b in pairwise(moved)])


def _period_s(gaps_ns: Sequence[int]) -> float | None:
    """The distance of most neighbours: some updates pass unseen, because the value stays the same."""
    gaps = sorted(gaps_ns)
    if len(gaps) < 3:
        return None
    shortest = median(gaps[: max(3, len(gaps) // 2)])
    return median(gap for gap in gaps if gap < 1.5 * shortest) / 1e9


def update_period_s(moved: Sequence[Move]) -> float | None:
    """How often the power moves; None when it was not seen to move often enough."""
    in_time = [(a, b) for a, b in pairwise(moved[1:]) if max(a.unseen_s, b.unseen_s) <= UNSEEN_LIMIT_S]
    return _period_s([b.t_ns - a.t_ns for a, b in in_time])


def placed(moved: Sequence[Move], period_s: float) -> list[Move]:
    """The moves, where the looks were far apart with the moment at which the sensor's regular updates have it: those
    beside them that were seen tell it, if only one falls between the looks. The others stay as they are."""
    seen_ns = [move.t_ns for move in moved[1:] if move.unseen_s <= UNSEEN_LIMIT_S]
    return [_placed(move, seen_ns, period_s) if move.unseen_s > UNSEEN_LIMIT_S else move for move in moved]


def _placed(move: Move, seen_ns: Sequence[int], period_s: float) -> Move:
    nearest_ns = min(seen_ns, key=lambda t_ns: abs(t_ns - move.t_ns), default=None)
    if nearest_ns is None or abs(nearest_ns - move.t_ns) > REACH * period_s * 1e9:
        return move
    reach_s = move.unseen_s / 2 + EDGE_S
    from_middle_s = (nearest_ns - move.t_ns) / 1e9
    first = ceil((-reach_s - from_middle_s) / period_s)
    last = floor((reach_s - from_middle_s) / period_s)
    if first != last:
        return move
    return move._replace(t_ns=nearest_ns + round(first * period_s * 1e9), unseen_s=2 * EDGE_S)


@dataclass(frozen=True, slots=True)
class Response:
    """How far the shown power had gone from the old level to the new one (0..1), `after_s` a step of the load."""

    after_s: float
    share: float


def responses(moved: Sequence[Move], steps: Sequence[LoadStep], period_s: float) -> list[Response]:
    """The shown power at its updates around each step of the load that it followed, where their moment is known."""
    found: list[Response] = []
    for before, step, after in zip(steps, steps[1:], steps[2:], strict=False):
        old_w, new_w = _level(moved, before.t_ns, step.t_ns), _level(moved, step.t_ns, after.t_ns)
        if old_w is None or new_w is None or abs(new_w - old_w) < 0.1 * max(new_w, old_w):
            continue
        found.append(Response(0.0, 0.0))
        for previous, move in pairwise(moved):
            if not step.t_ns <= move.t_ns < after.t_ns or move.unseen_s > UNSEEN_LIMIT_S:
                continue
            after_s = (move.t_ns - step.t_ns) / 1e9
            if after_s > period_s:  # one update earlier it still showed what it had shown before
                found.append(Response(after_s - period_s, _share(previous.power_w, old_w, new_w)))
            found.append(Response(after_s, _share(move.power_w, old_w, new_w)))
    return found


def _level(moved: Sequence[Move], start_ns: int, end_ns: int) -> float | None:
    """The power at the end of a stretch, where the sensor has settled."""
    inside = [move.power_w for move in moved if start_ns <= move.t_ns < end_ns and move.unseen_s <= UNSEEN_LIMIT_S]
    return inside[-1] if inside else None


def _share(power_w: float, old_w: float, new_w: float) -> float:
    share = (power_w - old_w) / (new_w - old_w)
    return min(1.0, max(0.0, share))


def fit(found: Sequence[Response]) -> tuple[float, float] | str:
    """(window, delay) in s for which a sliding mean would have shown `found`: least squares over a grid, 1 ms fine; or
    the reason why they do not tell it: too few steps, or windows of very different length explain them as well (no
    update fell into the window after a step)."""
    if sum(1 for one in found if one.after_s == 0.0) < MIN_STEPS:
        return NO_STEPS
    coarse = {
        (w, d): _misfit(found, w / 1e3, d / 1e3)
        for w in (*range(2, 60, 6), *range(60, 1600, 20))
        for d in range(0, 120, 10)
    }
    window_ms, delay_ms = min(coarse, key=lambda at: (coarse[at], at))
    fine = {
        (w, d): _misfit(found, w / 1e3, d / 1e3)
        for w in range(max(1, window_ms - 20), window_ms + 21, 1 if window_ms < 200 else 4)
        for d in range(max(0, delay_ms - 10), delay_ms + 11, 1)
    }
    tried = coarse | fine
    window_ms, delay_ms = min(tried, key=lambda at: (tried[at], at))
    least = tried[window_ms, delay_ms]
    as_good_ms = [w for (w, _), misfit in tried.items() if misfit <= least + AS_GOOD]
    if max(as_good_ms) - min(as_good_ms) > max(1e3 * WIDEST_S, WIDEST_SHARE * window_ms):
        return NOT_TOLD_APART
    return window_ms / 1e3, delay_ms / 1e3


def _misfit(found: Sequence[Response], window_s: float, delay_s: float) -> float:
    return sum((one.share - min(1.0, max(0.0, (one.after_s - delay_s) / window_s))) ** 2 for one in found)


def passport(
    device: PowerDevice,
    driver: str,
    moved: Sequence[Move],
    kind: str | None,
    steps: Sequence[LoadStep],
    counter_s: float | None,
) -> Passport:
    """Puts together what was seen of one device."""
    nulls: dict[str, str] = {}
    period_s = update_period_s(moved)
    fitted = fit(responses(placed(moved, period_s), steps, period_s)) if period_s is not None else NO_STEPS
    if period_s is None:
        nulls["update_period_s"] = NOT_MOVING
    if isinstance(fitted, str):
        nulls |= dict.fromkeys(("window_s", "delay_s"), fitted)
    if counter_s is None:
        nulls["counter_period_s"] = NOT_MOVING
    if kind is None:
        nulls["power_kind"] = "no_power_reading"
    return Passport(
        gpu_uuid=device.uuid,
        gpu_name=device.name,
        driver=driver,
        measured_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        power_kind=kind,
        update_period_s=period_s,
        window_s=None if isinstance(fitted, str) else fitted[0],
        delay_s=None if isinstance(fitted, str) else fitted[1],
        counter_period_s=counter_s,
        steps=len(steps),
        null_reasons=nulls,
    )


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where passports are kept: $XDG_CACHE_HOME (else ~/.cache)/mutation-energy-profiler/passports."""
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or "/nonexistent") / ".cache")
    return Path(base) / "mutation-energy-profiler" / "passports"


def save(found: Passport, folder: Path) -> Path:
    """Keeps a passport; a newer one of the same device and driver replaces it. OSError where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _file_name(found.gpu_uuid, found.driver)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
    scratch.replace(path)
    return path


def load(gpu_uuid: str, driver: str | None, folder: Path) -> Passport | None:
    """The passport of a device under this driver; None where there is none, or where it cannot be read."""
    try:
        fields: dict[str, Any] = json.loads((folder / _file_name(gpu_uuid, driver or "")).read_text(encoding="utf-8"))
        return Passport(**fields)
    except (OSError, ValueError, TypeError):
        return None


def _file_name(gpu_uuid: str, driver: str) -> str:
    return f"{gpu_uuid}-{driver}.json".replace("/", "_")
