"""Campaigns on a net: started on a machine as a user would, and what must hold of their records."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import profiler
from profiler.store.read import Session
from tests.campaigns import config
from tests.cluster.net import OWN, Machine, Net
from tests.process.harness import wait_until

COUNTER_S = 0.25  # the virtual counters move every 100 ms, at both edges
CLOCK_LIMIT_S = 0.005


@dataclass
class Driver:
    """`profiler WORDS` on a machine of the net; what it says is in the file `said`."""

    machine: Machine
    process: subprocess.Popen[bytes]
    said: Path

    def text(self) -> str:
        return self.said.read_text(errors="replace")

    def await_text(self, word: str, seconds: float = 120, *, times: int = 1) -> None:
        def there() -> bool:
            assert self.process.poll() is None or self.text().count(word) >= times, self.text()
            return self.text().count(word) >= times

        wait_until(there, seconds)

    def pids(self) -> list[int]:
        """The driver itself, as this machine numbers it."""
        return [pid for pid, line in self.machine.processes().items() if " -m profiler " in line and "/mnt" not in line]

    def kill(self, number: int = signal.SIGKILL) -> None:
        for pid in self.pids():
            os.kill(pid, number)
        self.process.wait(60)


def start(net: Net, *words: object, on: Machine | None = None, by_environment: bool = False) -> Driver:
    """`by_environment`: the cluster is named by RAY_ADDRESS."""
    machine = on or net.head
    said = net.folder / f"said-{len(list(net.folder.glob('said-*')))}"
    command = [sys.executable, "-m", "profiler", *words, *([] if by_environment else ["--address", net.address])]
    env = {"RAY_ADDRESS": net.address} if by_environment else {}
    with said.open("wb") as file:
        return Driver(machine, machine.popen(*command, env=env, stdout=file, stderr=file), said)


def home_of(net: Net, machine: Machine) -> tuple[Path, Path]:
    """Where a driver on `machine` keeps its campaigns: as seen from here, and from there. Only that machine sees it."""
    return (net.folder, net.folder) if machine is net.head else (machine.folder, OWN)


def session_of(net: Net, on: Machine | None = None) -> Path:
    return max((home_of(net, on or net.head)[0] / "results").glob("run_*"))


def campaign(net: Net, experiments: Sequence[Mapping[str, Any]], on: Machine | None = None, **top: Any) -> list[object]:
    """The words that run it on every GPU at once."""
    top = {"isolation": "gpu", "cooling": {"seconds": 0}, **top}
    here, there = home_of(net, on or net.head)
    path = config(here, [dict(item) for item in experiments], **top)
    return ["run", there / path.name, "--results", there / "results"]


def check_records(net: Net, session: Session, planned: int) -> dict[str, Any]:
    """One valid final row for each planned run, its energy from the node it ran on; raises AssertionError."""
    rows = session.rows()
    finals = [row for row in rows if row["is_final"]]
    assert len(rows) == len(finals) == planned, (len(rows), len(finals))
    assert len({row["run_id"] for row in finals}) == planned
    watts = {gpu.uuid: (machine.name, gpu.eras[-1].segments[0].from_w) for machine in net.machines
             for gpu in machine.gpus.gpus}  # fmt: skip
    worst_s = 0.0
    for row in finals:
        assert row["valid"], (row["run_id"], row["reasons"], row["error_message"])
        host, power_w = watts[row["gpu_uuid"]]
        assert row["host"] == host, (row["host"], row["gpu_uuid"])
        assert row["gpu_energy_j"] is not None, row["null_reasons"]
        worst_s = max(worst_s, abs(row["gpu_energy_j"] / power_w - row["duration_s"]))
    assert worst_s <= COUNTER_S, worst_s
    nodes = {row["node_id"]: row for row in session.nodes()}
    assert {row["node_id"] for row in finals} <= nodes.keys()
    return {
        "runs": planned,
        "attempts": len(session.attempts()),
        "by_gpu": dict(sorted(Counter(f"{row['host']} {row['gpu_uuid']}" for row in finals).items())),
        "verdicts": dict(Counter(row["verdict"] for row in finals)),
        "largest_energy_error_as_seconds_of_power": round(worst_s, 4),
        "clock_offsets_ms": {row["host"]: round(row["clock_offset_s"] * 1e3, 3) for row in nodes.values()},
        "clock_uncertainties_ms": {row["host"]: round(row["clock_uncertainty_s"] * 1e3, 3) for row in nodes.values()},
    }


def check_files(session: Session) -> None:
    """Each run's own log, events and record came to the session, whole."""
    for row in session.rows():
        folder = session.root / row["experiment_id"]
        log = (folder / "training.log").read_text()
        assert f"executed {row['run_id']}" in log, folder
        assert (folder / "experiment.json").is_file()
        assert len((folder / "events.jsonl").read_text().splitlines()) >= 3, folder
        trace = session.samples(row["run_id"])
        assert not trace.empty and set(trace["node_id"]) == {row["node_id"]}, row["run_id"]
    assert not list(session.root.glob("*/.arriving-*"))


def kept_on_nodes(net: Net, driver: Machine | None = None) -> dict[str, list[str]]:
    """Results that machines still keep for a driver in their spools."""
    found = {}
    for machine in [machine for machine in net.machines if machine is not (driver or net.head)]:
        said = machine.run("find", "/var/tmp", "-name", "*.result")
        if said.strip():
            found[machine.name] = said.split()
    return found


def opened(net: Net, on: Machine | None = None) -> Session:
    return profiler.open(session_of(net, on))
