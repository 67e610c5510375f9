"""Runs owners of contained processes as root or as an ordinary user, and looks for survivors afterwards."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[2]
NOBODY = 65534
SOON_S = 2.0
"""By when nothing may be left after a kill. How long it really takes is measured by `make faults` (docs/faults.md)."""
PARTS = ("profiler/__init__.py", "profiler/_version.py", "profiler/errors.py", "profiler/host.py", "profiler/process")


@dataclass(frozen=True)
class Place:
    """A folder with a copy of the code, which `uid` may read and write, and a Python that it may run. `mark`: digits
    that are in the command line or environment of every process started from here."""

    folder: Path
    mark: str
    python: str
    uid: int

    @property
    def trainers(self) -> Path:
        return self.folder / "trainers"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TEST_MARK": self.mark,
            "TMPDIR": str(self.folder / "tmp"),
        }

    def trainer(self, name: str, *arguments: object) -> list[str]:
        return [self.python, "-S", str(self.trainers / f"{name}.py"), *map(str, arguments)]

    def popen(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """A process of the place's user, in the place, with its environment."""
        if self.uid != os.geteuid():
            options |= {"user": self.uid, "group": self.uid, "extra_groups": []}
        return subprocess.Popen([*arguments], cwd=self.folder, env=self.environment, text=True, **options)

    def run(self, program: str) -> str:
        """Output of a Python program text."""
        with self.popen(self.python, "-S", "-c", program, stdout=subprocess.PIPE) as process:
            out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, f"exit {process.returncode}"
        return out

    def shared_memory(self) -> set[Path]:
        """What trainers of this place left in the machine's /dev/shm."""
        return set(Path("/dev/shm").glob(f"*{self.mark}*"))

    def owner(self, argv: Iterable[str], **order: Any) -> Owner:
        return Owner(self, list(argv), order)

    def ended(self, argv: Iterable[str], **order: Any) -> dict[str, Any]:
        """The report of a run that ends by itself."""
        with self.owner(argv, **order) as owner:
            owner.ask("release")
            return owner.ask("wait")

    def survivors(
        self, namespaces: Iterable[int | None] = (), seconds: float = 1.0, but: Iterable[int] = ()
    ) -> set[int]:
        """Every process of this place, or of a namespace, that was seen at any time during `seconds`; `but` some."""
        until, seen = time.monotonic() + seconds, set()
        inodes = {inode for inode in namespaces if inode is not None}
        while True:
            seen |= {pid for pid in living() if self.is_ours(pid, inodes)} - set(but)
            if time.monotonic() >= until:
                return seen
            time.sleep(0.05)

    def is_ours(self, pid: int, namespaces: set[int]) -> bool:
        try:
            if Path(f"/proc/{pid}/ns/pid").stat().st_ino in namespaces:
                return True
            texts = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
        except OSError:  # gone, or not ours to read
            return False
        return any(self.mark.encode() in text for text in texts)


class Owner:
    """One owner.py in a process; `started` is what `start` gave it."""

    def __init__(
        self, place: Place, argv: list[str], order: dict[str, Any], *, await_start: bool = True, quiet: bool = False
    ) -> None:
        self.place = place
        order = {
            "argv": argv,
            "env": {**place.environment, **order.pop("env", {})},
            "cwd": str(place.folder),
            "stdout": str(place.folder / "out"),
            **order,
        }
        script = str(place.folder / "owner.py")
        self.process = place.popen(
            place.python,
            "-S",
            script,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            start_new_session=True,
        )
        self.say(json.dumps(order))
        self.started: dict[str, Any] = self.answer() if await_start else {}
        # held open, the namespace's inode cannot be given to a later one and make a stranger look like ours
        self.held = os.open(f"/proc/{self.started['guard_pid']}/ns/pid", os.O_RDONLY) if self.namespace else -1

    @property
    def namespace(self) -> int | None:
        enclosure = (self.started or {}).get("enclosure")
        return enclosure if isinstance(enclosure, int) else None

    def ask(self, line: str) -> Any:
        self.say(line)
        return self.answer()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """The next answer; None when the owner has ended."""
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else None

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)

    def __enter__(self) -> Owner:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the owner, not the run: that is the keeper's part."""
        self.process.kill()
        self.process.wait()
        if self.held >= 0:
            os.close(self.held)
            self.held = -1
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:  # something was still to be told
                    pass


def living(since_ticks: int = 0) -> list[int]:
    """PIDs of all processes in sight that started at `since_ticks` or later, but zombies and this one."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            state, start_ticks = state_and_start(int(entry.name))
            if state not in "ZX" and start_ticks >= since_ticks:
                found.append(int(entry.name))
    return found


def state_and_start(pid: int) -> tuple[str, int]:
    """State letter and start in clock ticks since the machine's; X and 0 for a process that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[19])


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    """Waits for what another process is about to do; the limit is only there for what never comes."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.005)


def make_place(folder: Path, uid: int) -> Place | str:
    """A place for `uid` in the fresh `folder`, or why there is none."""
    python = python_for(uid)
    if python is None:
        return f"no Python >= 3.11 that uid {uid} may run"
    mark = str(secrets.randbelow(9 * 10**11) + 10**11)
    base = folder / f"place-{mark}"
    for part in PARTS:
        copy = shutil.copytree if (REPO / part).is_dir() else shutil.copyfile
        (base / part).parent.mkdir(parents=True, exist_ok=True)
        copy(REPO / part, base / part)
    shutil.copytree(REPO / "tests/fakes/trainers", base / "trainers")
    shutil.copyfile(REPO / "tests/process/owner.py", base / "owner.py")
    (base / "tmp").mkdir()
    (base / "out").touch()
    for path in [base, *base.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.chown(path, uid, uid if uid != os.geteuid() else os.getegid())
    return Place(base, mark, python, uid)


def python_for(uid: int) -> str | None:
    """This Python, or the system's where that user may not reach this one."""
    if uid == os.geteuid():
        return sys.executable
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            done = subprocess.run([python, "-I", "-S", "-c", check], user=uid, group=uid, extra_groups=[], cwd="/")
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None
