"""Virtual NVIDIA GPUs under real nvidia-ml-py: compiles fake_nvml.c and writes the state file that it plays.

Power is a list of eras, each a list of linear segments on CLOCK_MONOTONIC, so `energy_mj` is the exact truth of any
interval. It starts no process except where `run` is asked to. It is not a CUDA device: nothing can compute on it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("fake_nvml.c")
FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-fvisibility=hidden", "-shared", "-Wl,-soname,libnvidia-ml.so.1")
WARNINGS = ("-Wall", "-Wextra", "-Werror")

NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, DRIVER_NOT_LOADED = 3, 4, 6, 9
FUNCTION_NOT_FOUND, GPU_IS_LOST, VERSION_MISMATCH, UNKNOWN = 13, 15, 18, 999

HISTORY_NS = 60_000_000_000  # a new GPU has drawn its first power for a minute, so that averages have a past
FIRST_COUNTER_MJ = 123_456_789.0
MAX_ERAS = 16
REMEMBERED_NS = 20_000_000_000  # longer than the driver's buffer of utilisation


def compiler() -> str | None:
    """The C compiler's path, or None where there is none."""
    return shutil.which("cc") or shutil.which("gcc")


def build(cache: Path, warnings: Sequence[str] = ()) -> Path:
    """Compiles the library (once per version of its source) and returns the folder for LD_LIBRARY_PATH."""
    version = hashlib.sha256(SOURCE.read_bytes() + repr((FLAGS, tuple(warnings))).encode()).hexdigest()[:16]
    folder = cache / f"fake-nvml-{version}"
    target = folder / "libnvidia-ml.so.1"
    if target.exists():
        return folder
    cc = compiler()
    if cc is None:
        raise RuntimeError("the virtual NVML needs a C compiler (cc or gcc) on PATH")
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".build-{os.getpid()}"
    subprocess.run([cc, *FLAGS, *warnings, "-o", scratch, SOURCE, "-lm", "-lpthread"], check=True)
    scratch.replace(target)
    return folder


@dataclass(frozen=True)
class Segment:
    """A stretch of power: `seconds` long, from `from_w` linearly to `to_w` (None: constant)."""

    seconds: float
    from_w: float
    to_w: float | None = None

    @property
    def end_w(self) -> float:
        return self.from_w if self.to_w is None else self.to_w


@dataclass(frozen=True)
class Era:
    """Segments played from `start_ns` on; after the last one its final power stays, or all repeat."""

    start_ns: int
    base_mj: float
    segments: tuple[Segment, ...]
    repeat: bool = False

    def energy_mj(self, t_ns: float) -> float:
        """True energy of the device at `t_ns`, counted from where the counter began."""
        ns = max(0.0, t_ns - self.start_ns)
        total_ns = sum(round(s.seconds * 1e9) for s in self.segments)
        if not self.repeat or total_ns <= 0:
            return self.base_mj + self._partial_mj(ns)
        rounds = ns // total_ns
        return self.base_mj + rounds * self._partial_mj(total_ns) + self._partial_mj(ns - rounds * total_ns)

    def _partial_mj(self, ns: float) -> float:
        energy, watts = 0.0, 0.0
        for segment in self.segments:
            length = float(round(segment.seconds * 1e9))
            inside = min(ns, length)
            watts = segment.from_w + (segment.end_w - segment.from_w) * (inside / length if length else 1.0)
            energy += (segment.from_w + watts) / 2 * inside * 1e-6
            ns -= inside
            if ns <= 0:
                return energy
        return energy + watts * ns * 1e-6


@dataclass(frozen=True)
class FakeProcess:
    """A process on the GPU. `memory_mib` None: not available; `kind`: compute, graphic or mps; CLOCK_MONOTONIC."""

    pid: int
    memory_mib: float | None = 512.0
    kind: str = "compute"
    sm_percent: int = 50
    memory_percent: int = 20
    from_ns: int = 0
    until_ns: int = 0


