"""Machines made of namespaces on this one: each with its own address, host name, PIDs, /tmp, boot id and virtual GPUs.

They are joined by a bridge in a namespace of its own, so nets do not meet, and nothing of the host's network changes.
Every namespace is held by a process that dies with ours: the kernel takes a net away, also after a kill -9.
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.fakes.nvml import FakeNvml, build, compiler
from tests.process.harness import REPO, living, wait_until

PORT = 6379
GPUS = 2
OWN = Path("/mnt")  # where a machine sees its own folder
SETUP = """
set -e
mount --make-rprivate /
mount --bind "$OWN" /mnt
mount --bind /mnt/boot_id /proc/sys/kernel/random/boot_id
for place in $HIDDEN /var/tmp /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs "$place"; done
hostname "$NAME"
ip link set lo up
touch /mnt/up
trap : TERM
while :; do sleep 1000000 & wait; done
"""  # as PID 1 of its machine, bash also reaps whatever is left to it


@dataclass
class Machine:
    """One machine: number 1 is the head, which sees this machine's own /tmp; the others have an empty one."""

    number: int
    folder: Path
    token: str
    holder: subprocess.Popen[bytes]
    init: int
    gpus: FakeNvml
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"machine{self.number}"

    @property
    def address(self) -> str:
        return f"10.77.0.{self.number}"

    @property
    def uuids(self) -> list[str]:
        return [gpu.uuid for gpu in self.gpus.gpus]

    def inside(self) -> list[str]:
        """The words that put a command into this machine."""
        return ["nsenter", "-t", str(self.init), "--net", "--uts", "--mount", "--pid", "--ipc"]

    def popen(self, *words: object, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """A command in this machine; the process returned is nsenter's, which waits for it and takes on its exit."""
        options = {"stdin": subprocess.DEVNULL, "cwd": "/", **options}
        command = ["setpriv", "--pdeathsig", "KILL", *self.inside(), *map(str, words)]
        return subprocess.Popen(command, env={**self.environment, **(env or {})}, **options)

    def run(self, *words: object, timeout_s: float = 120, **options: Any) -> str:
        """Output of a command in this machine, which must succeed."""
        process = self.popen(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        said, _ = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, f"{self.name}: {shlex.join(map(str, words))}\n{said.decode()}"
        return said.decode()

    def processes(self) -> dict[int, str]:
        """PID here and command line of everything that lives in this machine, but what makes it one."""
        try:
            network = Path(f"/proc/{self.init}/ns/net").stat().st_ino
        except OSError:
            return {}
        found = {}
        for pid in living():
            try:
                here = Path(f"/proc/{pid}/ns/net").stat().st_ino == network
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if here and pid not in (self.init, self.holder.pid) and not command.startswith("sleep 1000000"):
                found[pid] = command.strip()
        return found

    def ray_process(self, name: str) -> int:
        """The one process whose program is `name`, such as raylet/raylet."""
        return next(pid for pid, line in self.processes().items() if name in line.split(" ")[0])

    def kill_all(self) -> None:
        """As if its power went: everything at once. The machine itself stays, and can start Ray anew."""
        while left := self.processes():
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def start_ray(
        self,
        *options: object,
        head: str | None = None,
        env: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> str:
        """`ray start` as a user would; `head`: the address of the cluster to join; `under`: words before it that take
        something from it. Returns what it says."""
        where = ["--address", f"{head}:{PORT}"] if head else ["--head", f"--port={PORT}", "--include-dashboard=false"]
        words = [
            *under, sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", *where,
            f"--node-ip-address={self.address}", "--num-cpus=4", "--disable-usage-stats",
            f"--object-store-memory={80 << 20}", '--resources={"energy_slot": 1}',
            f"--temp-dir={OWN / 'ray'}", *options,
        ]  # fmt: skip
        if not any(str(option).startswith("--num-gpus") for option in options):
            words.append(f"--num-gpus={GPUS}")
        return self.run(*words, env=env)


class Net:
    """`count` machines with a Ray cluster on them; as a context manager everything is gone afterwards."""

    def __init__(self, folder: Path, library: Path, count: int = 3) -> None:
        self.folder, self._library = folder, library
        self.token = secrets.token_hex(32)
        self._switch = _hold(["--net"], ["bash", "-c", "ip link add br0 type bridge; ip link set br0 up; sleep inf"])
        self._switch_pid = _child(self._switch)
        self.machines: list[Machine] = []
        try:
            wait_until(lambda: _net(self._switch_pid, "ip", "link", "show", "br0", check=False) == 0)
            for number in range(1, count + 1):
                self.machines.append(self._machine(number))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def head(self) -> Machine:
        return self.machines[0]

    @property
    def address(self) -> str:
        return f"{self.head.address}:{PORT}"

    def start_ray(self) -> None:
        """A head and everybody else joined to it."""
        self.head.start_ray()
        for machine in self.machines[1:]:
            machine.start_ray(head=self.head.address)

    def cut(self, machine: Machine) -> None:
        """Pull its network cable at the bridge: nothing tells it, and nothing answers."""
        _net(self._switch_pid, "ip", "link", "set", f"port{machine.number}", "down")

    def heal(self, machine: Machine) -> None:
        _net(self._switch_pid, "ip", "link", "set", f"port{machine.number}", "up")

    def close(self) -> None:
        for holder in [*(machine.holder for machine in self.machines), self._switch]:
            holder.kill()
            holder.wait()
        wait_until(lambda: not any(machine.processes() for machine in self.machines), 10)

    def _machine(self, number: int) -> Machine:
        folder = self.folder / f"machine{number}"
        folder.mkdir()
        (folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (folder / "home").mkdir()
        state = folder / "nvml.state"
        gpus = FakeNvml(state, self._library, GPUS)
        for index, gpu in enumerate(gpus.gpus):
            gpu.uuid = f"GPU-{number:08d}-0000-0000-0000-{index:012d}"
        gpus.write()
        for index in range(GPUS):
            gpus.power(100.0 * number + 10.0 * index, index)  # whose figure it is can be told from its size
        environment = {"OWN": str(folder), "NAME": f"machine{number}", "HIDDEN": "" if number == 1 else "/tmp"}
        holder = _hold(
            ["--net", "--uts", "--mount", "--pid", "--ipc", "--mount-proc"], ["bash", "-c", SETUP], environment
        )
        init = _child(holder)
        machine = Machine(number, folder, self.token, holder, init, gpus)
        machine.environment = self._environment()
        wait_until(lambda: (folder / "up").exists() or holder.poll() is not None)
        assert holder.poll() is None, f"machine {number} could not be made"
        port = f"port{number}"
        subprocess.run(
            ["ip", "link", "add", port, "netns", str(self._switch_pid), "type", "veth",
             "peer", "name", "eth0", "netns", str(init)], check=True,
        )  # fmt: skip
        _net(self._switch_pid, "ip", "link", "set", port, "master", "br0", "up")
        _net(init, "ip", "addr", "add", f"{machine.address}/24", "dev", "eth0")
        _net(init, "ip", "link", "set", "eth0", "up")
        return machine

    def _environment(self) -> dict[str, str]:
        """What every process of a machine starts with. The library lies in this machine's /tmp: each has a copy."""
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(OWN / "home"),
            "PYTHONPATH": str(REPO),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PROFILER_REPOS": str(REPO / "tests/fakes/repos"),
            "COLUMNS": "250",
            "LD_LIBRARY_PATH": str(self._library),
            "FAKE_NVML_STATE": str(OWN / "nvml.state"),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_worker_niceness": "0",
        }


def _hold(spaces: Sequence[str], words: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A process in new namespaces that ends with this thread's process, however that ends, and they with it."""
    spaces = [*spaces, "--pid"] if "--pid" not in spaces else spaces
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, "--fork", "--kill-child", *words],
        stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], **(env or {})}, start_new_session=True,
    )  # fmt: skip


