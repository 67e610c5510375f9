"""Kills the parts of contained runs at random moments and counts what survives.

    python -m tests.faults.keeper_matrix [--rounds N] [--seed S] [--tiers pid_namespace,...] [--json FILE]

Each round starts an owner process that holds one contained run of tests/fakes/trainers/nasty.py (daemons in their own
sessions with empty environments, some moving to a new PID every 30 ms, TERM ignored), waits for a phase and a random
moment in it, kills its victims, and takes the time until a scan of all processes finds nothing of the run. A run is
recognised by its PID namespace and by digits that only this program's processes carry. After every tenth round, 2 s
later, all scans of one whole second are united: what moves from PID to PID cannot hide in that. N rounds per cell.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from profiler.process.find import find_keepers, reap
from tests.process.harness import NOBODY, Owner, Place, living, make_place, wait_until

CLEAN_LIMIT_S = 10.0
SETTLED_S = 2.0  # so long after the last kill, nothing may be seen in any scan of a whole second
LONGEST_WAIT_S = 0.7
# victims that are struck together, and the signals that make sense for them (the trainer ignores all but KILL)
VICTIMS: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "owner": (("owner",), (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)),
    "waiting half": (("keeper",), (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)),
    "guard (PID 1)": (("guard",), (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)),
    "watched owner": (("watched",), (signal.SIGKILL, signal.SIGTERM)),
    "trainer": (("trainer",), (signal.SIGKILL,)),
    "owner + waiting half": (("owner", "keeper"), (signal.SIGKILL,)),
    "owner + guard": (("owner", "guard"), (signal.SIGKILL,)),
    "both halves": (("keeper", "guard"), (signal.SIGKILL,)),
    "all": (("owner", "keeper", "guard", "watched", "trainer"), (signal.SIGKILL,)),
}
PHASES = ("starting", "held", "training", "stopping")


@dataclass(frozen=True)
class Cell:
    victim: str
    number: int
    phase: str
    uid: int
    tier: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.victim, signal.Signals(self.number).name, "root" if self.uid == 0 else "user", self.tier


@dataclass
class Result:
    kills: int = 0
    survivors: int = 0
    clean_s: list[float] = field(default_factory=list)
    whys: Counter[str] = field(default_factory=Counter)


def cells(uids: list[int], tiers: list[str]) -> list[Cell]:
    return [
        Cell(victim, number, phase, uid, tier)
        for (victim, (parts, numbers)), uid, tier in itertools.product(VICTIMS.items(), uids, tiers)
        for number, phase in itertools.product(numbers, PHASES)
        if not (parts == ("trainer",) and phase != "training")  # before it there is none, after it the grace goes on
    ]


def strike(place: Place, cell: Cell, chance: random.Random, result: Result) -> None:
    """One round. Ends only its own helpers: the owner and the watched process, where they were not struck."""
    (place.folder / "out").write_text("")
    watched = place.popen("sleep", f"300.{place.mark}", start_new_session=True)
    order = {"watch_pids": [watched.pid], "tier": cell.tier, "grace_s": 30.0}
    owner = Owner(place, place.trainer("nasty"), order, await_start=cell.phase != "starting", quiet=True)
    try:
        reach(cell.phase, owner, place)
        time.sleep(chance.uniform(0, 0.1 if cell.phase == "starting" else LONGEST_WAIT_S))
        pids = parts(owner, watched.pid)
        begun = time.monotonic()
        struck = kill(cell, chance, pids)
        result.kills += 1
        helpers = {owner.process.pid, watched.pid}
        owner_lives = owner.process.pid not in struck
        if owner_lives and cell.phase == "starting":  # it may still be making the keeper: first hear what became of it
            result.whys[told(owner, cell.phase)] += 1
        result.clean_s.append(time_to_clean(place, owner.namespace, begun, helpers))
        result.survivors += len(end_survivors(place, owner.namespace, helpers))
        if owner_lives and cell.phase != "starting":
            result.whys[told(owner, cell.phase)] += 1
    finally:
        watched.kill()
        watched.wait()
        owner.close()


def kill(cell: Cell, chance: random.Random, pids: dict[str, int]) -> list[int]:
    """Strikes the cell's victims in random order; the owner, where none of them exists yet."""
    struck = [pids[part] for part in VICTIMS[cell.victim][0] if part in pids] or [pids["owner"]]
    chance.shuffle(struck)
    for pid in struck:
        try:
            os.kill(pid, cell.number)
        except ProcessLookupError:
            pass  # it ended with one that was struck before
    return struck


