"""Runs the solo runs of a campaign in this process, without Ray: `python -m tests.local_driver CONFIG RESULTS`.

The gate, the attempt, the sampler, the judging and the store are the real ones; only slots and tasks are left out.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from actors.energy import EnergyActor
from profiler import host
from profiler.attempt import AttemptSpec, GateLimits, run_attempt
from profiler.config import load
from profiler.journal import Journal
from profiler.planner import make_plan
from profiler.record import NodeFacts
from profiler.store.layout import create_session
from profiler.store.write import write_samples
from profiler.trainer import driver_environment
from profiler.workloads import load_catalog

NODE = "here"


def main(config: str, results: str) -> None:
    catalog = load_catalog()
    campaign = load(config, catalog=catalog)
    plan = make_plan(campaign, catalog)
    folder = create_session(Path(results))
    journal = Journal.create(folder, plan, catalog)
    actor = EnergyActor(campaign.sampling_rate_hz, NODE)
    gpu = actor.sources.gpus[0] if actor.sources.gpus else None
    facts = NodeFacts(NODE, host.hostname(), host.boot_id(), gpu and gpu.uuid, gpu and gpu.name, host.anchor())
    gate = campaign.gate
    limits = GateLimits(
        gate.max_wait_seconds, gate.memory_margin_mib, gate.temperature_c, actor.idle_memory_mib, facts.boot_id, (), {}
    )
    for item in journal.pending():
        run, run_id = item.run, folder.run_id(item.run.index)
        spec = AttemptSpec(
            str(folder.root), run_id, item.attempt, plan.seed, run, catalog.resolve(run.repo, run.model), None,
            host.cpu_count(), 0, driver_environment(), (os.getpid(),), limits, campaign.sampling_rate_hz, False,
            dict(campaign.thresholds), run.cooling,
        )  # fmt: skip
        journal.started(run, run_id, item.attempt, NODE, facts.boot_id)
        for message in run_attempt(spec, facts, actor, _no_background):  # type: ignore[arg-type]
            if message["kind"] == "result":
                row, sightings = message["row"], message["processes"]
                journal.finished(run, row, sightings, retry_may_help=message["retry_may_help"])
    actor.stop()
    write_samples(folder, NODE, actor.rows(0)[0])
    journal.finish()


def _no_background(job: object) -> None:
    raise AssertionError("only solo runs are executed here")


if __name__ == "__main__":
    main(*sys.argv[1:])
