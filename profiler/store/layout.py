"""Knows where everything of a session lies. It makes the session folder, and reads and writes no file in it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from profiler.errors import CannotRunError

DATASETS = ("plan", "runs", "samples", "processes", "nodes")


def utc_now() -> datetime:
    return datetime.now(UTC)


_SAMPLE_NAME = re.compile(r"([^-]{1,8})-(\d+)-(\d+)-\d+\.parquet")


@dataclass(frozen=True)
class SampleSpan:
    """A stretch of one boot's CLOCK_MONOTONIC, both ends included. Trace files are named after theirs, so that a reader
    opens only those that can hold what it looks for."""

    boot_id: str
    start_ns: int
    end_ns: int

    def file_name(self, rows: int) -> str:
        return f"{self._boot}-{self.start_ns:018d}-{self.end_ns:018d}-{rows}.parquet"

    def may_be_in(self, name: str) -> bool:
        """False only if the file of that name has no row of this span; other names promise nothing."""
        match = _SAMPLE_NAME.fullmatch(name)
        if match is None:
            return True
        boot, start, end = match.groups()
        return boot == self._boot and int(start) <= self.end_ns and int(end) >= self.start_ns

    @property
    def _boot(self) -> str:
        return self.boot_id.replace("-", "")[:8]


@dataclass(frozen=True)
class SessionFolder:
    """All paths of one session, relative to its folder `root`. Nothing here need exist."""

    root: Path

    @property
    def session_id(self) -> str:
        return self.root.name

    @property
    def key(self) -> str:
        """12 hex digits of where the folder is: sessions of the same second in two places have the same id."""
        return hashlib.sha256(os.fsencode(os.path.realpath(self.root))).hexdigest()[:12]

    @property
    def campaign_yaml(self) -> Path:
        return self.root / "campaign.yaml"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    @property
    def summary_csv(self) -> Path:
        return self.root / "summary.csv"

    @property
    def summary_safe_csv(self) -> Path:
        return self.root / "summary_safe.csv"

    def dataset(self, name: str) -> Path:
        """Folder of the dataset plan, runs, samples, processes or nodes; ValueError for another name."""
        if name not in DATASETS:
            raise ValueError(f"no dataset {name!r}; there are {', '.join(DATASETS)}")
        return self.root / "dataset" / name

    def samples_of(self, node_id: str) -> Path:
        """Folder of one node's samples: a hive partition `node=<id>`, the id percent-encoded where needed."""
        return self.dataset("samples") / f"node={quote(node_id, safe='')}"

    def run_id(self, index: int) -> str:
        """`<session_id>-<NNN>` for the run's 1-based place in the plan."""
        return f"{self.session_id}-{index:03d}"

    def run_file(self, run_id: str, attempt: int) -> Path:
        return self.dataset("runs") / f"{run_id}-{attempt}.parquet"

    def run_folder(self, experiment_id: str) -> Path:
        return self.root / experiment_id

    def training_log(self, experiment_id: str) -> Path:
        return self.run_folder(experiment_id) / "training.log"

    def events(self, experiment_id: str) -> Path:
        """Where a copy of the trainer's event file is kept, so that metrics and verdict can be made again."""
        return self.run_folder(experiment_id) / "events.jsonl"

    def experiment_json(self, experiment_id: str) -> Path:
        return self.run_folder(experiment_id) / "experiment.json"

    def energy_folder(self, experiment_id: str) -> Path:
        return self.run_folder(experiment_id) / "energy"

    def background_logs(self, experiment_id: str) -> Path:
        return self.run_folder(experiment_id) / "background_logs"

    def background_log(self, experiment_id: str, start: int) -> Path:
        """Log of the `start`-th (from 1) start of the background's trainer."""
        return self.background_logs(experiment_id) / f"training_{start}.log"

    def attempt_folder(self, experiment_id: str, attempt: int) -> Path:
        """Where logs and record of an attempt go when a later attempt of the same run begins."""
        return self.run_folder(experiment_id) / "attempts" / str(attempt)

    def work_dir(self, run_id: str, attempt: int) -> Path:
        """The trainer's own work directory: `.work/<run_id>-<attempt>` beside the sessions."""
        return self.root.parent / ".work" / f"{run_id}-{attempt}"

    def control_dir(self, run_id: str, attempt: int) -> Path:
        """Files of ours about that attempt: beside the trainer's work directory, never inside it."""
        return self.root.parent / ".work" / f"{run_id}-{attempt}.control"

    def released(self, run_id: str, attempt: int) -> Path:
        """Exists from the moment the attempt's trainer may have run until the attempt has its record."""
        return self.root.parent / ".work" / f"{run_id}-{attempt}.released"

    def result(self, run_id: str, attempt: int) -> Path:
        """What a finished attempt came to, from its end until the driver has written its row."""
        return self.root.parent / ".work" / f"{run_id}-{attempt}.result"


def create_session(results: Path, clock: Callable[[], datetime] = utc_now) -> SessionFolder:
    """Make a new session folder under `results`, named after the UTC second of `clock`; a second that is taken gives
    way to the next one. CannotRunError when `results` cannot be written."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        root = _exclusive(results.resolve(), clock().astimezone(UTC).replace(microsecond=0))
        for name in DATASETS:
            (root / "dataset" / name).mkdir(parents=True)
    except OSError as error:
        raise CannotRunError(
            f"cannot make a session folder in {results}: {error.strerror or error}; "
            "give a folder that you may write with --results DIR"
        ) from error
    return SessionFolder(root)


def _exclusive(results: Path, moment: datetime) -> Path:
    while True:
        root = results / moment.strftime("run_%Y%m%d_%H%M%S")
        try:
            root.mkdir()
        except FileExistsError:
            moment += timedelta(seconds=1)
        else:
            return root
