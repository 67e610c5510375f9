"""The driver with very many runs and nodes: how long a scheduling decision takes, and whether memory stays as it is.

`python -m tests.benchmarks.schedule` writes one JSON document. The plan, the schedule, the campaign's loop, the live
view and the summaries are the real ones; nodes and clock are virtual, and rows are completed but not written, since
100,000 Parquet files are about a disk. What the real journal needs for each run is measured with fewer runs beside it.
"""

from __future__ import annotations

import argparse
import array
import gc
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from cluster.execution import Execution, entries_of
from cluster.schedule import Assignment, Entry, Schedule
from profiler import config
from profiler.cli.view import PlainView
from profiler.journal import Journal, PendingRun, retry_decision
from profiler.planner import Plan, PlannedRun, make_plan
from profiler.solo import SoloRuns
from profiler.store.layout import SessionFolder, create_session
from profiler.store.rows import complete_run
from profiler.store.summaries import Summaries
from profiler.verdict import Finding
from profiler.workloads import Catalog, load_catalog
from tests.campaigns import REPOS, quick
from tests.cluster.virtual import A100, H100, Steady, VirtualCluster


class TimedSchedule(Schedule[PendingRun]):
    """The schedule; every decision is timed, in CPU seconds of this thread and in wall seconds."""

    def __init__(self, isolation: Any) -> None:
        super().__init__(isolation)
        self.cpu_ns, self.wall_ns = array.array("q"), array.array("q")

    def next(self) -> Assignment[PendingRun] | None:
        return self._timed(super().next)

    def free(self, assignment: Assignment[PendingRun]) -> None:
        return self._timed(lambda: super(TimedSchedule, self).free(assignment))

    def again(self, entry: Entry[PendingRun], node: str) -> None:
        return self._timed(lambda: super(TimedSchedule, self).again(entry, node))

    def _timed(self, decide: Callable[[], Any]) -> Any:
        wall_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        try:
            return decide()
        finally:
            self.cpu_ns.append(time.thread_time_ns() - cpu_ns)
            self.wall_ns.append(time.perf_counter_ns() - wall_ns)


class UnwrittenJournal:
    """Decides and completes records as the journal does, keeps the summaries, writes no row."""

    def __init__(self, folder: SessionFolder) -> None:
        self._folder = folder
        self._summaries = Summaries(folder)
        self.final = 0

    @property
    def root(self) -> Path:
        return self._folder.root

    def run_id(self, run: PlannedRun) -> str:
        return self._folder.run_id(run.index)

    def started(self, *arguments: object, **more: object) -> None:
        """Not written."""

    def refused(self, run_id: str, attempt: int, problems: str) -> None:
        """Not written."""

    def finished(
        self, run: PlannedRun, row: Mapping[str, Any], processes: Sequence[Any], *, retry_may_help: bool
    ) -> dict[str, Any]:
        final, decision = retry_decision(run, row, retry_may_help)
        whole = complete_run({**row, "is_final": final, "retry_decision": decision})
        self._summaries.add(whole)
        self._summaries.refresh_if_due()
        self.final += final
        return whole

    def lost(self, run: PlannedRun, run_id: str, attempt: int, finding: Finding) -> dict[str, Any]:
        raise AssertionError("no virtual attempt is lost")

    def cooled(self, row: dict[str, Any] | None, cooling: Mapping[str, Any]) -> None:
        """Not written."""

    def flush(self) -> None:
        self._summaries.refresh()


