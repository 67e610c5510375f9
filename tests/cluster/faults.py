"""Strikes at a cluster of three machines under a campaign: what is left running, what is lost, what is done twice.

A process belongs to a run if it is in a PID namespace below its machine's, or is a keeper. The trainers are nasty: they
ignore TERM, start daemons in sessions of their own and move from PID to PID.
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.campaigns import quick
from tests.cluster.campaigns import Driver, campaign, home_of, kept_on_nodes, opened, session_of, start
from tests.cluster.net import Machine, Net
from tests.faults.records import check_every_file_opens, check_unchanged, finished_files

LIMIT_S = 10.0
RUNS, MORE_RUNS = 18, 36  # more where a node is to come back while some are left
SHORT_CUT_S, LONG_CUT_S = 4.0, 45.0
STRIKES = ("raylet", "node", "driver", "driver's node", "head", "short cut", "long cut")


@dataclass(frozen=True)
class Outcome:
    """What came of one strike. `clean_s`: from the strike until no process of the struck runs was seen on the struck
    machines, None if some were there all the time; `orphans`: seen there after the limit; `lost`: finished runs whose
    files changed or are gone; `doubled`: runs with more than one final row, or executed once more after a valid one;
    `attempts`: in all; `resumed`: the campaign went on with `profiler resume`; `kept`: results that a node had kept."""

    strike: str
    struck_runs: int
    clean_s: float | None
    orphans: int
    finished_before: int
    lost: int
    doubled: int
    planned: int
    final: int
    attempts: int
    interrupted: int
    resumed: bool
    kept: int
    rejoined_used: bool | None
    wall_s: float


def of_runs(machine: Machine) -> dict[int, str]:
    """Processes of runs on a machine."""
    try:
        own = Path(f"/proc/{machine.init}/ns/pid").stat().st_ino
    except OSError:
        return {}
    found = {}
    for pid, line in machine.processes().items():
        try:
            inner = Path(f"/proc/{pid}/ns/pid").stat().st_ino != own
        except OSError:
            continue
        if inner or " session=" in line:
            found[pid] = line
    return found


def time_to_clean(machines: Sequence[Machine], begun_s: float, limit_s: float) -> tuple[float | None, int]:
    """Seconds from `begun_s` until three looks in a row find nothing, and how many processes are there after
    `limit_s`, if nothing was found earlier."""
    clean, first_s = 0, begun_s
    while time.monotonic() - begun_s < limit_s:
        now_s = time.monotonic()
        if any(of_runs(machine) for machine in machines):
            clean = 0
        else:
            first_s = now_s if clean == 0 else first_s
            clean += 1
            if clean == 3:
                return first_s - begun_s, 0
        time.sleep(0.05)
    return None, sum(len(of_runs(machine)) for machine in machines)


class Struck:
    """A campaign on a fresh net, struck once, and brought to its end."""

    def __init__(self, net: Net, strike: str, chance: random.Random) -> None:
        self.net, self.strike, self.chance = net, strike, chance
        self.victim = net.machines[1]
        self.began_s = time.monotonic()
        long = strike in ("long cut", "head")
        self.planned = MORE_RUNS if strike in ("raylet", "node") else RUNS
        self.driver_on = net.machines[2] if strike == "driver's node" else net.head
        runs = [
            quick(epochs=1, epoch_seconds=0.5 if n < 6 else (14.0 if long else 5.0), seed=n, behaviour="nasty",
                  marker=f"strike-{n}") for n in range(self.planned)
        ]  # fmt: skip
        self.driver = start(net, *campaign(net, runs, self.driver_on), on=self.driver_on)

    def run(self) -> Outcome:
        self.driver.await_text("[6/", 240)
        self._await_runs()
        time.sleep(self.chance.uniform(0.2, 1.5))
        before = finished_files(session_of(self.net, self.driver_on))
        done = sum(row["is_final"] for row in opened(self.net, self.driver_on).rows() if row["is_final"])
        struck, clean_s, orphans = self._strike()
        resumed, rejoined = self._to_the_end()
        return self._outcome(before, done, struck, clean_s, orphans, resumed, rejoined)

    def _await_runs(self) -> None:
        until = time.monotonic() + 60
        while not self._keepers(self.victim):
            assert time.monotonic() < until, self.driver.text()
            time.sleep(0.05)

    def _keepers(self, machine: Machine) -> set[str]:
        found = (re.search(r" run=(\S+)", line) for line in machine.processes().values())
        return {match.group(1) for match in found if match}

    def _strike(self) -> tuple[int, float | None, int]:
        everywhere = self.strike in ("driver", "driver's node", "head")
        machines = self.net.machines if everywhere else [self.victim]
        struck = sum(len(self._keepers(machine)) for machine in machines)
        begun_s = time.monotonic()
        if self.strike == "short cut":
            self.net.cut(self.victim)
            time.sleep(SHORT_CUT_S)
            self.net.heal(self.victim)
            return 0, 0.0, 0
        self._acts()[self.strike]()
        # a cut node's runs may go on until it is told to be beyond reach: ten seconds more
        limit_s = LIMIT_S + (10.0 if self.strike == "long cut" else 0.0)
        clean_s, orphans = time_to_clean(machines, begun_s, limit_s)
        if self.strike == "long cut":
            time.sleep(max(0.0, begun_s + LONG_CUT_S - time.monotonic()))
            self.net.heal(self.victim)
            _, late = time_to_clean([self.victim], time.monotonic(), LIMIT_S)
            orphans += late
        return struck, clean_s, orphans

    def _acts(self) -> dict[str, Callable[[], Any]]:
        return {
            "raylet": lambda: os.kill(self.victim.ray_process("raylet/raylet"), signal.SIGKILL),
            "node": self.victim.kill_all,
            "driver": self.driver.kill,
            "driver's node": self.driver_on.kill_all,
            "head": self.net.head.kill_all,
            "long cut": lambda: self.net.cut(self.victim),
        }

    def _to_the_end(self) -> tuple[bool, bool | None]:
        """Bring back what was struck; whether it took a resume, and whether a node that came back was used again."""
        session = session_of(self.net, self.driver_on)
        if self.strike in ("raylet", "node", "long cut"):
            self._await_dead(self.victim)
            self.victim.kill_all()  # what is left of its Ray, as `ray stop` would
            seen = len(opened(self.net, self.driver_on).nodes())
            self.victim.start_ray(head=self.net.head.address)
            code = self.driver.process.wait(300)
            nodes = opened(self.net, self.driver_on).nodes()
            used = {row["node_id"] for row in opened(self.net, self.driver_on).rows()}
            assert code == 0, self.driver.text()
            return False, any(node["node_id"] in used for node in nodes[seen:]) if len(nodes) > seen else None
        if self.strike == "short cut":
            assert self.driver.process.wait(300) == 0, self.driver.text()
            return False, None
        if self.strike == "head":
            for machine in self.net.machines:
                machine.kill_all()
            self.net.start_ray()
        if self.strike == "driver's node":
            self.driver_on.start_ray(head=self.net.head.address)
        there = home_of(self.net, self.driver_on)[1] / "results" / session.name
        self.driver = start(self.net, "resume", there, on=self.driver_on)
        assert self.driver.process.wait(300) == 0, self.driver.text()
        return True, None

    def _await_dead(self, machine: Machine) -> None:
        until = time.monotonic() + 90
        while f"({machine.address}) has left" not in self.driver.text():
            assert self.driver.process.poll() is None and time.monotonic() < until, self.driver.text()
            time.sleep(0.2)

    def _outcome(
        self, before: Any, done: int, struck: int, clean_s: float | None, orphans: int, resumed: bool,
        rejoined: bool | None,
    ) -> Outcome:  # fmt: skip
        session = opened(self.net, self.driver_on)
        attempts = session.attempts()
        finals = [row for row in attempts if row["is_final"]]
        check_every_file_opens(session.root)
        try:
            check_unchanged(before)
            lost = 0
        except AssertionError:
            lost = 1
        twice = len(finals) - len({row["run_id"] for row in finals})
        again = sum(
            any(later["run_id"] == row["run_id"] and later["attempt"] > row["attempt"] for later in attempts)
            for row in attempts if row["valid"]
        )  # fmt: skip
        assert not kept_on_nodes(self.net, self.driver_on), kept_on_nodes(self.net, self.driver_on)
        return Outcome(
            strike=self.strike,
            struck_runs=struck,
            clean_s=None if clean_s is None else round(clean_s, 2),
            orphans=orphans,
            finished_before=done,
            lost=lost,
            doubled=twice + again,
            planned=self.planned,
            final=len(finals),
            attempts=len(attempts),
            interrupted=sum("interrupted" in row["reasons"] for row in attempts),
            resumed=resumed,
            kept=self.driver.text().count("kept by its node"),
            rejoined_used=rejoined,
            wall_s=round(time.monotonic() - self.began_s, 1),
        )


def strike(net: Net, name: str, chance: random.Random) -> dict[str, Any]:
    struck = Struck(net, name, chance)
    try:
        return asdict(struck.run())
    finally:
        _end(struck.driver)


def _end(driver: Driver) -> None:
    if driver.process.poll() is None:
        driver.process.kill()
        driver.process.wait()
