"""Turns a model with its values into the command that trains it. It does not start anything."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from profiler.checkouts import python_program, working_copy
from profiler.config.paths import absolute_path
from profiler.mutation import Scalar
from profiler.process.command import Command
from profiler.workloads import ModelSpec

ERRORS_TITLE = b"--- error output ---\n"


@dataclass(frozen=True)
class TrainerJob:
    """One training to start.

    Args:
        model: the manifest's entry.
        hyperparameters: complete vector of requested values.
        threads: CPU threads it may use (its CPU grant).
        timeout_s: seconds after which the whole tree is ended; None = never.
        data_root: folder of data sets, or None for the data that packages ship.
        gpu_uuid: the GPU it may see, or None.
        more_gpus: further GPUs that it may see; then it is started as one process a GPU.
        repeat: train again and again in one process, until stopped (a background in mode reuse).
    """

    model: ModelSpec
    hyperparameters: Mapping[str, Scalar | None]
    threads: int
    timeout_s: float | None
    data_root: str | None
    gpu_uuid: str | None
    repeat: bool = False
    more_gpus: tuple[str, ...] = ()

    @property
    def processes(self) -> int:
        return 1 + len(self.more_gpus)


@dataclass(frozen=True)
class TrainerFiles:
    """Where one training works: `work` is its empty working directory, `events` and `log` are files outside it."""

    work: Path
    events: Path
    log: Path

    @property
    def errors(self) -> Path:
        """Its error output while it runs: in one file, what two streams write gets into one another's lines."""
        return self.log.with_suffix(".errors")

    def prepare(self) -> None:
        """Make the folders; the work directory must not exist yet, so nothing of an earlier run can be read."""
        self.work.mkdir(parents=True)
        (self.work / "tmp").mkdir()
        for path in (self.events, self.log):
            path.parent.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def output_joined(self) -> Iterator[None]:
        """At the end of the block, when nobody writes any more, the error output follows the rest in the log. Where
        the disk is full it stays in its own file."""
        try:
            yield
        finally:
            with suppress(OSError):
                _append(self.errors, self.log)
                self.errors.unlink()


def _append(errors: Path, log: Path) -> None:
    with errors.open("rb") as source, log.open("a+b") as target:
        if not errors.stat().st_size:
            return
        if log.stat().st_size:
            target.seek(-1, os.SEEK_END)
            target.write(b"" if target.read(1) == b"\n" else b"\n")
            target.write(ERRORS_TITLE)
        shutil.copyfileobj(source, target)


def driver_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The driver's environment without Ray's own variables (its hook for ``breakpoint()`` among them), and without
    those that would make trainers clients of the user's own MPS daemon, or limit them there. A relative PROFILER_DATA
    is made absolute: trainers work in folders of their own."""
    kept = {key: value for key, value in environment.items() if not key.startswith(("RAY_", "CUDA_MPS_"))}
    if kept.get("PYTHONBREAKPOINT", "").startswith("ray."):
        del kept["PYTHONBREAKPOINT"]
    if kept.get("PROFILER_DATA"):
        kept["PROFILER_DATA"] = absolute_path(kept["PROFILER_DATA"])
    return kept


def trainer_environment(
    job: TrainerJob, files: TrainerFiles, run_id: str, environment: Mapping[str, str]
) -> dict[str, str]:
    """Environment of the trainer; the additions are the contract of docs/add-a-repository and README."""
    added = {
        "PROFILER_EVENTS": str(files.events),
        "PROFILER_RUN_ID": run_id,
        "CUDA_VISIBLE_DEVICES": ",".join([job.gpu_uuid or "", *job.more_gpus]),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "OMP_NUM_THREADS": str(max(1, job.threads // job.processes)),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(files.work / "tmp"),
    }
    if job.more_gpus:
        # The processes of one training talk to each other on this machine alone.
        added |= {"NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"}
    if job.repeat:
        added["PROFILER_BACKGROUND_REPEAT"] = "1"
    if job.data_root:
        added["PROFILER_DATA"] = job.data_root
    return {**environment, **added}


def trainer_command(
    job: TrainerJob,
    files: TrainerFiles,
    *,
    run_id: str,
    labels: Mapping[str, str],
    environment: Mapping[str, str],
) -> Command:
    """The contained command of `job`, to be run within ``files.output_joined()``. Copies the user's own checkout
    first."""
    own = job.model.own_checkout
    cwd = files.work if own is None else working_copy(own, files.work)
    python = sys.executable if own is None or own.python is None else python_program(own.python, files.work)
    return Command(
        argv=_argv(job, files, python),
        env=trainer_environment(job, files, run_id, environment),
        cwd=cwd,
        stdout=files.log,
        stderr=files.errors,
        timeout_s=job.timeout_s,
        labels=dict(labels),
    )


def _argv(job: TrainerJob, files: TrainerFiles, python: str) -> tuple[str, ...]:
    """The trainer's command line; on several GPUs torchrun's, which starts it once for each.

    They meet by a file in the work directory, so that nothing listens for them."""
    argv = job.model.argv(job.hyperparameters, python=python)
    if not job.more_gpus:
        return argv
    torchrun = ("-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={job.processes}")
    meeting = ("--rdzv-backend=c10d", "--rdzv-conf=store_type=file", f"--rdzv-endpoint={files.work / 'rendezvous'}")
    return (argv[0], *torchrun, *meeting, *argv[1:])
