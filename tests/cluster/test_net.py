"""Two machines made of namespaces with a real cluster: preflight, campaigns, a node that joins, who is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.campaigns import pair, quick
from tests.cluster.campaigns import (
    CLOCK_LIMIT_S,
    campaign,
    check_files,
    check_records,
    kept_on_nodes,
    opened,
    start,
)
from tests.cluster.net import OWN, Net, lacking, made_net
from tests.energy.golden_trees import package
from tests.fakes.clocks import Clocks
from tests.fakes.powercap import build

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.skipif(lacking() is not None, reason=str(lacking()))]

SKEW_S = 5.0
HELD_S = 20.0
NOBODY = 65534


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    """A head; the second machine has not joined yet."""
    with made_net(2, ray=False) as made:
        made.head.start_ray()
        yield made


def say(net: Net, *words: object, expect: int = 0, **env: str) -> str:
    """What `profiler WORDS --address ...` prints on the head."""
    process = net.head.popen(
        sys.executable, "-m", "profiler", *words, "--address", net.address, env=env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = process.communicate(timeout=120)
    assert process.returncode == expect, (out + err).decode()
    return out.decode() + (err.decode() if expect else "")


def test_a_client_without_the_clusters_token_is_refused(net: Net) -> None:
    said = say(net, "status", expect=3, RAY_AUTH_TOKEN="0" * 64)
    assert "no Ray cluster answers" in said and "token" in said


def test_a_node_that_joins_late_is_used_and_gives_its_figures_through_ray(net: Net) -> None:
    runs = [quick(epochs=1, epoch_seconds=HELD_S, seed=n) for n in range(2)]  # these hold the head's GPUs meanwhile
    runs += [
        pair({"epochs": 1, "epoch_seconds": 0.4, "seed": n}, {"epochs": 1, "epoch_seconds": 0.1}) for n in range(3)
    ]
    runs += [quick(epochs=1, epoch_seconds=0.5, seed=n) for n in range(12)]
    driver = start(net, *campaign(net, runs))
    driver.await_text("attempt 1: training", times=2)
    net.machines[1].start_ray(head=net.head.address)
    driver.await_text("has joined the cluster")
    held = json.loads(say(net, "status", "--json"))["nodes"]
    assert {node["hostname"] for node in held} == {"machine1", "machine2"}
    assert driver.process.wait(120) == 0, driver.text()
    session = opened(net)
    found = check_records(net, session, len(runs))
    check_files(session)
    print(found)
    assert {row["host"] for row in session.rows()} == {"machine1", "machine2"}
    assert all(row["background_gpu_uuid"] == row["gpu_uuid"] for row in session.rows() if row["mode"] == "parallel")
    assert max(abs(node["clock_offset_s"]) for node in session.nodes()) <= CLOCK_LIMIT_S
    assert {node["host"]: node["driver"] for node in session.nodes()} == {"machine1": True, "machine2": False}
    assert not kept_on_nodes(net)


def test_each_fault_of_a_node_is_named_with_the_line_that_mends_it(net: Net) -> None:
    """Last, since it spoils the second machine: a skewed clock, counters that may not be read, no GPU for Ray."""
    second = net.machines[1]
    second.kill_all()
    build(second.folder / "sys", [replace(package(0, 40.0), mode=0o400)])
    os.chown(second.folder / "sys/class/powercap/intel-rapl:0/energy_uj", NOBODY, NOBODY)
    Clocks(second.folder).move(SKEW_S, 0)
    moved = {"LD_PRELOAD": str(OWN / "clocks.so"), "FAKE_CLOCKS": str(OWN / "clocks")}
    blind = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    env = {**moved, "PROFILER_SYSFS_ROOT": str(OWN / "sys")}
    second.start_ray("--num-gpus=0", head=net.head.address, env=env, under=blind)
    nodes = by_host(net)
    assert nodes["machine1"]["serves"] and not nodes["machine2"]["serves"]
    told = "\n".join(nodes["machine2"]["remarks"])
    assert "offers no GPU" in told and "--num-gpus=2" in told
    assert "its clock is 5.00" in told and "ahead of" in told and "chronyc makestep" in told
    assert "package-0 may not be read" in told and "energy_uj" in told
    assert abs(nodes["machine2"]["clock_offset_s"] - SKEW_S) <= CLOCK_LIMIT_S
    words = campaign(net, [quick(epochs=1)])
    assert "machine2" in say(net, *words, "--require", "all", expect=3)
    driver = start(net, *words, by_environment=True)
    assert driver.process.wait(60) == 0, driver.text()
    assert "machine2 is left out: offers no GPU" in driver.text()
    assert {row["host"] for row in opened(net).rows()} == {"machine1"}


def by_host(net: Net) -> dict[str, Any]:
    """The preflight's rows, once Ray knows of the death of the machine's earlier self."""
    until = time.monotonic() + 40
    while True:
        rows = json.loads(say(net, "doctor", "--json"))["nodes"]
        if len(rows) == len(net.machines):
            return {row["host"]: row for row in rows}
        assert time.monotonic() < until, rows
