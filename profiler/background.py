"""The background training: keeps it going until its lease ends, and tells the attempt what happens.

Mode loop starts a fresh process each time one ends; in mode reuse one warm process trains again and again by itself,
and only its end starts another.

Two halves that share a folder, not memory. `loop_background` runs in the background's own task; `BackgroundWatch`
is the attempt's side: it holds the write end of a FIFO as lease (end of file = stop, also when the attempt is
killed) and reads the status file. It judges nothing and knows nothing of Ray.
"""

from __future__ import annotations

import json
import os
import re
import select
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profiler.checkouts import CopyError
from profiler.events import DATA_MISSING, Training, read_events, read_trainings
from profiler.last_words import EXCEPTION_EXIT_CODE
from profiler.metrics import memory_words
from profiler.process.command import ExitReport
from profiler.process.contained import ContainedProcess
from profiler.process.enclosure import Enclosure, is_in
from profiler.process.launch import start
from profiler.trainer import TrainerFiles, TrainerJob, trainer_command

POLL_S = 0.05
FAILED_STARTS_LIMIT = 3
LONGEST_LINE_BYTES = 1 << 16
LAST_LOOK_NS = 1_000_000_000  # a process that has just ended may be in an answer of the driver that was on its way
ENDED_BY_ITSELF = ("exited", "timeout", "start_failed")


@dataclass(frozen=True)
class BackgroundFiles:
    """Paths of one background: its folder of work directories, lease FIFO, status file and logs."""

    folder: Path
    logs: Path

    @property
    def lease(self) -> Path:
        return self.folder / "lease"

    @property
    def status(self) -> Path:
        return self.folder / "status.jsonl"

    def trainer(self, number: int) -> TrainerFiles:
        return TrainerFiles(
            work=self.folder / f"work-{number}",
            events=self.folder / f"events-{number}.jsonl",
            log=self.logs / f"training_{number}.log",
        )


@dataclass(frozen=True)
class BackgroundStart:
    """One process of the background. Times are CLOCK_MONOTONIC in ns; None = it has not happened. `trainings`: what
    it says it has trained; the last one of a process that has ended has ended too."""

    number: int
    t0_ns: int
    t1_ns: int | None = None
    trainings: tuple[Training, ...] = ()
    exit_code: int | None = None
    signal: int | None = None
    why: str | None = None
    error: str | None = None
    cpu_s: float | None = None
    left_behind: int = 0
    enclosure: Enclosure | None = None
    seen_ready_ns: int | None = None
    """When its log first showed the manifest's `ready_pattern`."""

    @property
    def ready_t_ns(self) -> int | None:
        """Its first optimiser step."""
        return self.trainings[0].ready_ns if self.trainings else None

    def holds(self, process: Mapping[str, Any]) -> bool:
        """Whether `process`, a row of the table `processes`, is one of its own: in its enclosure, and while that was
        there, since the kernel gives the number of a namespace that is gone to the next one."""
        if self.enclosure is None or not is_in(process, self.enclosure) or process["last_seen_ns"] < self.t0_ns:
            return False
        return self.t1_ns is None or process["first_seen_ns"] <= self.t1_ns + LAST_LOOK_NS

    @property
    def failed(self) -> bool:
        """It ended by itself and not well."""
        return self.why in ENDED_BY_ITSELF and self.exit_code != 0


@dataclass(frozen=True)
class BackgroundJob:
    """What the background's task needs: the training, its places, its names, and whom to watch. `cpus`: its grant."""

    job: TrainerJob
    files: BackgroundFiles
    run_id: str
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    watch_pids: tuple[int, ...]
    allow_uncontained: bool
    cpus: float = 1.0