def told(owner: Owner, phase: str) -> str:
    """What the owner was told about the end of its run."""
    if phase == "starting":
        answer = owner.answer() or {}
        if "error" in answer:
            return str(answer["error"])
        phase = "held"
    if phase != "stopping":
        owner.say("wait 10")
    return str((owner.answer() or {}).get("why", "nothing"))


def reach(phase: str, owner: Owner, place: Place) -> None:
    """Brings the run into `phase`."""
    if phase == "starting":
        return
    assert "pid" in owner.started, f"not started: {owner.started}"
    if phase == "held":
        return
    owner.ask("release")
    if phase == "stopping":
        wait_until(lambda: "up" in (place.folder / "out").read_text())
        owner.say("stop 30")


def parts(owner: Owner, watched: int) -> dict[str, int]:
    """PIDs of what there is to strike; the keeper and its guard are the owner's child and grandchild."""
    found = {"owner": owner.process.pid, "watched": watched}
    for name, parent in (("keeper", "owner"), ("guard", "keeper"), ("trainer", "guard")):
        children = children_of(found[parent]) if parent in found else []
        if children:
            found[name] = children[0]
    return found


def children_of(pid: int) -> list[int]:
    """Oldest first: the trainer is the guard's first child, adopted orphans come later."""
    found = []
    for child in living():
        try:
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append((int(fields[19]), child))
    return [child for _, child in sorted(found)]


def time_to_clean(place: Place, namespace: int | None, begun: float, but: set[int]) -> float:
    """Seconds from `begun` to the end of the first of three scans in a row that find nothing (a scan takes some 10 ms,
    so this is the least that can be seen); CLEAN_LIMIT_S when that does not come."""
    clean_since, clean = begun, 0
    while clean < 3:
        found = place.survivors([namespace], 0, but)
        now = time.monotonic()
        if now - begun >= CLEAN_LIMIT_S:
            return CLEAN_LIMIT_S
        if not found and clean == 0:
            clean_since = now
        clean = 0 if found else clean + 1
    return clean_since - begun


def end_survivors(place: Place, namespace: int | None, but: set[int]) -> set[int]:
    """Who is left, killed here so that the next round starts clean (they carry this program's mark)."""
    survivors = place.survivors([namespace], 0, but)
    while found := place.survivors([], 0, but):
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    return survivors


