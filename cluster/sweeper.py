"""Ends what an embedded Ray leaves behind when its driver is gone: a small process of its own, beside the driver.

The kernel ends the children of a dead driver (gcs, raylet), but nobody ends the raylet's: workers notice after
seconds, agents after a minute. This program (`python -I -S sweeper.py RAY_FOLDER SESSION_PID STARTED`, standard
library only) waits for the driver's end, on descriptor 0 and a pidfd, then kills them all. It does not guard trainers:
their keepers do, without Ray.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

END_TIMEOUT_S = 10.0
CLEAN_SCANS = 3
SCAN_INTERVAL_S = 0.05


@contextmanager
def swept(ray_folder: str) -> Iterator[Callable[[], None]]:
    """No process of a Ray that this process starts inside the block outlives the block, or this process.

    `ray_folder`: where the ray package is installed. Yields a function that ends them all at once.
    """
    driver = os.pidfd_open(os.getpid())
    try:
        sweeper = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, ray_folder, str(os.getpid()), str(_started("self")), str(driver)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(driver,),
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(driver)

    def sweep() -> None:
        if sweeper.poll() is None:
            sweeper.communicate(b"\n")  # a word, not only the pipe's end: a fork of this process may hold it open

    try:
        yield sweep
    finally:
        sweep()


class Ray:
    """The processes of the Ray sessions that one driver started. Ray names a session after its driver's PID."""

    def __init__(self, folder: str, driver_pid: int, driver_started: int) -> None:
        self._program = f"{folder}/"
        self._session = re.compile(rf"/session_[0-9]{{4}}-[0-9_-]+_{driver_pid}(?![0-9])".encode())
        self._driver_started = driver_started
        self._namespace = Path("/proc/self/ns/pid").stat().st_ino

    def processes(self) -> list[int]:
        """Raylet first, so that it starts no others."""
        numbers = [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]
        found = [pid for pid in numbers if self.owns(pid)]
        return sorted(found, key=lambda pid: b"/raylet" not in _command(pid)[0])

    def owns(self, pid: int) -> bool:
        """Whether `pid` is a process of these sessions. Naming one, as `tail -f` of a log does, is not enough."""
        try:
            if pid == os.getpid() or Path(f"/proc/{pid}").stat().st_uid != os.geteuid():
                return False
            if Path(f"/proc/{pid}/ns/pid").stat().st_ino != self._namespace or _started(pid) < self._driver_started:
                return False
            command = _command(pid)
            if command[0].startswith(b"ray::"):  # a worker or an agent that has replaced its command line
                return any(self._session.search(link) for link in _open_files(pid))
        except OSError:  # it has ended
            return False
        runs_ray = any(part.startswith(self._program.encode()) for part in command[:4])
        return runs_ray and any(self._session.search(part) for part in command)

    def end(self) -> None:
        """Kill them until several scans in a row find none."""
        clean, until = 0, time.monotonic() + END_TIMEOUT_S
        while clean < CLEAN_SCANS and time.monotonic() < until:
            found = self.processes()
            for pid in found:
                self._kill(pid)
            clean = 0 if found else clean + 1
            time.sleep(SCAN_INTERVAL_S)

    def _kill(self, pid: int) -> None:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if self.owns(pid):  # again, now that the number cannot pass to another process unseen
                signal.pidfd_send_signal(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(process)


def _command(pid: int) -> list[bytes]:
    """Command line of a process; of a zombie, or one that has just ended, a single empty part."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return [b""]


def _open_files(pid: int) -> Iterator[bytes]:
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            yield bytes(Path(entry.path).readlink())
        except FileNotFoundError:
            continue  # closed meanwhile


def _started(pid: int | str) -> int:
    """Start time in clock ticks since boot."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


def main() -> None:
    folder, driver_pid, driver_started, driver = sys.argv[1:]
    waiter = select.poll()
    waiter.register(0, select.POLLIN)
    waiter.register(int(driver), select.POLLIN)
    waiter.poll()
    Ray(folder, int(driver_pid), int(driver_started)).end()


if __name__ == "__main__":
    main()
