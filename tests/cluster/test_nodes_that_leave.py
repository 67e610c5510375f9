"""The campaign's loop when nodes go: nothing is started on them again, and a run does not pay for its node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.execution import NODES_LOST, Execution, entries_of
from cluster.placement import Slot
from cluster.schedule import Schedule
from profiler import config
from profiler.journal import Journal, PendingRun
from profiler.planner import make_plan
from profiler.solo import SoloRuns
from profiler.store.layout import create_session
from profiler.store.read import open_session
from profiler.workloads import load_catalog
from tests.campaigns import REPOS, quick
from tests.cluster.virtual import H100, Steady, VirtualCluster

CATALOG = load_catalog([REPOS])


@dataclass
class Dying(VirtualCluster):
    """On the nodes of `dying` every attempt's task ends without a word."""

    dying: Sequence[str] = ()

    def _messages(self, pending: PendingRun, slots: Sequence[Slot]) -> list[dict[str, Any]]:
        if slots[0].node.node_id in self.dying:
            return [{"at_s": self.now_s + 1, "kind": "lost", "reason": "interrupted", "detail": "its worker died"}]
        return super()._messages(pending, slots)


@dataclass
class Leaving(Steady):
    """Nodes that are gone; that is known only when they have been asked for so many times."""

    gone: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def answers(self, node_id: str) -> bool | None:
        if node_id not in self.gone:
            return True
        self.gone[node_id] -= 1
        if self.gone[node_id] > 0:
            return None
        self.left.append(node_id)
        return False

    def poll(self) -> list[str]:
        left, self.left = self.left, []
        return left


def rows_of(results: Path, nodes: dict[str, list[str]], dying: Sequence[str], members: Steady) -> list[dict[str, Any]]:
    """All attempts of a campaign of six runs without retries."""
    document = {"name": "t", "seed": 1, "max_retries": 0, "isolation": "gpu",
                "experiments": [{**quick(), "runs_per_config": 6}]}  # fmt: skip
    plan = make_plan(config.load(document, catalog=CATALOG), CATALOG)
    folder = create_session(results)
    journal = Journal.create(folder, plan, CATALOG)
    cluster = Dying(folder, nodes, dying=dying)
    schedule: Schedule[PendingRun] = Schedule("gpu")
    schedule.fill(entries_of(plan, journal.pending()))
    Execution(schedule, journal, cluster, cluster, members, Steady(), SoloRuns(plan), lambda event: None).run()
    return open_session(folder.root).attempts()


def test_runs_of_a_lost_node_go_elsewhere_and_no_other_is_started_there(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"a": [H100, H100], "b": [H100]}, ["a"], Leaving(gone={"a": 5}))
    assert Counter(row["index"] for row in rows if row["is_final"] and row["valid"]) == Counter(range(1, 7))
    lost = [row for row in rows if not row["valid"]]
    assert len(lost) == 2  # one on each GPU of the node, and none while nobody knew yet
    for row in lost:
        assert (row["node_id"], row["reasons"], row["is_final"]) == ("a", ["interrupted"], False)
        assert "left the cluster" in row["evidence"]["interrupted"]
        assert row["retry_decision"] == "repeated: its node was lost"


def test_a_worker_that_dies_on_a_living_node_counts_against_its_run(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"a": [H100]}, ["a"], Leaving())
    assert len(rows) == 6
    assert all(row["is_final"] and "its worker died" in row["evidence"]["interrupted"] for row in rows)


def test_a_run_whose_nodes_always_go_is_given_up_at_last(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(30)]
    rows = rows_of(tmp_path, {name: [H100] for name in names}, names, Leaving(gone=dict.fromkeys(names, 1)))
    attempts = Counter(row["index"] for row in rows)
    assert set(attempts.values()) == {NODES_LOST + 1}
    assert all(row["is_final"] == (row["attempt"] == NODES_LOST + 1) for row in rows)
