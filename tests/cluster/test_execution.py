"""The campaign's loop with the real journal on virtual nodes: every run ends once, and what cannot go on is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.execution import Execution, entries_of
from cluster.schedule import Schedule
from profiler import config
from profiler.errors import CannotRunError
from profiler.journal import Journal, PendingRun
from profiler.planner import make_plan
from profiler.solo import SoloRuns
from profiler.store.layout import create_session
from profiler.store.read import open_session
from profiler.workloads import load_catalog
from tests.benchmarks.schedule import campaign_figures
from tests.campaigns import REPOS, quick
from tests.cluster.virtual import A100, H100, Steady, VirtualCluster

CATALOG = load_catalog([REPOS])


def executed(
    results: Path,
    nodes: dict[str, list[str]],
    items: list[dict[str, Any]],
    ending: Callable[[PendingRun], str] = lambda pending: "valid",
    **top: Any,
) -> tuple[VirtualCluster, list[dict[str, Any]], list[dict[str, Any]]]:
    """The cluster, the rows, and the events of a campaign that was driven to its end."""
    plan = make_plan(config.load({"name": "t", "seed": 1, **top, "experiments": items}, catalog=CATALOG), CATALOG)
    folder = create_session(results)
    journal = Journal.create(folder, plan, CATALOG)
    cluster = VirtualCluster(folder, nodes, ending)
    schedule: Schedule[PendingRun] = Schedule(plan.campaign.isolation)
    schedule.fill(entries_of(plan, journal.pending()))
    events: list[dict[str, Any]] = []
    Execution(schedule, journal, cluster, cluster, Steady(), Steady(), SoloRuns(plan), events.append).run()
    journal.finish()
    return cluster, open_session(folder.root).attempts(), events


def runs(count: int, **more: Any) -> dict[str, Any]:
    return {**quick(), "runs_per_config": count, **more}


def test_every_run_has_one_final_record_and_failures_are_repeated(tmp_path: Path) -> None:
    def ending(pending: PendingRun) -> str:
        return "failed" if pending.attempt == 1 and pending.run.index % 3 == 0 else "valid"

    _, rows, _ = executed(tmp_path, {"a": [H100], "b": []}, [runs(6)], ending)
    assert Counter(row["index"] for row in rows if row["is_final"]) == Counter(range(1, 7))
    assert Counter(row["attempt"] for row in rows) == Counter({1: 6, 2: 2})


def test_a_gpu_with_a_stranger_is_left_alone_and_its_run_keeps_its_number(tmp_path: Path) -> None:
    asked: list[int] = []

    def ending(pending: PendingRun) -> str:
        asked.append(pending.run.index)
        return "gate_closed" if len(asked) == 1 else "valid"

    _, rows, events = executed(tmp_path, {"a": [H100, H100]}, [runs(6)], ending, isolation="gpu")
    assert {row["attempt"] for row in rows} == {1}
    assert len(rows) == 6
    assert len({row["gpu_uuid"] for row in rows}) == 1
    (line,) = [event["message"] for event in events if event["event"] == "warning"]
    assert line.startswith("quarantined GPU GPU-a-")


def test_a_node_that_cannot_go_on_takes_all_its_gpus_with_it(tmp_path: Path) -> None:
    asked: list[int] = []

    def ending(pending: PendingRun) -> str:
        asked.append(pending.run.index)
        return "node_closed" if len(asked) == 1 else "valid"

    cluster, rows, events = executed(tmp_path, {"a": [H100, H100], "b": [A100]}, [runs(5)], ending, isolation="gpu")
    (line,) = [event["message"] for event in events if event["event"] == "warning"]
    closed = line.split()[1]
    after = {node for at_s, node, _ in cluster.started if at_s > 1}
    assert len(rows) == 5
    assert closed not in after


def test_nothing_left_to_run_on_is_told_with_its_reasons(tmp_path: Path) -> None:
    items = [runs(2, gpu_model="H100"), runs(2, gpu_model="A100")]
    with pytest.raises(CannotRunError, match=r"model A100\n  GPU GPU-b-0 of b: planted\nfree it.*profiler resume"):
        executed(
            tmp_path, {"a": [H100], "b": [A100]}, items,
            lambda pending: "gate_closed" if pending.run.gpu_model == "A100" else "valid",
        )  # fmt: skip
    rows = open_session(next(tmp_path.glob("run_*"))).attempts()
    assert [row["gpu_name"] for row in rows] == [H100, H100]


def test_runs_that_any_node_could_serve_are_not_said_to_need_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match=r"^nothing is left to run on\n  a: planted\nfree it"):
        executed(tmp_path, {"a": []}, [runs(2)], lambda pending: "node_closed")


def test_blocks_stay_on_their_node(tmp_path: Path) -> None:
    items = [runs(4, hyperparameters={"epochs": epochs}) for epochs in (1, 2)]
    _, rows, _ = executed(tmp_path, {name: [H100] for name in "ab"}, items, order="blocked")
    node_of = {row["index"]: row["node_id"] for row in rows}
    assert all(node_of[first] == node_of[first + 1] for first in range(1, 9, 2))
    assert set(node_of.values()) == set("ab")


@pytest.mark.slow
def test_many_runs_on_many_nodes_in_little_memory(tmp_path: Path) -> None:
    figures = campaign_figures(1000, 60, tmp_path)
    assert figures["runs_with_a_final_record"] == figures["runs"] == 1000
    assert figures["decision_cpu_ms"]["p99"] < 50
    assert abs(figures["memory_last_over_second_percent"]) < 10
