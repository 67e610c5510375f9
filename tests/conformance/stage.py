"""Runs one tool on one case: builds the hardware, lets the tool begin, plays the load, collects the answer.

The tool sees the powercap tree at /sys/class (bind-mounted in a mount namespace of its own; the machine's is never
touched), the virtual libnvidia-ml on LD_LIBRARY_PATH, and no network. Faults of reads come from faulty_read.c.
It judges nothing.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.conformance.cases import FLOOR_W, Case
from tests.conformance.environments import ROOT
from tests.conformance.tools import Tool
from tests.fakes.nvml import FakeNvml, Segment, build, compiler
from tests.fakes.powercap import build as build_tree

Writes = Sequence[tuple[int, int]]
LEAD_S = 0.2  # from the decision to begin until the load begins
READY_S = 90.0
ANSWER_S = 60.0
SETTLE_S = 3.0  # what a killed process started has this long to end
KILL_AFTER_S = 1.0
LATE_S = 0.05
TRIES = 6
NEVER_BEGAN, NO_ANSWER = "never began to measure", "ended without an answer"
# $0: the tree. A power PMU of the machine is hidden as well.
MASK = """mount --bind "$0"/class /sys/class &&
if [ -d /sys/bus/event_source ]; then mount -t tmpfs none /sys/bus/event_source; fi && exec "$@" """


@dataclass(frozen=True)
class Run:
    """What came of one tool on one case. `error`: why there is no answer. `truth_j`: (least, most) that is right."""

    case: str
    tool: str
    version: str
    energy_j: float | None = None
    reason: str | None = None
    truth_j: tuple[float, float] | None = None
    error: str | None = None
    fault_met: bool | None = None
    hardware_late_s: float = 0.0
    left_running: tuple[str, ...] | None = None
    raw: Any = None
    stderr: str = ""


def libraries(cache: Path) -> tuple[Path, Path]:
    """Folder of the virtual NVML, and the library that spoils reads; compiled into `cache`."""
    cc = compiler()
    if cc is None:
        raise RuntimeError("the kit needs a C compiler (cc or gcc) on PATH")
    cache.mkdir(parents=True, exist_ok=True)
    spoiler = cache / "faulty_read.so"
    source = Path(__file__).with_name("faulty_read.c")
    subprocess.run([cc, "-O2", "-fPIC", "-shared", "-o", spoiler, source, "-ldl"], check=True)
    return build(cache), spoiler


class Stage:
    """One run. Everything it makes lies in `folder`."""

    def __init__(self, case: Case, tool: Tool, folder: Path, nvml: Path, spoiler: Path) -> None:
        self.case, self.tool, self.folder = case, tool, folder
        self._tree = folder / "sys"
        (self._tree / "class").mkdir(parents=True)
        smi = folder / "bin" / "nvidia-smi"
        smi.parent.mkdir()
        smi.write_text("#!/bin/sh\n")  # some look whether there is one before they ask NVML
        smi.chmod(0o755)
        self._env = {**os.environ, "HOME": str(folder), "PYTHONPATH": str(ROOT), "CONFORMANCE_RUN": str(folder)}
        self._env["PATH"] = f"{smi.parent}:{self._env['PATH']}"
        self._fault = folder / "fault"
        self._gpu: FakeNvml | None = None
        self._told: tuple[int, list[int]] | None = None
        self._counters_move = any(zone.text is None for zone in case.zones)
        if case.zones:
            self._build_cpu()
        else:
            self._gpu = FakeNvml(folder / "nvml.state", nvml, watts=case.load.outside_w)
            self._env |= self._gpu.env
        if case.fault is not None:
            self._env |= {"LD_PRELOAD": str(spoiler), "CONFORMANCE_FAULT": str(self._fault)}
        if case.killed:
            self._env["CONFORMANCE_KILLED"] = "1"

    def _build_cpu(self) -> None:
        build_tree(self._tree, self.case.zones, nested=True)
        control = self._tree / "devices" / "virtual" / "powercap" / "intel-rapl"
        (self._tree / "class" / "powercap" / "intel-rapl").symlink_to(control)
        (control / "subsystem").symlink_to("/sys/class/powercap")

    def run(self) -> Run:
        """Blocks until the tool has answered, failed, or taken too long; leaves no process."""
        with self._playing():
            run = self._run_tool()
        if self._told is None:
            return run
        start_ns, window_ns = self._told
        if not self._counters_move:
            return replace(run, truth_j=truth(self.case, start_ns, window_ns))
        writes = [(begun_ns, done_ns) for begun_ns, done_ns in json.loads((self.folder / "writes").read_text())]
        late_s = longest_pause_s(writes, window_ns[0], window_ns[-1])
        return replace(run, truth_j=truth(self.case, start_ns, window_ns, writes), hardware_late_s=late_s)

    def _run_tool(self) -> Run:
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as err:
            process = subprocess.Popen(self._command(), env=self._env, cwd=self.folder, stdout=out, stderr=err)
            try:
                return self._conduct(process)
            finally:
                process.kill()
                process.wait()
                for pid, _ in self._processes():
                    os.kill(pid, 9)

    def _command(self) -> list[str]:
        unshare = ["unshare", "--mount", "--net", *(["--map-root-user"] if os.getuid() else [])]
        arguments = [str(self.folder), self.case.device, str(self.case.load.seconds)]
        driver = [str(self.tool.python), "-m", f"tests.conformance.drivers.{self.tool.driver}", *arguments]
        return [*unshare, "sh", "-c", MASK, str(self._tree), *driver]

    @contextmanager
    def _playing(self) -> Iterator[None]:
        """The powercap tree runs; its player ends with its standard input."""
        if not self.case.zones:
            yield
            return
        command = [sys.executable, "-m", "tests.conformance.player", str(self.folder)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as player:
            assert player.stdin is not None
            pickle.dump(self.case.zones, player.stdin)
            player.stdin.flush()
            if not self._await(self.folder / "playing", player, READY_S):
                raise RuntimeError(f"the player of the powercap tree did not begin: exit status {player.poll()}")
            yield

    def _conduct(self, process: subprocess.Popen[bytes]) -> Run:
        if not self._await(self.folder / "ready", process, READY_S):
            return self._result(error=self._why(process, NEVER_BEGAN))
        start_ns = self._begin()
        if self.case.killed:
            return self._kill(process)
        answer = self.folder / "answer.json"
        if not self._await(answer, process, self.case.load.seconds + ANSWER_S):
            return self._result(error=self._why(process, NO_ANSWER))
        told = json.loads(answer.read_text())
        self._told = start_ns, told["window_ns"]
        return self._result(energy_j=told["energy_j"], reason=told["reason"], raw=told["raw"])

    def _begin(self) -> int:
        """Sets the load going, then tells the driver. Returns when it begins."""
        start_ns = time.monotonic_ns() + round(LEAD_S * 1e9)
        if self.case.fault is not None:
            at_ns = start_ns + round(self.case.fault.at_s * 1e9)
            self._fault.write_text(f"{self.case.fault.kind} {at_ns}\n")
        place(self.folder / "cue", start_ns)
        if self._gpu is not None:
            self._begin_gpu(self._gpu, start_ns)
        place(self.folder / "go", start_ns)
        return start_ns

    def _begin_gpu(self, gpu: FakeNvml, start_ns: int) -> None:
        steps = [Segment(seconds, watts) for seconds, watts in self.case.load.steps]
        gpu.play([*steps, Segment(1.0, self.case.load.outside_w)], start_ns=start_ns)
        if self.case.gpu_frozen:
            gpu.freeze_counter()
        if self.case.gpu_reset_at_s is not None:
            threading.Timer(LEAD_S + self.case.gpu_reset_at_s, gpu.reset_counter).start()

    def _kill(self, process: subprocess.Popen[bytes]) -> Run:
        time.sleep(KILL_AFTER_S)
        before = [text for pid, text in self._processes() if pid != process.pid]
        process.kill()
        process.wait()
        time.sleep(SETTLE_S)
        left = tuple(text for _, text in self._processes())
        return self._result(left_running=left, raw={"running_before_the_kill": before})

    def _await(self, path: Path, process: subprocess.Popen[bytes], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if path.exists():
                return True
            if process.poll() is not None:
                return path.exists()
            time.sleep(0.02)
        return False

    def _processes(self) -> list[tuple[int, str]]:
        """Processes that carry this run's mark in their environment."""
        mark = f"CONFORMANCE_RUN={self.folder}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                    found.append((int(entry.name), b" ".join(words).decode(errors="replace")))
            except OSError:
                continue  # it ended meanwhile
        return found

    def _why(self, process: subprocess.Popen[bytes], what: str) -> str:
        lines = (self.folder / "stderr").read_text(errors="replace").strip().splitlines()
        status = "still running" if process.poll() is None else f"exit status {process.returncode}"
        return f"{what} ({status}): {lines[-1] if lines else 'no message'}"

    def _result(self, **values: Any) -> Run:
        met = None if self.case.fault is None else self._fault.with_name("fault.dealt").exists()
        stderr = (self.folder / "stderr").read_text(errors="replace")[-2000:]
        values |= {"fault_met": met, "stderr": stderr}
        return Run(self.case.name, self.tool.name, self.tool.version, **values)


