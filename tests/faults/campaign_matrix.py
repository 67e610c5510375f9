"""Kills parts of whole campaigns, Ray included, at random moments of a phase, and counts what survives.

Each kill strikes a campaign of the quick workload whose trainers set their own sessions, fork twice, scrub their
environment, ignore TERM and move to a new PID every 30 ms. Victims whose end a campaign outlives are struck one after
another in one campaign; the others end theirs.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from profiler.process.find import KeeperInfo
from tests.campaigns import config, pair, quick
from tests.faults.cells import KILL, Cell
from tests.faults.records import check_every_file_opens
from tests.faults.scene import Cluster, Drive, Scene
from tests.process.harness import living, state_and_start, wait_until

RUNS_OF_A_CAMPAIGN = 10
DRIVER_END_S = 90.0
TIMEOUT_S = 2.0  # of a run that is struck while it stops: its trainer ignores TERM, so that lasts five seconds


@dataclass(frozen=True)
class Outcome:
    """One kill. Seconds count from the signal. `before`: processes of the run when it was struck (of one keeper where
    that was struck); `survivors`: those seen in the second after the limit; `left`: of the whole campaign, Ray's
    included, after its driver's end; `end_s`: when the driver had ended and nothing was left (None: the campaign went
    on, as it should). `problem`: anything unexpected."""

    cell: Cell
    before: int
    clean_s: float | None
    survivors: list[str]
    end_s: float | None
    left: list[str]
    exit_code: int | None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def experiments(cells: Sequence[Cell], mark: str) -> list[dict[str, Any]]:
    """A run for each cell, long in the cell's phase."""
    made = []
    for index, cell in enumerate(cells):
        long = {"epochs": 3000, "epoch_seconds": 0.1, "behaviour": "nasty", "marker": f"{mark}{index:03d}"}
        short = {**long, "epochs": 5}
        solo = {"starting": long, "training": long, "stopping": long, "cooling": short}[cell.phase]
        cooling_s = 10 if cell.victim == "EnergyActor" else 30  # that one's end is waited for
        more: dict[str, Any] = {"cooling": {"seconds": cooling_s if cell.phase == "cooling" else 0}}
        if cell.layout == "parallel":
            made.append(pair(short if cell.phase in ("stopping", "cooling") else long, long, **more))
            continue
        if cell.phase == "stopping":
            more["timeout_seconds"] = TIMEOUT_S
        made.append({**quick(**solo), **more})
    return made