@dataclass
class FakeGpu:
    """One virtual GPU; the defaults are an idle H100 80GB HBM3. A sensor window of 0 is a point reading."""

    uuid: str
    name: str = "NVIDIA H100 80GB HBM3"
    memory_total_mib: float = 81_079.0
    memory_reserved_mib: float = 480.0
    memory_idle_mib: float = 4.0
    memory_used_mib: float = -1.0  # < 0: the idle mark and the processes' memory
    power_limit_w: float = 700.0
    counter_period_ns: int = 100_000_000
    instant_period_ns: int = 100_000_000
    instant_window_ns: int = 100_000_000
    average_window_ns: int = 1_000_000_000
    buffer_period_ns: int = 20_000_000
    buffer_count: int = 119
    temp_c: int = 35
    util_percent: int = 0
    memory_util_percent: int = 0
    sm_clock_mhz: int = 345
    memory_clock_mhz: int = 2619
    throttle_reasons: int = 1
    compute_major: int = 9
    compute_minor: int = 0
    mig_mode: int = 0  # -1: not supported
    reap_dead_processes: int = 0  # 1: a process whose PID does not exist is no longer shown
    frozen_at_ns: int = 0
    lost_at_ns: int = 0
    eras: list[Era] = field(default_factory=list)
    processes: list[FakeProcess] = field(default_factory=list)

    def energy_mj(self, t_ns: float) -> float:
        """True energy at `t_ns` (the counter shows the value of its last step)."""
        era = self.eras[0]
        for later in self.eras[1:]:
            era = later if later.start_ns <= t_ns else era
        return era.energy_mj(t_ns)

    def lines(self, index: int) -> Iterator[str]:
        for item in fields(self):
            if item.name not in ("eras", "processes"):
                yield f"gpu {index} {item.name} {getattr(self, item.name)}"
        for era in self.eras:
            yield f"gpu {index} era {era.start_ns} {era.base_mj!r} {int(era.repeat)}"
            for s in era.segments:
                yield f"gpu {index} segment {round(s.seconds * 1e9)} {s.from_w!r} {s.end_w!r}"
        for p in self.processes:
            memory = -1 if p.memory_mib is None else p.memory_mib
            times = f"{p.from_ns} {p.until_ns}"
            yield f"gpu {index} process {p.pid} {memory} {p.kind} {p.sm_percent} {p.memory_percent} {times}"


def fake_uuid(index: int) -> str:
    return f"GPU-00000000-fa4e-0000-0000-{index:012d}"