def describe(pid: int) -> str:
    """A survivor as far as it can still be read."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    except OSError:
        return f"{pid} (gone since)"
    return f"{pid} of {parent}: {command[:200]}"


@cache
def usable(place: Place, tier: str) -> bool:
    with place.owner(["true"], tier=tier) as owner:
        return "error" not in owner.started


def run(places: dict[int, Place], options: argparse.Namespace) -> dict[tuple[str, str, str, str], Result]:
    """All cells `rounds` times, in random order (at most `limit` rounds). Returns results by `Cell.key`."""
    chance, limit = random.Random(options.seed), options.limit
    todo = [
        cell
        for cell in cells(list(places), options.tiers.split(","))
        if usable(places[cell.uid], cell.tier) and cell.victim in (options.victims or VICTIMS)
    ] * options.rounds
    chance.shuffle(todo)
    results: dict[tuple[str, str, str, str], Result] = {}
    for index, cell in enumerate(todo[:limit], 1):
        result = results.setdefault(cell.key, Result())
        strike(places[cell.uid], cell, chance, result)
        if index % 10 == 0 or index == len(todo[:limit]):
            time.sleep(SETTLED_S)
            for place in places.values():
                if late := place.survivors(seconds=1.0):
                    result.survivors += len(late)
                    print(f"round {index}, {cell}: {[describe(pid) for pid in sorted(late)]}", file=sys.stderr)
                    end_survivors(place, None, set())
    return results


class Decoys:
    """Processes of somebody else that are called like a keeper whose owner is gone, and like the trainer."""

    def __init__(self, folder: Path) -> None:
        names = (folder / "profiler/process/keeper.py", folder / "trainers/nasty.py")
        for name in names:
            name.parent.mkdir(parents=True)
            name.write_text("import time\ntime.sleep(1e6)\n")
        labels = ["session=decoy", "tier=pid_namespace", "owner=4194303:1"]
        self.processes = [
            subprocess.Popen([sys.executable, "-I", "-S", str(name), *labels], start_new_session=True) for name in names
        ]

    def harmed(self) -> int:
        """Ends them; how many had been ended by then, also by a reap of what looks left over."""
        for keeper in find_keepers():
            if keeper.leftover and keeper.pid in {process.pid for process in self.processes}:
                reap(keeper)
        harmed = sum(process.poll() is not None for process in self.processes)
        for process in self.processes:
            process.kill()
            process.wait()
        return harmed


def table(results: dict[tuple[str, str, str, str], Result]) -> str:
    head = ("victim", "signal", "user", "tier", "kills", "survivors", "median ms", "max ms", "reports")
    lines = [head]
    for key, result in sorted(results.items()):
        times = [1000 * seconds for seconds in result.clean_s]
        whys = ", ".join(f"{why} {count}" for why, count in sorted(result.whys.items()))
        lines.append(
            (*key, result.kills, result.survivors, f"{statistics.median(times):.0f}", f"{max(times):.0f}", whys)
        )
    widths = [max(len(str(line[column])) for line in lines) for column in range(len(head))]
    text = [" | ".join(str(cell).ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    every = [1000 * seconds for result in results.values() for seconds in result.clean_s]
    total = (
        f"{sum(result.kills for result in results.values())} kills, "
        f"{sum(result.survivors for result in results.values())} survivors, "
        f"time to clean: median {statistics.median(every):.0f} ms, max {max(every):.0f} ms"
    )
    return "\n".join([text[0], "-|-".join("-" * width for width in widths), *text[1:], "", total])


def options_from(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1, help="rounds per cell (default 1)")
    parser.add_argument("--limit", type=int, help="at most so many rounds in all")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--tiers", default="pid_namespace")
    parser.add_argument("--victims", nargs="*", choices=VICTIMS, help="only these")
    parser.add_argument("--json", type=Path, help="write the single times there")
    return parser.parse_args(arguments)


def main() -> int:
    options = options_from(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would owners
    with tempfile.TemporaryDirectory(prefix="profiler-faults-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        places = {}
        for uid in sorted({os.geteuid(), NOBODY} if os.geteuid() == 0 else {os.geteuid()}):
            made = make_place(Path(folder), uid)
            if isinstance(made, str):
                print(f"left out: {made}", file=sys.stderr)
            else:
                places[uid] = made
        decoys = Decoys(Path(folder) / "decoys")
        try:
            results = run(places, options)
        finally:
            harmed = decoys.harmed()
        litter = set().union(*(place.shared_memory() for place in places.values()))
        for segment in litter:
            segment.unlink()
    print(f"seed {options.seed}\n{table(results)}")
    print(f"{harmed} decoys harmed, {len(litter)} shared memory segments left")
    if options.json:
        rows = [{"cell": key, **vars(result), "whys": dict(result.whys)} for key, result in results.items()]
        options.json.write_text(json.dumps(rows))
    survivors = sum(result.survivors for result in results.values())
    kept_private = options.tiers == "pid_namespace"  # the lesser tiers share the machine's /dev/shm
    return 1 if survivors or harmed or (litter and kept_private) else 0


if __name__ == "__main__":
    sys.exit(main())
