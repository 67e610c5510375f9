"""NVIDIA's MPS for one pair: its control daemon started, found healthy, and ended with everything it started.

The daemon gets a pipe directory of its own, so that nobody else's clients come to it, and runs in a keeper. The keeper
must not put it into a PID namespace of its own: its server knows its clients by their PIDs, and those of a sibling
namespace are nobody to it. So the tier is cgroup, or subreaper where there is none; the keeper still ends it with this
process, however this process ends.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from profiler.errors import CannotRunError
from profiler.process.command import Command, TierUnavailableError
from profiler.process.contained import ContainedProcess
from profiler.process.launch import start

CONTROL: Final = "nvidia-cuda-mps-control"
TIERS: Final = ("cgroup", "subreaper")
START_TIMEOUT_S: Final = 20.0
ASK_TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.1
LOG_END_BYTES: Final = 2000


@dataclass(frozen=True)
class MpsServer:
    """A running control daemon of one GPU. `folder` holds its pipes and logs."""

    folder: Path
    environment: Mapping[str, str]

    def client_environment(self, sm_percent: float) -> dict[str, str]:
        """What a trainer needs to be its client; below 100 it may use that percent of the SMs only."""
        pipes = {"CUDA_MPS_PIPE_DIRECTORY": str(self.folder)}
        if sm_percent == 100:
            return pipes
        return {**pipes, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": f"{sm_percent:g}"}

    def server_pids(self) -> list[int]:
        """PIDs of its servers, which NVML shows on the GPU in place of the clients; empty when it does not answer."""
        answer = self.ask("get_server_list")
        return [int(word) for word in (answer or "").split() if word.isdigit()]

    def ask(self, command: str) -> str | None:
        """The daemon's answer to a command of its own, or None when it does not give one."""
        try:
            done = subprocess.run(
                [CONTROL],
                input=f"{command}\n",
                env={**self.environment},
                capture_output=True,
                text=True,
                timeout=ASK_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None


def check_mps() -> None:
    """Raise CannotRunError where MPS cannot be had."""
    if shutil.which(CONTROL) is None:
        raise CannotRunError(
            f"sharing: mps needs {CONTROL}, which is not found on this machine: install the driver's compute "
            "utilities there, or say sharing: time_slice"
        )


@contextmanager
def mps_server(
    gpu_uuid: str,
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    watch_pids: Sequence[int],
    log_folder: Path,
) -> Iterator[MpsServer]:
    """A control daemon for `gpu_uuid`; on leaving, nothing of it is left. `environment`: that of the trainers.

    Raises CannotRunError where there is none, or when it does not answer; its log stays in `log_folder`.
    """
    check_mps()
    log_folder.mkdir(parents=True, exist_ok=True)
    # A socket's path has 107 bytes at most: a session's folder may be too deep.
    with tempfile.TemporaryDirectory(prefix="mps-", ignore_cleanup_errors=True) as folder:
        own = {
            **environment,
            "CUDA_VISIBLE_DEVICES": gpu_uuid,
            "CUDA_MPS_PIPE_DIRECTORY": folder,
            "CUDA_MPS_LOG_DIRECTORY": str(log_folder),
        }
        command = Command(
            (CONTROL, "-f"), own, Path("/"), log_folder / "control.out", grace_s=2.0, labels={**labels, "role": "mps"}
        )
        server = MpsServer(Path(folder), own)
        with _started(command, watch_pids) as process:
            process.release()
            _await_answer(server, process, log_folder)
            try:
                yield server
            finally:
                server.ask("quit")
                process.wait(ASK_TIMEOUT_S)


def _started(command: Command, watch_pids: Sequence[int]) -> ContainedProcess:
    reasons = []
    for tier in TIERS:
        try:
            return start(command, watch_pids=watch_pids, tier=tier)
        except TierUnavailableError as error:
            reasons.append(f"{tier}: {error.reason}")
    raise CannotRunError("the MPS daemon cannot be contained here: " + "; ".join(reasons))


def _await_answer(server: MpsServer, process: ContainedProcess, log_folder: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while server.ask("get_server_list") is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise CannotRunError(f"{CONTROL} does not answer: {_log_end(log_folder)}")
        time.sleep(POLL_S)


def _log_end(log_folder: Path) -> str:
    texts = [path.read_text(errors="replace") for path in sorted(log_folder.iterdir()) if path.is_file()]
    return "\n".join(texts)[-LOG_END_BYTES:].strip() or f"it wrote nothing to {log_folder}"
