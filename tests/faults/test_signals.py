"""The ways in which people end a campaign: each leaves nothing running, says how to go on, and can be resumed."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.campaigns import config, quick
from tests.faults.records import check_every_file_opens
from tests.faults.scene import Drive, Scene
from tests.process.harness import SOON_S, wait_until

pytestmark = [pytest.mark.fault, pytest.mark.ray]

END_S = 120.0  # a driver that has lost its gcs gives it a minute: docs/faults.md, "all gone"


class Terminal:
    """A terminal that a campaign is started in; what it shows is kept."""

    def __init__(self, scene: Scene, *words: object) -> None:
        self.keyboard, screen = pty.openpty()
        process = scene.popen(
            scene.python, "-m", "profiler", *words, start_new_session=False, preexec_fn=lambda: os.login_tty(screen)
        )
        os.close(screen)
        said = scene.folder / "screen"
        said.touch()
        self.drive = Drive(scene, process, said)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self.drive.said.open("ab", buffering=0) as file:
            while True:
                try:
                    file.write(os.read(self.keyboard, 65536))
                except OSError:  # nobody has it open any more
                    return

    def press(self, key: bytes) -> None:
        os.write(self.keyboard, key)


def endless(scene: Scene) -> Path:
    values = {"epochs": 600, "epoch_seconds": 0.5, "behaviour": "daemon", "marker": scene.mark}
    return config(scene.folder, [quick(**values), quick(seed=2)])


@contextmanager
def training(scene: Scene) -> Iterator[Drive]:
    """A campaign in the middle of a training."""
    drive = scene.drive("run", endless(scene), "--results", scene.folder / "results")
    try:
        drive.await_text("001 attempt 1: training")
        wait_until(lambda: len(drive.processes()) > 3 and drive.namespaces)
        yield drive
    finally:
        drive.close()


def check_ended(drive: Drive, exit_code: int | None = 130) -> None:
    """The driver has ended so, soon nothing is left, and the session is whole."""
    code = drive.process.wait(END_S)
    ended = time.monotonic()
    if exit_code is not None:
        assert code == exit_code, drive.text()
        session = drive.scene.session()
        assert f"go on with: profiler resume {session}" in drive.text().replace("\r\n", "").replace("\n", "")
    drive.time_to_clean(ended, SOON_S)
    assert not drive.survivors()
    check_every_file_opens(drive.scene.session())


def check_resumable(scene: Scene, attempts: int = 1) -> None:
    """`resume` takes the session and counts the interrupted attempts, shown without executing anything again."""
    from profiler.config import load
    from profiler.driver_lock import driver_lock
    from profiler.journal import Journal
    from profiler.store.layout import SessionFolder
    from profiler.workloads import load_catalog
    from tests.campaigns import REPOS

    folder = SessionFolder(scene.session())
    catalog = load_catalog([REPOS])
    load(folder.campaign_yaml, catalog=catalog)
    with driver_lock(folder):
        journal, plan = Journal.reopen(folder, catalog, retry_failed=False, allow_changed=False)
    first, second = journal.pending()
    assert (first.run.index, second.run.index, second.attempt) == (1, 2, 1)
    assert 2 <= first.attempt <= 1 + attempts
    assert len(plan) == 2


def test_ctrl_c_in_a_terminal(scene: Scene) -> None:
    terminal = Terminal(scene, "run", endless(scene), "--results", scene.folder / "results")
    drive = terminal.drive
    try:
        wait_until(lambda: drive.processes() and drive.namespaces, 120)
        terminal.press(b"\x03")
        check_ended(drive)
        check_resumable(scene)
    finally:
        drive.close()


@pytest.mark.cluster
def test_ctrl_c_twice(scene: Scene) -> None:
    with training(scene) as drive:
        os.killpg(drive.pid, signal.SIGINT)
        time.sleep(0.3)
        os.killpg(drive.pid, signal.SIGINT)
        check_ended(drive)
        check_resumable(scene)


@pytest.mark.cluster
def test_closing_the_terminal(scene: Scene) -> None:
    terminal = Terminal(scene, "run", endless(scene), "--results", scene.folder / "results")
    drive = terminal.drive
    try:
        wait_until(lambda: drive.processes() and drive.namespaces, 120)
        os.close(terminal.keyboard)
        check_ended(drive, exit_code=None)  # there is nobody to tell
        check_resumable(scene)
    finally:
        drive.close()


@pytest.mark.cluster
def test_ctrl_z_then_kill(scene: Scene) -> None:
    with training(scene) as drive:
        os.killpg(drive.pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(drive.pid, signal.SIGKILL)
        check_ended(drive, exit_code=None)
        check_resumable(scene)


def test_term_and_what_else_is_told_meanwhile(scene: Scene) -> None:
    with training(scene) as drive:
        session = scene.session()
        second = profiler(scene, "resume", session)
        assert second.returncode == 2
        assert f"process {drive.pid} on {socket.gethostname()}" in second.stderr
        shown = [p for p in status(scene) if p["session"] == session.name and set(p["pids"]) & set(drive.processes())]
        assert [(p["role"], p["leftover"]) for p in shown] == [("foreground", False)]
        drive.process.terminate()
        check_ended(drive)
        check_resumable(scene)


def test_ray_stop_force(scene: Scene) -> None:
    """It ends every Ray of its user, so it is done in a PID namespace, where it sees only ours."""
    inside = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("no PID namespace can be made here")
    said = scene.folder / "said"
    words = [scene.python, "-m", "profiler", "run", endless(scene), "--results", scene.folder / "results"]
    with said.open("wb") as file:
        script = '"$@"; echo "ended with $?"'
        process = scene.popen(*inside, "bash", "-c", script, "bash", *words, stdout=file, stderr=file)
    drive = Drive(scene, process, said)
    try:
        drive.await_text("001 attempt 1: training")
        shell = next(pid for pid, line in drive.processes().items() if line.startswith("bash"))
        ray_stop = [scene.python, "-c", "from ray.scripts.scripts import main; main()", "stop", "--force"]
        enter = ["nsenter", "--target", shell, "--pid", "--mount"]
        scene.popen(*enter, *ray_stop, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait(60)
        check_ended(drive, exit_code=None)
        assert "ended with 3" in drive.text()
        assert "is gone, so the campaign was ended" in drive.text()
        assert "go on with: profiler resume" in drive.text()
        check_resumable(scene, attempts=2)  # the lost one was tried again before Ray was known to be gone
    finally:
        drive.close()


def profiler(scene: Scene, *words: object) -> subprocess.CompletedProcess[str]:
    with scene.popen(
        scene.python, "-m", "profiler", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def status(scene: Scene) -> list[dict]:
    document = json.loads(profiler(scene, "status", "--json").stdout)
    return list(document["processes"])