def make_campaign(runs: int, catalog: Catalog) -> Plan:
    """Half of the runs take any GPU, others are pinned to a kind, some take two or eight GPUs."""
    kinds: list[tuple[int, dict[str, Any]]] = [
        (runs * 50 // 100, {}),
        (runs * 20 // 100, {"gpu_model": "H100"}),
        (runs * 20 // 100, {"gpu_model": "A100"}),
        (runs * 8 // 100, {"gpus": 2}),
        (runs * 2 // 100, {"gpus": 8}),
    ]
    items = [
        {**quick(), "mode": "mutation", "mutate": ["learning_rate", "seed"], "runs_per_config": count, **more}
        for count, more in kinds
    ]
    raw: dict[str, Any] = {"name": "large", "seed": 1, "order": "shuffled", "isolation": "gpu", "experiments": items}
    return make_plan(config.load(raw, catalog=catalog), catalog)


def make_nodes(count: int) -> dict[str, list[str]]:
    """Nodes with one, two and eight GPUs of two kinds, in turns."""
    sizes, models = (1, 2, 1, 2, 8), (H100, A100)
    return {f"node-{number:04d}": [models[number % 2]] * sizes[number % 5] for number in range(count)}


def ending(pending: PendingRun) -> str:
    """One attempt in 50 fails and is repeated; one in 5,000 finds its GPU in use by others for ever."""
    if pending.attempt == 1 and pending.run.index % 5000 == 0:
        return "gate_closed" if pending.run.index % 10_000 else "failed"
    return "failed" if pending.attempt == 1 and pending.run.index % 50 == 7 else "valid"


class MemoryLog:
    """Resident memory of this process, by the share of runs that are done."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._process = psutil.Process()
        self.rss_mib: list[float] = []

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "attempt" and event["row"]["is_final"]:
            self._done += 1
            if self._done * 100 // self._total > len(self.rss_mib):
                self.rss_mib.append(self._process.memory_info().rss / 2**20)

    def quarter(self, number: int) -> float:
        size = len(self.rss_mib) // 4
        part = self.rss_mib[(number - 1) * size : number * size]
        return sum(part) / len(part)


def campaign_figures(runs: int, nodes: int, results: Path) -> dict[str, Any]:
    plan = make_campaign(runs, load_catalog([REPOS]))
    folder = create_session(results)
    cluster = VirtualCluster(folder, make_nodes(nodes), _once(ending), keep_starts=False)
    schedule, journal = TimedSchedule(plan.campaign.isolation), UnwrittenJournal(folder)
    schedule.fill(entries_of(plan, [PendingRun(run) for run in plan]))
    view, memory = PlainView(say=lambda line: None), MemoryLog(len(plan))

    def observe(event: dict[str, Any]) -> None:
        view(event)
        memory(event)

    gc.collect()
    begun_s, cpu_s = time.monotonic(), time.process_time()
    journal_like: Any = journal
    Execution(schedule, journal_like, cluster, cluster, Steady(), Steady(), SoloRuns(plan), observe).run()
    cpu_s = time.process_time() - cpu_s
    second, last = memory.quarter(2), memory.quarter(4)
    return {
        "runs": len(plan),
        "runs_with_a_final_record": journal.final,
        "nodes": nodes,
        "gpus": sum(map(len, cluster.nodes.values())),
        "virtual_hours": round(cluster.now_s / 3600, 2),
        "wall_seconds": round(time.monotonic() - begun_s, 1),
        "cpu_seconds": round(cpu_s, 1),
        "decisions": len(schedule.cpu_ns),
        "decision_cpu_ms": _percentiles(schedule.cpu_ns),
        "decision_wall_ms": _percentiles(schedule.wall_ns),
        "memory_mib": {f"quarter_{number}": round(memory.quarter(number), 1) for number in (1, 2, 3, 4)},
        "memory_last_over_second_percent": round(100 * (last / second - 1), 2),
    }


def _once(decide: Callable[[PendingRun], str]) -> Callable[[PendingRun], str]:
    """A run that found its gate closed does not find it so on the next GPU."""
    closed: set[int] = set()

    def ending_of(pending: PendingRun) -> str:
        found = decide(pending)
        if found == "gate_closed" and pending.run.index in closed:
            return "valid"
        closed.update([pending.run.index] if found == "gate_closed" else [])
        return found

    return ending_of


def journal_figures(runs: int, results: Path) -> dict[str, Any]:
    """The same loop with the real journal: memory it keeps for each run, and time it takes to write one."""
    catalog = load_catalog([REPOS])
    plan = make_campaign(runs, catalog)
    folder = create_session(results)
    journal = Journal.create(folder, plan, catalog)
    cluster = VirtualCluster(folder, make_nodes(20), keep_starts=False)
    schedule: Schedule[PendingRun] = Schedule(plan.campaign.isolation)
    schedule.fill(entries_of(plan, journal.pending()))
    memory = MemoryLog(len(plan))
    begun_s, cpu_s = time.monotonic(), time.process_time()
    Execution(schedule, journal, cluster, cluster, Steady(), Steady(), SoloRuns(plan), memory).run()
    journal.flush()
    grown_mib = memory.rss_mib[-1] - memory.rss_mib[len(memory.rss_mib) // 2]
    return {
        "runs": len(plan),
        "grown_kib_a_run_in_second_half": round(1024 * grown_mib / (len(plan) / 2), 2),
        "wall_ms_a_run": round(1000 * (time.monotonic() - begun_s) / len(plan), 2),
        "cpu_ms_a_run": round(1000 * (time.process_time() - cpu_s) / len(plan), 2),
    }


def _percentiles(values_ns: array.array[int]) -> dict[str, float]:
    ordered = sorted(values_ns)
    places = {"p50": 0.50, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * p))] / 1e6, 4) for name, p in places.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--written-runs", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = {
            "what": "the driver's loop on virtual nodes with a virtual clock",
            "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
            "campaign": campaign_figures(options.runs, options.nodes, Path(temporary)),
            "journal": journal_figures(options.written_runs, Path(temporary)),
        }
    print(json.dumps(figures, indent=2))
    campaign = figures["campaign"]
    assert isinstance(campaign, dict)
    flat = abs(campaign["memory_last_over_second_percent"]) <= 10
    sys.exit(0 if flat and campaign["decision_wall_ms"]["p99"] <= 50 else 1)


if __name__ == "__main__":
    main()
