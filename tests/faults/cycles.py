"""Kills a campaign's driver at a random moment and resumes it, until it is finished; again and again."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from pathlib import Path

from tests.campaigns import config, quick
from tests.faults.records import check_complete, check_every_file_opens, check_unchanged, finished_files, plan_digest
from tests.faults.scene import Drive, Scene

RUNS = 20
END_S = 300.0


def experiments(scene: Scene) -> list[dict]:
    return [quick(epochs=1, epoch_seconds=0.02, seed=seed, marker=scene.mark) for seed in range(RUNS)]


def kill_at_random(drive: Drive, chance: random.Random) -> bool:
    """Kill it while Ray starts, or somewhere after its first sign of life. False if it finished before."""
    if chance.random() < 0.2:
        moment = chance.uniform(0.3, 5)
    else:
        until = time.monotonic() + 120
        while ": gate" not in drive.text() and drive.process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        moment = chance.uniform(0, 4)
    time.sleep(moment)
    if drive.process.poll() is not None:
        return False
    drive.process.kill()
    drive.process.wait()
    return True


def one_campaign(scene: Scene, kills: int, chance: random.Random) -> Counter[str]:
    """A campaign with up to `kills` kills, then finished. Raises AssertionError if anything was lost or repeated."""
    path = config(scene.folder, experiments(scene))
    results = scene.folder / "results"
    shutil.rmtree(results, ignore_errors=True)
    drive = scene.drive("run", path, "--results", results)
    drive.await_text("session run_")
    struck, session = 0, scene.session()
    while kill_at_random(drive, chance):
        struck += 1
        drive.time_to_clean(time.monotonic(), 2.0)
        left = drive.survivors(0.3)
        assert not left, f"left: {left}"
        check_every_file_opens(session)
        kept = finished_files(session)
        digest = plan_digest(session)
        drive = scene.drive("resume", session)
        if struck == kills:
            break
    code = drive.process.wait(END_S)
    assert code == 0, drive.text()
    if struck:
        check_unchanged(kept)
        assert plan_digest(session) == digest
    check_every_file_opens(session)
    return check_complete(session, RUNS) + Counter(kills=struck)


def run_cycles(scene: Scene, cycles: int, path: Path, minutes: float) -> int:
    """Until `cycles` kills with a resume after each are stored in `path`, or the time is over."""
    chance = random.Random()
    until = time.monotonic() + minutes * 60
    path.parent.mkdir(parents=True, exist_ok=True)
    totals: Counter[str] = Counter()
    for line in path.read_text().splitlines() if path.exists() else []:
        totals += Counter(json.loads(line))
    with path.open("a") as file:
        while totals["kills"] < cycles and time.monotonic() < until:
            counts = one_campaign(scene, min(10, cycles - totals["kills"]), chance) + Counter(campaigns=1)
            totals += counts
            file.write(json.dumps(counts) + "\n")
            file.flush()
            print(dict(totals), flush=True)
    return 0
