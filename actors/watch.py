"""Ends an embedded Ray at once when the driver that started it dies. Ray by itself takes seconds, its agents a minute.

It does not guard the trainers: their keepers do, without Ray.
"""

from __future__ import annotations

import os
import re
import select
import signal
import threading

import psutil


def end_embedded_ray_with(driver_pid: int) -> None:
    """Start a thread in this process that waits for `driver_pid` and then kills this Ray's processes.

    They are the relatives of this process that the driver started: the driver's children that belong to Ray, and the
    children of the raylet, which is this process's parent.
    """
    driver = os.pidfd_open(driver_pid)
    raylet = psutil.Process(os.getppid())
    services = _ray_services(psutil.Process(driver_pid), raylet)
    threading.Thread(target=_wait_and_kill, args=(driver, raylet, services), daemon=True, name="driver-watch").start()


def _ray_services(driver: psutil.Process, raylet: psutil.Process) -> list[psutil.Process]:
    """The driver's children that name this Ray's session folder; no other child of the driver is touched."""
    session = re.search(r"/session_[0-9_-]+", " ".join(_command(raylet)))
    if session is None:
        return [raylet]
    return [child for child in driver.children() if session.group() in " ".join(_command(child))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _wait_and_kill(driver: int, raylet: psutil.Process, services: list[psutil.Process]) -> None:
    poller = select.poll()
    poller.register(driver, select.POLLIN)
    poller.poll()
    workers = [process for process in _children(raylet) if process.pid != os.getpid()]
    for process in [*services, *workers]:
        _kill(process)
    os.kill(os.getpid(), signal.SIGKILL)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=False)
    except psutil.Error:
        return []


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()  # psutil compares the start time first, so a reused PID is safe
    except psutil.Error:
        pass
