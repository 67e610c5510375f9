"""What becomes of a driver whose Ray is gone, with real processes and real ports: interrupted, or ended if it hangs."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from profiler.errors import CannotRunError

pytestmark = pytest.mark.slow  # four seconds each: the patience with a port that refuses

PROGRAM = """
import ctypes, sys, time
from cluster.health import watched
with watched({"gcs": ("127.0.0.1", int(sys.argv[1]))}) as health:
    try:
        print("watching", flush=True)
        while sys.argv[2] == "python":
            time.sleep(0.1)
        lock, libc = ctypes.create_string_buffer(128), ctypes.CDLL(None)
        libc.pthread_mutex_lock(lock)
        libc.pthread_mutex_lock(lock)  # for ever; a signal does not end it
    except KeyboardInterrupt:
        print("interrupted:", health.lost, flush=True)
"""


def after_the_loss(where: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """A process that waits in `where` while its gcs goes, and the seconds from there to its end."""
    with socket.create_server(("127.0.0.1", 0)) as gcs:
        port = str(gcs.getsockname()[1])
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, port, where], cwd=Path(__file__).parents[2], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "watching\n"
        time.sleep(1.0)
        assert process.poll() is None
    gone_s = time.monotonic()
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err), time.monotonic() - gone_s


def test_a_driver_in_python_is_interrupted() -> None:
    ended, _ = after_the_loss("python")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("interrupted: Ray's gcs at 127.0.0.1:")


def test_a_driver_that_hangs_in_a_call_that_hears_no_signal_is_ended() -> None:
    ended, seconds = after_the_loss("a lock")
    assert ended.returncode == CannotRunError.exit_code
    assert "Ray's gcs at 127.0.0.1:" in ended.stderr and "cannot be interrupted: ended" in ended.stderr
    assert seconds < 30


def test_it_ends_also_where_nobody_can_be_told() -> None:
    program = "from cluster.health import Health; Health({})._end_the_process()"
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], stderr=full, timeout=60)
    assert ended.returncode == CannotRunError.exit_code
