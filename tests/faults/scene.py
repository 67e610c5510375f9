"""A place where whole campaigns run as root or as an ordinary user, and the view of every process that belongs to one.

A process belongs to a scene if it carries the scene's mark (digits in command line or environment), is in a PID
namespace that one of those was in, is a keeper of the campaign's session, or is of the Ray that its driver started.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from profiler.process.find import KeeperInfo, find_keepers
from profiler.store.layout import SessionFolder
from tests.process.harness import NOBODY, REPO, living, python_for, state_and_start, wait_until

TASKS = (b"ray::attempt_task", b"ray::background_task", b"ray::EnergyActor")
QUICK = "tests/fakes/repos"
RAY_WITHOUT_CLEAN_UP = {
    "RAY_kill_child_processes_on_worker_exit": "0",
    "RAY_kill_child_processes_on_worker_exit_with_raylet_subreaper": "0",
    "RAY_process_group_cleanup_enabled": "0",
}
OWN_NAMESPACE = Path("/proc/self/ns/pid").stat().st_ino
AS_USER = (  # the code and its packages may lie where the user may not look: he gets them at places of his own
    'mount --bind "$SITE" "$PLACE/site" && mount --bind "$REPO" "$PLACE/code" && cd "$PLACE" && '
    'exec setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups "$@"'
)


@dataclass(frozen=True)
class Scene:
    """Where campaigns of `uid` run. Everything that is started from here has `mark` in its environment."""

    folder: Path
    uid: int
    mark: str
    python: str
    more: Mapping[str, str] = field(default_factory=dict)  # for the environment

    @property
    def code(self) -> Path:
        return REPO if self.uid == os.geteuid() else self.folder / "code"

    @property
    def environment(self) -> dict[str, str]:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "TEST_MARK": self.mark,
            "PROFILER_REPOS": str(self.code / QUICK),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(self.code),
            "COLUMNS": "200",
            "RAY_AUTH_MODE": "disabled",  # clusters here are on loopback, and a user's token is none of their business
            **self.more,
        }
        if self.uid != os.geteuid():
            environment["PYTHONPATH"] += f":{self.folder / 'site'}"
        return environment

    def popen(self, *words: object, **options: object) -> subprocess.Popen[bytes]:
        """A process of the scene's user, in its folder; its PID is that of the program itself."""
        words = tuple(map(str, words))
        environment = {**self.environment, **options.pop("env", {})}  # type: ignore[dict-item]
        options = {"cwd": self.folder, "start_new_session": True, **options}
        if self.uid == os.geteuid():
            return subprocess.Popen(words, env=environment, **options)  # type: ignore[call-overload,no-any-return]
        places = {"SITE": sysconfig.get_path("purelib"), "REPO": str(REPO), "PLACE": str(self.folder)}
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            ["unshare", "--mount", "--propagation", "private", "bash", "-c", AS_USER, "bash", *words],
            env={**environment, **places, "USER_ID": str(self.uid)},
            **options,
        )

    def drive(self, *words: object, cluster: Cluster | None = None, **options: object) -> Drive:
        """`profiler WORDS` as a process of its own, in its own session, on `cluster` or with an embedded Ray; what it
        says goes to a file."""
        words = (*words, "--address", cluster.address) if cluster else words
        said = self.folder / f"said-{secrets.token_hex(4)}"
        with said.open("wb") as file:
            options = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT, **options}
            process = self.popen(self.python, "-m", "profiler", *words, **options)
        return Drive(self, process, said, cluster)

    def session(self) -> Path:
        """The newest session."""
        return self.sessions()[-1]

    def sessions(self) -> list[Path]:
        """All of them, the newest last."""
        return sorted((self.folder / "results").glob("run_*"))


