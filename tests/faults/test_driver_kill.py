"""kill -9 of the driver at random moments: nothing is left running, nothing that was finished is lost."""

from __future__ import annotations

import random
import time

import pytest

from tests.campaigns import config, quick
from tests.faults.records import check_complete, check_every_file_opens, check_unchanged, finished_files
from tests.faults.scene import Drive, Scene
from tests.process.harness import SOON_S

pytestmark = [pytest.mark.fault, pytest.mark.ray]


def kill_and_look(drive: Drive, moment: str) -> None:
    """SIGKILL, and soon no process of the campaign is left, nor of its Ray."""
    drive.processes()  # learns the namespaces
    drive.process.kill()
    killed = time.monotonic()
    drive.process.wait()
    clean_s = drive.time_to_clean(killed, SOON_S)
    survivors = drive.survivors()
    print(f"killed {moment}: clean after {clean_s:.2f} s")
    assert not survivors, f"killed {moment}: left {survivors}"


def test_nothing_is_left_and_nothing_is_lost(either: Scene) -> None:
    chance = random.Random()
    daemons = {"behaviour": "nasty", "marker": either.mark}
    experiments = [quick(epochs=1, epoch_seconds=0.02, seed=seed, **daemons) for seed in range(8)]
    experiments[4] = quick(epochs=4, epoch_seconds=1.0, **daemons)
    path = config(either.folder, experiments)
    results = either.folder / "results"

    drive = either.drive("run", path, "--results", results)
    drive.await_text("session run_")
    time.sleep(chance.uniform(0.5, 3))
    kill_and_look(drive, "while Ray starts")
    session = either.session()
    check_every_file_opens(session)

    later = [
        ("while the first results are written", "quick_quick_002 attempt", 0.5),
        ("in the middle of a training", "quick_quick_005 attempt 1: training", 2.0),
    ]
    later = later if either.uid == 0 else chance.sample(later, 1)
    for moment, word, longest_s in later:
        kept = finished_files(session)
        drive = either.drive("resume", session)
        drive.await_text(word)
        time.sleep(chance.uniform(0, longest_s))
        kill_and_look(drive, moment)
        check_every_file_opens(session)
        check_unchanged(kept)

    kept = finished_files(session)
    drive = either.drive("resume", session)
    assert drive.process.wait(120) == 0, drive.text()
    check_unchanged(kept)
    check_every_file_opens(session)
    counts = check_complete(session, len(experiments))
    print(f"{counts}")
    # Each kill interrupts one attempt at most; where Ray starts quickly the first one may do so too.
    assert len(experiments) <= counts["attempts"] <= len(experiments) + 1 + len(later)
    assert counts["attempts"] - counts["executed"] <= counts["interrupted"]
    assert not drive.survivors(0.2)
