"""What the programs of this folder measure on a net: whole campaigns, pairs amid strangers. Each returns a document."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tests.campaigns import pair, quick
from tests.cluster.campaigns import CLOCK_LIMIT_S, campaign, check_files, check_records, kept_on_nodes, opened, start
from tests.cluster.net import Machine, Net
from tests.cluster.noise import Stay, overlaps

CAMPAIGN_S = 1200


def whole_campaign(net: Net, pairs: int) -> dict[str, Any]:
    """`pairs` parallel runs on all GPUs at once: every figure from the run's own node, all of it in one dataset."""
    experiments = [
        pair({"epochs": 2, "epoch_seconds": 0.25 + 0.25 * (n % 2), "seed": n}, {"epochs": 2, "epoch_seconds": 0.1})
        for n in range(pairs)
    ]
    began_s = time.monotonic()
    driver = start(net, *campaign(net, experiments))
    code = driver.process.wait(CAMPAIGN_S)
    wall_s = time.monotonic() - began_s
    assert code == 0, driver.text()
    session = opened(net)
    found = check_records(net, session, pairs)
    check_files(session)
    offsets = [node["clock_offset_s"] for node in session.nodes()]
    assert len(offsets) == len(net.machines)
    assert max(map(abs, offsets)) <= CLOCK_LIMIT_S, offsets
    assert all(row["background_gpu_uuid"] == row["gpu_uuid"] for row in session.rows())
    assert not kept_on_nodes(net), "something stayed in a spool that the driver has"
    return {**found, "wall_s": round(wall_s, 1), "hosts": len({row["host"] for row in session.rows()})}


def pairs_amid_noise(net: Net, pairs: int, solos: int, noisy: int) -> dict[str, Any]:
    """Pairs and solo runs while `noisy` strangers' Ray tasks at a time want fractions of GPUs."""
    experiments = [
        *(pair({"epochs": 1, "epoch_seconds": 0.3, "seed": n}, {"epochs": 1, "epoch_seconds": 0.1})
          for n in range(pairs)),
        *(quick(epochs=1, epoch_seconds=0.3, seed=n) for n in range(solos)),
    ]  # fmt: skip
    with noise(net, noisy) as told:
        driver = start(net, *campaign(net, experiments))
        code = driver.process.wait(CAMPAIGN_S)
    assert code == 0, driver.text()
    session = opened(net)
    found = check_records(net, session, pairs + solos)
    rows = session.rows()
    strangers = told()
    runs = [Stay.of_row(row) for row in rows]
    paired = [row for row in rows if row["mode"] == "parallel"]
    return {
        **found,
        "pairs": len(paired),
        "pairs_on_one_gpu": sum(row["background_gpu_uuid"] == row["gpu_uuid"] is not None for row in paired),
        "noise_tasks": len(strangers),
        "noise_tasks_while_runs_went_on": sum(
            any(stay.start_ns < run.end_ns and stay.end_ns > run.start_ns for run in runs) for stay in strangers
        ),
        "outsiders_on_a_runs_gpu": overlaps(runs, strangers),
        "runs_with_another_run_on_their_gpu": overlaps(runs, runs) // 2,
        "solo_runs_with_company": overlaps([Stay.of_row(row) for row in rows if row["mode"] != "parallel"],
                                           [*strangers, *runs]),
    }  # fmt: skip


@contextmanager
def noise(net: Net, noisy: int) -> Iterator[Any]:
    """A stranger's job on the head while inside; yields a function that tells, after it, when its tasks were where."""
    file = net.folder / "noise.jsonl"
    words = [sys.executable, "-m", "tests.cluster.noise", net.address, str(noisy), file]
    with (net.folder / "noise.log").open("wb") as said:
        process = net.head.popen(*words, stdout=said, stderr=said)

    def told() -> list[Stay]:
        return [Stay(**json.loads(line)) for line in file.read_text().splitlines()]

    try:
        _await_first(net, process)
        yield told
    finally:
        _end(net.head, "tests.cluster.noise")
        process.wait(60)


def _await_first(net: Net, process: Any) -> None:
    until = time.monotonic() + 120
    while not (net.folder / "noise.jsonl").exists():
        assert process.poll() is None and time.monotonic() < until, (net.folder / "noise.log").read_text()
        time.sleep(0.1)


def _end(machine: Machine, word: str) -> None:
    for pid, line in machine.processes().items():
        if word in line:
            os.kill(pid, signal.SIGTERM)


def document(name: str, found: dict[str, Any]) -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"program": f"python -m tests.cluster {name}", "date": now, **found}, indent=1)