def place(path: Path, time_ns: int) -> None:
    """Puts a file there whole."""
    scratch = path.with_suffix(".part")
    scratch.write_text(str(time_ns))
    scratch.rename(path)


def longest_pause_s(writes: Writes, from_ns: int, to_ns: int) -> float:
    """How long at most, in [from_ns, to_ns], the counters had not been written."""
    pauses = ((begun_ns, done_ns) for (begun_ns, _), (_, done_ns) in pairwise(writes))
    return max((b - a for a, b in pauses if b >= from_ns and a <= to_ns), default=0) / 1e9


def truth(case: Case, start_ns: int, window_ns: list[int], writes: Writes = ()) -> tuple[float, float]:
    """Energy of the shortest and of the longest window that the tool may have measured.

    `window_ns`: before and after its begin, before and after its end; two times where only the outer ones are known:
    then the shortest is the load itself. `writes`: when the counters were written, each from its begin to its end: a
    tool that reads them in between can know no more than the last one."""
    load, floor_w = case.load, FLOOR_W if case.zones else 0.0
    opened_ns, closed_ns = window_ns[0], window_ns[-1]
    inner = (window_ns[1], window_ns[2]) if len(window_ns) == 4 else (start_ns, start_ns + round(load.seconds * 1e9))

    def between(first_ns: int, last_ns: int) -> float:
        energy_j = load.energy_j((last_ns - start_ns) / 1e9) - load.energy_j((first_ns - start_ns) / 1e9)
        return energy_j + floor_w * (last_ns - first_ns) / 1e9

    def shown_ns(t_ns: int) -> int:
        """Of what time the counters are at `t_ns`, at least."""
        return max((begun_ns for begun_ns, done_ns in writes if done_ns <= t_ns), default=t_ns)

    return between(inner[0], shown_ns(inner[1])), between(shown_ns(opened_ns), closed_ns)


def perform(case: Case, tool: Tool, nvml: Path, spoiler: Path) -> Run:
    """One run in a folder of its own that does not stay; again where the machine was too busy to play the hardware in
    time, or the tool did not come to measure."""
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory(prefix="conformance-", ignore_cleanup_errors=True) as folder:
            run = Stage(case, tool, Path(folder), nvml, spoiler).run()
        if run.hardware_late_s <= LATE_S and not (run.error or "").startswith(NEVER_BEGAN):
            return run
    return run if run.error else replace(run, error=f"the virtual hardware stood still for {run.hardware_late_s:.2f} s")
