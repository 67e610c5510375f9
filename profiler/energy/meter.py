"""Measures windows in a plain process: one set of open sources and one sampler, any number of windows, no Ray.

    with Meter() as meter, meter.window("training") as window: ...
    with meter("epoch 1") as window: ...           the process's own shared Meter
    window.gpu_energy_j, window.duration_s, window.null_reasons

It starts no command and judges nothing (measurement, verdict). A window measures the devices, not the process.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from profiler import host
from profiler.energy.account import EnergyAccount, account
from profiler.energy.idle import IdlePower, Resting, cpu_idle_power, idle_power, together
from profiler.energy.sampler import Sampler
from profiler.energy.sources import Boundary, Sources, discover
from profiler.errors import UsageError

RATE_HZ: Final = 10.0
# The figures wait until the trace has a tick after the end, so that the edge lies between two samples.
EDGE_TICKS: Final = 1.5
_COLUMNS: Final = frozenset(field.name for field in fields(EnergyAccount))


class Meter:
    """Open sources and a running sampler. Use it as a context manager, or `open` and `close` it.

    `sysfs`: the tree to read instead of /sys. `environ`: where CUDA_VISIBLE_DEVICES limits the GPUs. `sources`: use
    these (they stay open) instead of discovering."""

    def __init__(
        self,
        *,
        rate_hz: float = RATE_HZ,
        sysfs: Path | None = None,
        environ: Mapping[str, str] | None = None,
        sources: Sources | None = None,
    ) -> None:
        self._own = sources is None
        self.sources = discover(sysfs) if sources is None else sources
        self.sampler = Sampler(self.sources, rate_hz, node_id=host.hostname(), boot_id=host.boot_id())
        self.gpu_uuids = visible_gpus(self.sources, os.environ if environ is None else environ)
        self._pending: weakref.WeakSet[Window] = weakref.WeakSet()

    def open(self) -> Self:
        """Starts the sampler; returns after its first tick."""
        self.sampler.start()
        return self

    def close(self) -> None:
        """Works out the windows that ended, stops the sampler, closes the sources that this meter opened."""
        for window in list(self._pending):
            window.settle()
        self.sampler.stop()
        if self._own:
            self.sources.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def window(self, label: str = "", gpu_uuids: Sequence[str] | None = None, *, align: bool = False) -> Window:
        """A window to use in a `with` statement; windows may nest and overlap, also in several threads.

        `align`: wait at both ends until each GPU's counter moves (50 ms on average), for edges known to 3 ms."""
        return Window(self, label, self.gpu_uuids if gpu_uuids is None else tuple(gpu_uuids), align=align)

    def rest(self, seconds: float) -> Resting:
        """The power of this meter's GPUs and of the CPU packages in the next `seconds`, in which nothing should run.
        Blocks. Unknown with the reason where they were not idle, or not for long enough (1 s, 10 samples) to tell."""
        since_ns = time.monotonic_ns()
        token = self.sampler.hold(since_ns)
        try:
            time.sleep(seconds)
            until_ns = time.monotonic_ns()
            rows = self.sampler.window(since_ns, until_ns)
        finally:
            self.sampler.release(token)
        gpus = [idle_power([row for row in rows if row.device == uuid], since_ns, until_ns) for uuid in self.gpu_uuids]
        return Resting(
            together(gpus) if gpus else IdlePower.unknown("no_gpu"), cpu_idle_power(rows, since_ns, until_ns)
        )

    def ended(self, window: Window) -> None:
        """Told by a window that it has ended and has no figures yet."""
        self._pending.add(window)