def _child(process: subprocess.Popen[bytes]) -> int:
    """PID of the first process in the namespaces."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: process.poll() is not None or path.read_text().split())
    assert process.poll() is None, "no namespaces here"
    return int(path.read_text().split()[0])


def _net(pid: int, *words: str, check: bool = True) -> int:
    quiet = None if check else subprocess.DEVNULL
    command = ["nsenter", "-t", str(pid), "--net", *words]
    return subprocess.run(command, check=check, stdout=quiet, stderr=quiet).returncode


def lacking() -> str | None:
    """Why no net can be made here, or None."""
    if os.geteuid() != 0:
        return "network namespaces with addresses need root"
    if compiler() is None:
        return "no C compiler for the virtual NVML"
    try:
        process = _hold(["--net", "--uts", "--mount"], ["true"])
    except OSError as error:
        return str(error)
    return "no namespaces here" if process.wait() else None


@contextmanager
def made_net(count: int = 3, *, ray: bool = True) -> Iterator[Net]:
    """A net in a short folder of its own (sockets have short names), with Ray on it."""
    with tempfile.TemporaryDirectory(prefix="net-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        folder.chmod(0o755)
        library = build(REPO / "build" / "fakes")
        with Net(folder, library, count) as net:
            if ray:
                net.start_ray()
            yield net


def main() -> None:
    """A net to try things in: prints how to enter each machine, and stays until Ctrl-C."""
    began = time.monotonic()
    with made_net() as net:
        print(f"up after {time.monotonic() - began:.1f} s on {socket.gethostname()}; Ray at {net.address}")
        for machine in net.machines:
            print(f"{machine.name} {machine.address} {machine.uuids}: {shlex.join(machine.inside())} bash")
            print(f"  export {' '.join(f'{name}={value}' for name, value in machine.environment.items())}")
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