class FakeNvml:
    """Controls the virtual GPUs of one state file. Every setter is seen by the next NVML call of any process."""

    def __init__(self, state: Path, library_dir: Path, gpus: int = 1, watts: float = 70.0) -> None:
        self.state = state
        self.library_dir = library_dir
        self.driver = "580.159.03"
        start = time.monotonic_ns() - HISTORY_NS
        self.gpus = [
            FakeGpu(fake_uuid(i), eras=[Era(start, FIRST_COUNTER_MJ, (Segment(1.0, watts),))]) for i in range(gpus)
        ]
        self.rules: list[str] = []
        self.write()

    @property
    def env(self) -> dict[str, str]:
        """What a child process needs in its environment to see these GPUs (on top of its own)."""
        old = os.environ.get("LD_LIBRARY_PATH")
        path = f"{self.library_dir}:{old}" if old else str(self.library_dir)
        return {"LD_LIBRARY_PATH": path, "FAKE_NVML_STATE": str(self.state)}

    def write(self) -> None:
        """Puts the state in place atomically."""
        lines = [f"driver {self.driver}", *self.rules]
        for index, gpu in enumerate(self.gpus):
            lines += gpu.lines(index)
        scratch = self.state.with_name(f".{self.state.name}.{os.getpid()}")
        scratch.write_text("\n".join(lines) + "\n")
        scratch.replace(self.state)

    def set(self, gpu: int = 0, **values: Any) -> None:
        """Sets fields of FakeGpu, e.g. `set(temp_c=80, util_percent=97)`."""
        known = {item.name for item in fields(FakeGpu)}
        for name, value in values.items():
            if name not in known:
                raise AttributeError(f"FakeGpu has no field {name!r}")
            setattr(self.gpus[gpu], name, value)
        self.write()

    def power(self, watts: float, gpu: int = 0) -> int:
        """Constant power from now on. Returns the time of the change (CLOCK_MONOTONIC, ns)."""
        return self.play([Segment(1.0, watts)], gpu=gpu)

    def play(
        self, segments: Sequence[Segment], *, repeat: bool = False, gpu: int = 0, start_ns: int | None = None
    ) -> int:
        """Plays the segments from `start_ns` (default: now) on; the counter goes on from its value. Returns it."""
        start_ns = time.monotonic_ns() if start_ns is None else start_ns
        device = self.gpus[gpu]
        era = Era(start_ns, device.energy_mj(start_ns), tuple(segments), repeat)
        device.eras = [*device.eras[-(MAX_ERAS - 1) :], era]
        self.write()
        return start_ns

    def bursts(
        self, high_w: float, low_w: float, period_s: float, duty: float = 0.5, gpu: int = 0, *, in_step: bool = False
    ) -> int:
        """A square wave from now on: `duty` of each period at `high_w`, the rest at `low_w`. `in_step`: as if begun at
        a multiple of the period, as the sensor's own periods are; else at any phase of them."""
        parts = [Segment(period_s * duty, high_w), Segment(period_s * (1 - duty), low_w)]
        period_ns = round(period_s * 1e9)
        start_ns = time.monotonic_ns() // period_ns * period_ns if in_step else None
        return self.play(parts, repeat=True, gpu=gpu, start_ns=start_ns)

    def energy_mj(self, t_ns: float, gpu: int = 0) -> float:
        """The exact energy at a time of CLOCK_MONOTONIC, in mJ, on the counter's scale."""
        return self.gpus[gpu].energy_mj(t_ns)

    def reset_counter(self, gpu: int = 0, value_mj: float = 0.0) -> None:
        """The counter starts anew, as after a reload of the driver; the power goes on from the profile's beginning."""
        last = self.gpus[gpu].eras[-1]
        self.gpus[gpu].eras.append(Era(time.monotonic_ns(), value_mj, last.segments, last.repeat))
        self.write()

    def freeze_counter(self, gpu: int = 0) -> None:
        self.set(gpu, frozen_at_ns=time.monotonic_ns())

    def lose(self, gpu: int = 0, found_again: bool = False) -> None:
        """The GPU falls off the bus (or, `found_again`, comes back)."""
        self.set(gpu, lost_at_ns=0 if found_again else time.monotonic_ns())

    def add_process(self, pid: int, memory_mib: float | None = 512.0, *, gpu: int = 0, **values: Any) -> None:
        self.gpus[gpu].processes.append(FakeProcess(pid, memory_mib, **values))
        self.write()

    def remove_process(self, pid: int, gpu: int = 0) -> None:
        self.gpus[gpu].processes = [p for p in self.gpus[gpu].processes if p.pid != pid]
        self.write()

    def end_process(self, pid: int, gpu: int = 0) -> None:
        """The process ends now; what it did stays in the driver's buffer of utilisation for some seconds."""
        now_ns = time.monotonic_ns()
        kept = [p for p in self.gpus[gpu].processes if not p.until_ns or now_ns - p.until_ns < REMEMBERED_NS]
        self.gpus[gpu].processes = [replace(p, until_ns=now_ns) if p.pid == pid else p for p in kept]
        self.write()

    def fail(self, call: str, code: int, *, gpu: int | None = None, from_ns: int = 0, until_ns: int = 0) -> None:
        """`call` (an NVML function, with or without its version, or `field:186`) answers `code` (0 times: always)."""
        self._add_rule("fail", call, code, gpu, from_ns, until_ns)

    def slow(self, call: str, ms: float, *, gpu: int | None = None, from_ns: int = 0, until_ns: int = 0) -> None:
        """`call` takes `ms` longer."""
        self._add_rule("slow", call, ms, gpu, from_ns, until_ns)

    def heal(self) -> None:
        """Removes every `fail` and `slow`."""
        self.rules.clear()
        self.write()

    def _add_rule(self, verb: str, call: str, value: float, gpu: int | None, from_ns: int, until_ns: int) -> None:
        if not call.startswith("field:") and call not in SOURCE.read_text():
            raise ValueError(f"the virtual NVML has no call {call!r}")
        self.rules.append(f"{verb} {'*' if gpu is None else gpu} {call} {value} {from_ns} {until_ns}")
        self.write()

    def run(self, source: str, env: Mapping[str, str] | None = None, timeout_s: float = 60.0) -> Any:
        """Runs Python `source` in a child process that sees these GPUs; what it prints must be one JSON document."""
        child = {**os.environ, **self.env, **(env or {})}
        command = [sys.executable, "-c", source]
        done = subprocess.run(command, env=child, timeout=timeout_s, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"child ended with {done.returncode}:\n{done.stderr}")
        return json.loads(done.stdout)

    @contextmanager
    def attached(self) -> Iterator[FakeNvml]:
        """Inside, nvidia-ml-py of *this* process uses the virtual library. Handles opened inside must not leave it."""
        import pynvml

        before = pynvml.nvmlLib, dict(pynvml._nvmlGetFunctionPointer_cache), os.environ.get("FAKE_NVML_STATE")
        pynvml.nvmlLib = ctypes.CDLL(str(self.library_dir / "libnvidia-ml.so.1"))
        pynvml._nvmlGetFunctionPointer_cache.clear()
        os.environ["FAKE_NVML_STATE"] = str(self.state)
        try:
            yield self
        finally:
            while pynvml.nvmlLib.nvmlShutdown() == 0:
                pass  # whatever the test left open
            pynvml.nvmlLib = before[0]
            pynvml._nvmlGetFunctionPointer_cache.clear()
            pynvml._nvmlGetFunctionPointer_cache.update(before[1])
            os.environ.pop("FAKE_NVML_STATE")
            if before[2] is not None:
                os.environ["FAKE_NVML_STATE"] = before[2]


def default_cache() -> Path:
    """Where the command line keeps the compiled library: a folder of this user under the temporary folder."""
    return Path(tempfile.gettempdir()) / f"fake-nvml-{os.getuid()}"