class Window:
    """A measured block. After it, every column of `EnergyAccount` is an attribute, beside duration_s, start_ns, end_ns.

    The figures are worked out when first asked for, up to 1.5 ticks after the end, so leaving the block costs nothing
    but the boundary reads (some us for RAPL, 3 ms for each GPU)."""

    def __init__(self, meter: Meter, label: str, gpu_uuids: tuple[str, ...], *, align: bool = False) -> None:
        self.label = label
        self.gpu_uuids = gpu_uuids
        self._meter = meter
        self._align = align
        self._lock = threading.Lock()
        self._start: Boundary | None = None
        self._end: Boundary | None = None
        self._start_ns = self._end_ns = 0
        self._account: EnergyAccount | None = None
        self._release: weakref.finalize[[int], Window] | None = None

    def __enter__(self) -> Self:
        if self._start is not None:
            raise UsageError(f"the window {self.label!r} was used before: make a new one")
        sampler = self._meter.sampler
        token = sampler.hold(time.monotonic_ns() - sampler.grid.period_ns)
        # A window that nobody asks must not hold the trace for ever.
        self._release = weakref.finalize(self, sampler.release, token)
        self._start = self._meter.sources.boundary(self.gpu_uuids, edge="start", align=self._align)
        self._start_ns = time.monotonic_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_ns = time.monotonic_ns()
        self._end = self._meter.sources.boundary(self.gpu_uuids, edge="end", align=self._align)
        self._meter.ended(self)

    @property
    def start_ns(self) -> int:
        """CLOCK_MONOTONIC at the first line of the block."""
        return self._start_ns

    @property
    def end_ns(self) -> int:
        """CLOCK_MONOTONIC at the end of the block. UsageError before it."""
        self._ended()
        return self._end_ns

    @property
    def duration_s(self) -> float:
        """Length of the block in s. UsageError before its end."""
        return (self.end_ns - self._start_ns) / 1e9

    @property
    def energy(self) -> EnergyAccount:
        """All figures. UsageError before the end of the block."""
        end = self._ended()
        with self._lock:
            if self._account is None:
                self._account = self._work_out(end)
            return self._account

    def settle(self) -> None:
        """Works the figures out now, if they have not been asked for yet."""
        _ = self.energy

    def _ended(self) -> Boundary:
        if self._end is None:
            raise UsageError(f"the window {self.label!r} has not ended yet: its figures are there after it")
        return self._end

    def _work_out(self, end: Boundary) -> EnergyAccount:
        assert self._start is not None and self._release is not None, "a window that ended has begun"
        sampler = self._meter.sampler
        enough_ns = self._end_ns + int(EDGE_TICKS * sampler.grid.period_ns)
        while sampler.running and (left_ns := enough_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)
        samples = sampler.window(self._start.t_ns, max(end.t_ns, self._end_ns))
        result = account(self._start, end, samples, self._meter.sources, self.gpu_uuids, self._start_ns, self._end_ns)
        self._release()
        return result

    def __getattr__(self, name: str) -> Any:
        if name not in _COLUMNS:
            raise AttributeError(f"a window has no {name!r}")
        return getattr(self.energy, name)

    def __repr__(self) -> str:
        if self._end is None:
            return f"Window({self.label!r}, not ended)"
        return f"Window({self.label!r}, duration_s={self.duration_s:.3f})"


def visible_gpus(sources: Sources, environ: Mapping[str, str]) -> tuple[str, ...]:
    """UUIDs of the GPUs that a process with `environ` may use: those in CUDA_VISIBLE_DEVICES, else all."""
    named = environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return tuple(gpu.uuid for gpu in sources.gpus)
    wanted = [part.strip() for part in named.split(",") if part.strip()]
    return tuple(gpu.uuid for gpu in sources.gpus if any(_is_named(gpu.index, gpu.uuid, part) for part in wanted))


def _is_named(index: int, uuid: str, part: str) -> bool:
    return part == str(index) if part.isdigit() else uuid.startswith(part)


_shared: dict[tuple[int, float], Meter] = {}
_shared_lock = threading.Lock()


def shared(rate_hz: float = RATE_HZ) -> Meter:
    """The Meter that all windows of this process share; opened on first use, stopped when the process ends.

    A forked child gets its own: threads do not survive a fork."""
    key = (os.getpid(), rate_hz)
    with _shared_lock:
        if key not in _shared:
            _shared[key] = Meter(rate_hz=rate_hz).open()
            atexit.register(_shared[key].sampler.stop)
        return _shared[key]


def meter(label: str = "", *, rate_hz: float = RATE_HZ) -> Window:
    """Measures a block of any script: ``with meter("epoch 1") as window: ...``. Nested blocks share one sampler."""
    return shared(rate_hz).window(label)