class Strike:
    """The strike of one cell at run `index` (from 1) of a campaign."""

    def __init__(self, drive: Drive, cell: Cell, index: int, chance: random.Random) -> None:
        self.drive, self.cell, self.index, self.chance = drive, cell, index, chance
        self.namespaces: set[int | None] = set()  # only such as the drive holds open
        self._ended, self._ended_s = threading.Event(), 0.0  # when the driver ended
        self.only: int | None = None  # the struck keeper: its partner is stopped afterwards, with a grace of its own

    def reach(self) -> None:
        """Bring the run into the phase, and then to some moment of it."""
        phase, victim = self.cell.phase, self.cell.victim
        if phase == "starting" and not self.cell.passing:
            self.drive.await_text("session run_")
            wait_until(lambda: all(self.find(name) for name in victim.split("+") if name in ("raylet", "gcs")), 60)
            time.sleep(self.chance.uniform(0.2, 6.0 if self.cell.ray == "embedded" else 3.0))
            return
        said = rf"_{self.index:03d}\S* attempt 1"
        word = {"starting": "gate", "training": "training", "stopping": "training", "cooling": "cooling"}[phase]
        if phase == "stopping" and self.cell.layout == "parallel":
            word = "stopping"
        self.await_said(rf"{said}: {word}")
        if phase == "starting" and victim in ("waiting half", "PID 1"):
            wait_until(lambda: self.find(victim) is not None, 60)
        elif phase in ("training", "stopping"):
            wait_until(lambda: self.keeper() is None or self.trainer() is not None, 60)
        if phase == "stopping" and word == "training":
            time.sleep(TIMEOUT_S + 0.2)
        time.sleep(self.chance.uniform(0, {"starting": 0.2, "stopping": 1.2}.get(phase, 2.0)))

    def await_said(self, pattern: str) -> None:
        def there() -> bool:
            assert self.drive.process.poll() is None, f"ended early:\n{self.drive.text()[-2000:]}"
            return re.search(pattern, self.drive.text()) is not None

        wait_until(there, 150)

    # -- who is who --------------------------------------------------------------------------------------------------

    def keepers(self) -> list[KeeperInfo]:
        """Those that this strike is to end: of the whole run, or of its background."""
        run = f"{self.drive.session_id()}-{self.index:03d}"
        role = "background" if self.cell.victim == "background worker" else ""
        mine = [keeper for keeper in self.drive.keepers() if keeper.labels.get("run") == run]
        return [k for k in mine if k.labels["role"].startswith(role) and self.only in (None, k.pid)]

    def keeper(self) -> KeeperInfo | None:
        """The foreground's, or the background's where the foreground has ended."""
        return max(self.keepers(), key=lambda keeper: keeper.labels["role"], default=None)

    def trainer(self) -> int | None:
        keeper = self.keeper()
        if keeper is None or keeper.guard_pid is None:
            return None
        children = [(state_and_start(pid), pid) for pid in living() if parent_of(pid) == keeper.guard_pid]
        alive = [(start_ticks, pid) for (state, start_ticks), pid in children if state not in "ZX"]
        return min(alive, default=(0, None))[1]

    def find(self, victim: str) -> int | None:
        keeper = self.keeper()
        finders: dict[str, Callable[[], int | None]] = {
            "driver": lambda: self.drive.pid,
            "worker": lambda: self.drive.ray_process("ray::attempt_task"),
            "background worker": lambda: self.drive.ray_process("ray::background_task"),
            "waiting half": lambda: keeper.pid if keeper else None,
            "PID 1": lambda: keeper.guard_pid if keeper else None,
            "trainer": self.trainer,
            "EnergyActor": lambda: self.drive.ray_process("ray::EnergyActor"),
            "raylet": lambda: self.drive.ray_process("raylet/raylet"),
            "gcs": lambda: self.drive.ray_process("gcs_server"),
        }
        return finders[victim]()

    def victims(self) -> list[int]:
        if self.cell.victim == "everything":
            cluster = self.drive.cluster.processes() if self.drive.cluster else {}
            return [*self.drive.processes(), *cluster]
        found = [self.find(name) for name in self.cell.victim.split("+")]
        return [pid for pid in found if pid is not None]

    # -- the kill and after ------------------------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """Processes of the struck run: its keepers, and what is in a namespace of theirs."""
        keepers = self.keepers()
        halves = {pid for keeper in keepers for pid in (keeper.pid, keeper.guard_pid)}
        self.namespaces |= {keeper.namespace_inode for keeper in keepers} & self.drive.namespaces.keys()
        everything = self.drive.processes()
        return {pid: line for pid, line in everything.items() if pid in halves or namespace_of(pid) in self.namespaces}

    def strike(self) -> Outcome:
        """Reach the phase, send the signal, look at what is left."""
        self.reach()
        keeper = self.keeper()
        if keeper is not None and self.cell.victim in ("waiting half", "PID 1", "trainer"):
            self.only = keeper.pid
        self.drive.processes()  # learns the namespaces
        before = len(self.processes())
        victims = self.victims()
        assert victims and self.drive.process.poll() is None, f"no {self.cell.victim} to strike"
        assert before or self.cell.phase in ("starting", "cooling"), "struck too late: the run has ended"
        self.chance.shuffle(victims)
        threading.Thread(target=self._await_end, daemon=True).start()
        begun = time.monotonic()
        for pid in victims:
            try:
                os.kill(pid, signal.Signals[self.cell.signal])
            except ProcessLookupError:
                pass  # it ended with one that was struck before
        return self.after(begun, before)

    def after(self, begun: float, before: int) -> Outcome:
        if self.cell.victim == "EnergyActor":  # the run rightly goes on: what is left is counted at the campaign's end
            self.end_run()
            return Outcome(self.cell, before, None, [], None, [], None)
        everything = self.cell.signal == KILL and ("driver" in self.cell.victim or self.cell.victim == "everything")
        look = self.drive.processes if everything else self.processes
        self.drive.process.poll()
        clean_s = time_to_clean(look, begun, self.cell.limit_s)
        time.sleep(max(0.0, begun + self.cell.limit_s - time.monotonic()) if everything or clean_s is None else 0)
        survivors = seen_during(look, 1.0)
        if self.cell.passing:
            self.end_run()
            return Outcome(self.cell, before, clean_s, survivors, None, [], None)
        code = self.drive.process.wait(DRIVER_END_S)
        self._ended.wait()
        now = time.monotonic()
        rest_s = time_to_clean(self.drive.processes, now, 2.0)
        late_s = 0.0 if rest_s is not None and rest_s < 0.5 else now + (rest_s or 2.0) - begun
        left = seen_during(self.drive.processes, 0.5)
        for session in self.drive.scene.sessions():  # none, where Ray was gone before anything had begun
            check_every_file_opens(session)
        end_s = max(self._ended_s - begun, clean_s or 0.0, late_s)
        return Outcome(self.cell, before, clean_s, survivors, end_s, left, code)

    def _await_end(self) -> None:
        try:
            os.waitid(os.P_PID, self.drive.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass  # somebody has taken its exit code meanwhile
        self._ended_s = time.monotonic()
        self._ended.set()

    def end_run(self) -> None:
        """Where the run goes on without the victim: end it, so that the next one has its turn."""
        run = f"{self.drive.session_id()}-{self.index:03d}"
        for keeper in self.drive.keepers():
            if keeper.labels.get("run") == run:
                os.kill(keeper.pid, signal.SIGKILL)


def time_to_clean(look: Callable[[], dict[int, str]], begun: float, limit_s: float) -> float | None:
    """Seconds from `begun` to the first of three scans in a row that find nothing; None if not within `limit_s`."""
    clean, first = 0, begun
    while clean < 3:
        found = look()
        now = time.monotonic()
        if found:
            clean = 0
            if now - begun > limit_s:
                return None
        else:
            first = now if clean == 0 else first
            clean += 1
    return first - begun


def seen_during(look: Callable[[], dict[int, str]], seconds: float) -> list[str]:
    """Everything seen at any time: what moves from PID to PID cannot hide in that."""
    until, seen = time.monotonic() + seconds, {}
    while time.monotonic() < until:
        seen |= look()
        time.sleep(0.02)
    return [f"{pid} {line[:150]}" for pid, line in seen.items()]


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def namespace_of(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino
    except OSError:
        return 0


class Matrix:
    """Runs batches of cells in the scenes of their users. A cluster is kept up until a victim takes it down."""

    def __init__(self, scenes: dict[str, Scene], chance: random.Random) -> None:
        self._scenes, self._chance = scenes, chance
        self._clusters: dict[str, Cluster] = {}

    def __enter__(self) -> Matrix:
        return self

    def __exit__(self, *error: object) -> None:
        for cluster in self._clusters.values():
            cluster.close()

    def batch(self, todo: Sequence[Cell]) -> list[Cell]:
        """The next cell, with those that can share its campaign."""
        first = todo[0]
        if not first.passing:
            return [first]
        alike = [cell for cell in todo if cell.passing and cell.surroundings == first.surroundings]
        return alike[:RUNS_OF_A_CAMPAIGN]

    def run(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """Strike `cells` in one campaign; all of one surroundings, and either one or all passing."""
        scene = self._scenes[cells[0].user]
        try:
            cluster = self._cluster(cells[0].user) if cells[0].ray == "cluster" else None
        except AssertionError as error:  # Ray gives up on a busy machine
            yield Outcome(cells[0], 0, None, [], None, [], None, f"no cluster: {str(error)[-500:]}")
            return
        path = config(scene.folder, experiments(cells, scene.mark), max_retries=0)
        with ExitStack() as stack:
            drive = scene.drive("run", path, "--results", scene.folder / "results", cluster=cluster)
            stack.callback(drive.close)
            for index, cell in enumerate(cells, 1):
                try:
                    yield Strike(drive, cell, index, self._chance).strike()
                except (AssertionError, subprocess.TimeoutExpired) as error:
                    told = f"{str(error)[-800:]}\n{drive.text()[-800:]}"
                    yield Outcome(cell, 0, None, [], None, [], drive.process.poll(), told)
                    return
            if cells[-1].passing:
                yield from self._end(drive, cells[-1])

    def _end(self, drive: Drive, cell: Cell) -> Iterator[Outcome]:
        """After the last passing strike: end the campaign as a user would; nothing may be left then."""
        if drive.process.poll() is None:
            drive.process.terminate()
        drive.process.wait(DRIVER_END_S)
        time_to_clean(drive.processes, time.monotonic(), 2.0)
        left = seen_during(drive.processes, 0.5)
        if left:
            yield Outcome(cell, 0, None, [], None, left, drive.process.returncode, "left after the campaign's end")

    def _cluster(self, user: str) -> Cluster:
        cluster = self._clusters.get(user)
        if cluster is not None and not cluster.whole():
            cluster.close()
            cluster = None
        if cluster is None:
            cluster = self._clusters[user] = Cluster(self._scenes[user])
        return cluster