def loop_background(background: BackgroundJob, gpu_uuid: str | None) -> None:
    """Train again and again until the lease's write end is closed, or starts fail repeatedly.

    `gpu_uuid` is the device this task really has; it goes into the status file for the attempt to compare.
    Raises OSError when the lease cannot be opened.
    """
    # Without O_NONBLOCK this would wait for ever when the attempt is already gone.
    lease = os.open(background.files.lease, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _write_status(background.files, {"event": "task", "pid": os.getpid(), "gpu_uuid": gpu_uuid})
        number = failures = 0
        while not _lease_ended(lease, 0):
            number += 1
            try:
                report = _train_once(background, number, lease)
            except CopyError as error:
                _write_status(background.files, {"event": "no_copy", "error": str(error)})
                return
            if report.why not in ENDED_BY_ITSELF:
                return
            failures = 0 if report.exit_code == 0 else failures + 1
            if failures == FAILED_STARTS_LIMIT:
                _write_status(background.files, {"event": "given_up", "failures": failures})
                return
    finally:
        os.close(lease)
        with suppress(OSError):  # of an attempt that is gone the folder may be gone too
            _write_status(background.files, {"event": "ended"})


def _train_once(background: BackgroundJob, number: int, lease: int) -> ExitReport:
    files = background.files.trainer(number)
    files.prepare()
    labels = {**background.labels, "role": f"background-{number}"}
    command = trainer_command(
        background.job, files, run_id=background.run_id, labels=labels, environment=background.environment
    )
    with (
        files.output_joined(),
        start(command, watch_pids=background.watch_pids, allow_uncontained=background.allow_uncontained) as process,
    ):
        begin = {"number": number, "t0_ns": time.monotonic_ns(), "enclosure": process.enclosure}
        _write_status(background.files, {"event": "start", **begin})
        process.release()
        report = _until_end(process, lease, _ReadyLine(background, number))
    _write_status(background.files, {"event": "exit", "number": number, **_exit_fields(report)})
    if report.t0_ns is None and files.log.exists() and not files.log.stat().st_size:
        files.log.unlink()  # stopped before it was let go: no start, and no log
    return report


def _until_end(process: ContainedProcess, lease: int, ready: _ReadyLine) -> ExitReport:
    while True:
        report = process.poll()
        ready.look()
        if report is not None:
            return report
        if _lease_ended(lease, POLL_S):
            return process.stop()


class _ReadyLine:
    """Looks for the manifest's `ready_pattern` in what a start has printed since the last look, and tells of it once:
    exact to the interval of looking."""

    def __init__(self, background: BackgroundJob, number: int) -> None:
        pattern = background.job.model.ready_pattern
        self._pattern = None if pattern is None else re.compile(pattern)
        self._files, self._number = background.files, number
        files = background.files.trainer(number)
        self._streams = [_Tail(files.log), _Tail(files.errors)]

    def look(self) -> None:
        if self._pattern is None:
            return
        lines = [line for stream in self._streams for line in stream.new_lines()]
        if any(self._pattern.search(line.decode(errors="replace")) for line in lines):
            self._pattern = None
            _write_status(self._files, {"event": "ready", "number": self._number, "t_ns": time.monotonic_ns()})


class _Tail:
    """What is new in a file that somebody writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes, self._rest = 0, b""

    def new_lines(self) -> list[bytes]:
        """The lines since the last look; the last of them may go on, and then comes whole next time. A file that is
        not there has none."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            new = file.read()
        self._read_bytes += len(new)
        lines = re.split(rb"[\r\n]", self._rest + new)
        self._rest = lines[-1][-LONGEST_LINE_BYTES:]
        return lines


def _lease_ended(lease: int, timeout_s: float) -> bool:
    """Whether nobody holds the write end. `poll` alone would not tell it of one closed before this side was opened."""
    poller = select.poll()
    poller.register(lease, select.POLLIN)
    poller.poll(timeout_s * 1000)
    try:
        return os.read(lease, 1) == b""
    except BlockingIOError:
        return False


def _exit_fields(report: ExitReport) -> dict[str, Any]:
    fields = ("t0_ns", "t1_ns", "exit_code", "signal", "why", "error", "cpu_s", "left_behind")
    return {name: getattr(report, name) for name in fields}


def _write_status(files: BackgroundFiles, event: Mapping[str, Any]) -> None:
    with files.status.open("a") as stream:
        stream.write(json.dumps(event) + "\n")


def read_status(files: BackgroundFiles) -> list[dict[str, Any]]:
    """Everything a background has told so far, oldest first; a line being written is left for later."""
    text = files.status.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class BackgroundWatch:
    """The attempt's side of one background; as a context manager it ends the lease whatever happens."""

    def __init__(self, files: BackgroundFiles, ready_pattern: str | None = None) -> None:
        self.files = files
        self._has_ready_pattern = ready_pattern is not None
        files.folder.mkdir(parents=True)
        files.logs.mkdir(parents=True, exist_ok=True)
        files.status.touch()
        os.mkfifo(files.lease, 0o600)
        # Read and write, so that opening does not wait for the other side; this is the only write end.
        self._lease: int | None = os.open(files.lease, os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self) -> BackgroundWatch:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end_lease()

    def end_lease(self) -> None:
        """Tell the background to stop. Returns at once; the task's end is the proof that it has."""
        if self._lease is not None:
            os.close(self._lease)
            self._lease = None

    def events(self) -> list[dict[str, Any]]:
        return read_status(self.files)

    def gpu_uuid(self) -> str | None:
        return next((e["gpu_uuid"] for e in self.events() if e["event"] == "task"), None)

    def given_up(self) -> bool:
        return any(event["event"] == "given_up" for event in self.events())

    def no_copy(self) -> str | None:
        """Why its clone could not be copied, so that no more of it is started."""
        return next((event["error"] for event in self.events() if event["event"] == "no_copy"), None)

    def starts(self) -> list[BackgroundStart]:
        """Every process of the background so far, with what is known of its end and readiness."""
        found: dict[int, BackgroundStart] = {}
        for event in self.events():
            if "number" not in event:
                continue
            number: int = event["number"]
            if event["event"] == "start":
                found[number] = BackgroundStart(number, event["t0_ns"], enclosure=event["enclosure"])
            elif event["event"] == "ready":
                found[number] = replace(found[number], seen_ready_ns=event["t_ns"])
            elif event["event"] == "exit" and event["t0_ns"] is None:
                del found[number]  # stopped before it was let go: it never ran
            elif event["event"] == "exit":
                fields = {key: value for key, value in event.items() if key not in ("event", "number")}
                found[number] = replace(found[number], **fields)
        return [replace(item, trainings=self._trainings(item)) for item in found.values()]

    def _trainings(self, start: BackgroundStart) -> tuple[Training, ...]:
        told = read_trainings(self.files.trainer(start.number).events)
        if not told and start.seen_ready_ns is not None:
            told = [Training(start.seen_ready_ns, None)]
        if told and told[-1].end_ns is None and start.t1_ns is not None:
            told[-1] = replace(told[-1], end_ns=start.t1_ns)
        return tuple(told)

    def tells_of_itself(self, starts: Iterable[BackgroundStart]) -> bool:
        """Whether its trainer has opened its event file so far, or the manifest has a pattern for its log. One that
        opens it works on the GPU long before its first event: it loads data and makes its network."""
        events = [self.files.trainer(start.number).events for start in starts]
        return self._has_ready_pattern or any(path.exists() for path in events)

    def out_of_memory(self, starts: Iterable[BackgroundStart]) -> dict[int, str]:
        """What those of them that failed for lack of memory said of it, by their number."""
        found = {one.number: self._memory_words(one) for one in starts if one.failed and one.why == "exited"}
        return {number: words for number, words in found.items() if words is not None}

    def data_missing(self, starts: Iterable[BackgroundStart]) -> dict[int, str]:
        """What those of them that failed for want of their data said of it, by their number."""
        said = {one.number: read_events(self.files.trainer(one.number).events) for one in starts if one.failed}
        return {number: events.error_text for number, events in said.items() if events.error_kind == DATA_MISSING}

    def _memory_words(self, failed: BackgroundStart) -> str | None:
        files = self.files.trainer(failed.number)
        events = read_events(files.events)
        return memory_words(events, files.log) if failed.exit_code == EXCEPTION_EXIT_CODE or events.oom else None

    def wait_ready(
        self, timeout_s: float, task_alive: Callable[[], bool], seen_working: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait until a process of the background has done its first optimiser step, by its events or its log.

        A trainer that says nothing is ready when `seen_working` says that it is. False when `timeout_s` passes, the
        background gives up, or its task ends.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            starts = self.starts()
            if any(item.ready_t_ns is not None for item in starts):
                return True
            if not self.tells_of_itself(starts) and seen_working() and not self.tells_of_itself(starts):
                return True
            if self.given_up() or not task_alive():
                return False
            time.sleep(POLL_S)
        return False