@dataclass
class Drive:
    """A driver's process and what is known of it. `namespaces`: inode -> descriptor of those in which its trainers were
    seen. Held open, because the kernel gives the number of a namespace that is gone to somebody else's."""

    scene: Scene
    process: subprocess.Popen[bytes]
    said: Path
    cluster: Cluster | None = None
    namespaces: dict[int, int] = field(default_factory=dict)
    since_ticks: int = field(init=False)

    def __post_init__(self) -> None:
        """What started before cannot be of this campaign; that makes the scans fast."""
        self.since_ticks = self.cluster.since_ticks if self.cluster else state_and_start(self.process.pid)[1]

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        return self.said.read_text(errors="replace")

    def await_text(self, word: str, seconds: float = 120) -> None:
        """Until the driver has said `word`."""

        def there() -> bool:
            assert self.process.poll() is None or word in self.text(), f"ended before {word!r}:\n{self.text()}"
            return word in self.text()

        wait_until(there, seconds)

    def session_id(self) -> str | None:
        found = re.search(r"run_\d{8}_\d{6}", self.text())
        return found.group() if found else None

    def keepers(self) -> list[KeeperInfo]:
        """Keepers of this driver's session."""
        return [keeper for keeper in find_keepers() if keeper.labels.get("key") == self.session_key()]

    def session_key(self) -> str:
        """That of its folder; "" before it has told of one."""
        session_id = self.session_id()
        return SessionFolder(self.scene.folder / "results" / session_id).key if session_id else ""

    def processes(self) -> dict[int, str]:
        """PID and command line of everything of this campaign that exists now."""
        ray = re.compile(rf"/session_[0-9_-]+_{self.pid}(?![0-9])".encode())
        label = f"key={self.session_key()}".encode()
        found = {}
        raylet = self.cluster.raylet if self.cluster else None
        for pid in living(self.since_ticks):
            command = _read(pid, "cmdline")
            carries = self.scene.mark.encode() in command + _read(pid, "environ")
            if carries:
                self._hold_namespace(pid)
            of_ray = bool(ray.search(command)) or (command.startswith(b"ray::") and _has_open(pid, ray))
            keeper = label in command.split(b"\0")
            if raylet is not None and not of_ray:
                of_ray = command.startswith(TASKS) and _parent(pid) == raylet
            if carries or of_ray or keeper or _namespaces(pid) & self.namespaces.keys():
                found[pid] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def _hold_namespace(self, pid: int) -> None:
        try:
            held = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        inode = os.fstat(held).st_ino
        if inode == OWN_NAMESPACE or self.namespaces.setdefault(inode, held) != held:
            os.close(held)

    def ray_process(self, name: str) -> int | None:
        """The one process of this Ray whose command line has `name` in its first word."""
        processes = self.processes() | (self.cluster.processes() if self.cluster else {})
        return next((pid for pid, line in processes.items() if name in line.split(" ")[0]), None)

    def survivors(self, seconds: float = 1.0) -> dict[int, str]:
        """Everything seen at any time during `seconds`."""
        until, seen = time.monotonic() + seconds, {}
        while True:
            seen |= self.processes()
            if time.monotonic() >= until:
                return seen
            time.sleep(0.05)

    def time_to_clean(self, since: float, limit_s: float, but: Iterable[int] = ()) -> float:
        """Seconds from `since` (CLOCK_MONOTONIC) to the first of three scans in a row without a process."""
        clean, first, skip = 0, since, set(but)
        while clean < 3:
            now = time.monotonic()
            if now - since > limit_s:
                return limit_s
            if self.processes().keys() - skip:
                clean = 0
            else:
                first = now if clean == 0 else first
                clean += 1
        return first - since

    def close(self) -> None:
        """End whatever is left, so that the next campaign starts clean. All of it carries the scene's marks."""
        self.process.kill()
        self.process.wait()
        until = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < until:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        while self.namespaces:
            os.close(self.namespaces.popitem()[1])


class Cluster:
    """A Ray of `ray start` on this machine, in the scene's folder and as its user. Its files name nobody else's."""

    def __init__(self, scene: Scene) -> None:
        self._folder = scene.folder / f"ray-{secrets.token_hex(2)}"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        command = "from ray.scripts.scripts import main; main()"
        options = ["--head", "--include-dashboard=false", "--disable-usage-stats", "--num-cpus=2"]
        places = ["--node-ip-address=127.0.0.1", f"--port={self.address.rpartition(':')[2]}"]
        with (scene.folder / "cluster").open("wb") as said:
            self._process = scene.popen(
                scene.python, "-c", command, "start", *options, *places, f"--temp-dir={self._folder}",
                '--resources={"energy_slot": 1}', env={"TEST_MARK": "0"}, stdout=said, stderr=said,
            )  # fmt: skip
        self.since_ticks = state_and_start(self._process.pid)[1]
        try:
            assert self._process.wait(120) == 0, (scene.folder / "cluster").read_text()
            wait_until(self.whole, 60)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            self.close()
            raise AssertionError(str(error)) from None

    @property
    def raylet(self) -> int | None:
        return next((pid for pid, line in self.processes().items() if "raylet/raylet" in line.split(" ")[0]), None)

    def processes(self) -> dict[int, str]:
        """The cluster's own: whatever names its folder, or writes into it as its agents do."""
        pattern = re.compile(re.escape(bytes(self._folder)))
        found = {}
        for pid in living(self.since_ticks):
            command = _read(pid, "cmdline")
            if pattern.search(command) or (command.startswith(b"ray::") and _has_open(pid, pattern)):
                found[pid] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def whole(self) -> bool:
        """Whether a campaign can be run on it."""
        lines = [line.split(" ")[0] for line in self.processes().values()]
        return all(any(name in line for line in lines) for name in ("gcs_server", "raylet/raylet", "ray::Runtime"))

    def close(self) -> None:
        until = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < until:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)


def _parent(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _namespaces(pid: int) -> set[int]:
    found = set()
    for kind in ("pid", "pid_for_children"):
        try:
            found.add(Path(f"/proc/{pid}/ns/{kind}").stat().st_ino)
        except OSError:
            continue
    return found


def _has_open(pid: int, pattern: re.Pattern[bytes]) -> bool:
    try:
        links = [bytes(Path(entry.path).readlink()) for entry in os.scandir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    return any(pattern.search(link) for link in links)


@contextmanager
def made_scene(folder: Path, uid: int, more: Mapping[str, str] = MappingProxyType({})) -> Iterator[Scene | str]:
    """A scene for `uid` in the fresh `folder`, or why there is none."""
    folder.chmod(0o755)
    python = python_for(uid)
    if python is None:
        yield f"no Python >= 3.11 that uid {uid} may run"
        return
    for name in ("site", "code"):
        (folder / name).mkdir()
    os.chown(folder, uid, -1)
    scene = Scene(folder, uid, str(secrets.randbelow(9 * 10**11) + 10**11), python, more)
    check = scene.popen(python, "-c", "import ray, profiler", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"uid {uid} cannot be given the code here" if check.wait() else scene


def uids() -> list[int]:
    """Whom to run as: root and an ordinary user, or only oneself."""
    return [0, NOBODY] if os.geteuid() == 0 else [os.geteuid()]
