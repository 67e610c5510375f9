"""Attempts in this process, without Ray: real trainers, the real sampler, a thread for the background's task."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actors.energy import EnergyActor
from profiler import config, host
from profiler.attempt import AttemptSpec, GateLimits, run_attempt
from profiler.background import BackgroundJob, loop_background
from profiler.config import Cooling
from profiler.planner import make_plan
from profiler.record import NodeFacts
from profiler.store.layout import create_session
from profiler.trainer import driver_environment
from profiler.workloads import load_catalog
from tests.campaigns import REPOS


class ThreadTask:
    """A background that runs in a thread of this process."""

    def __init__(self, job: BackgroundJob, gpu_uuid: str | None) -> None:
        self._thread = threading.Thread(target=loop_background, args=(job, gpu_uuid), daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def wait(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimeoutError("the background did not end")


class LocalNode:
    """This machine as a node that executes attempts one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.actor = EnergyActor(10.0, "here")
        self._catalog = load_catalog([REPOS])

    def attempt(self, item: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The row of one attempt of `item`, with its cooling; `more`: fields of AttemptSpec."""
        messages = list(self.messages(item, **more))
        row: dict[str, Any] = next(message["row"] for message in messages if message["kind"] == "result")
        cooled = next(message for message in messages if message["kind"] == "cooled")
        return {**row, **{name: cooled[name] for name in ("cooling_s", "cooling_end", "cooling_idle_proven")}}

    def messages(self, item: dict[str, Any], **more: Any) -> Iterator[dict[str, Any]]:
        campaign = config.load({"name": "here", "seed": 1, "experiments": [item]}, catalog=self._catalog)
        (planned,) = make_plan(campaign, self._catalog)
        gpus = self.actor.sources.gpus
        gpu = (gpus[0].uuid, gpus[0].name) if gpus else (None, None)
        node = NodeFacts("here", host.hostname(), host.boot_id(), *gpu, host.anchor())
        background = planned.background
        session = create_session(self.folder)
        gate = GateLimits(5.0, 64.0, None, self.actor.idle_memory_mib, "", (), {})
        spec: dict[str, Any] = {
            "session_root": str(session.root),
            "run_id": session.run_id(1),
            "attempt": 1,
            "seed": 1,
            "planned": planned,
            "foreground": self._catalog.resolve(planned.repo, planned.model),
            "background": self._catalog.resolve(background.repo, background.model) if background else None,
            "threads": 1,
            "background_threads": 1,
            "environment": driver_environment(),
            "watch_pids": (os.getpid(),),
            "gate": gate,
            "sampling_rate_hz": 10.0,
            "allow_uncontained": False,
            # Whatever else this machine does; and nobody is on a virtual GPU but whom a player puts there.
            "thresholds": {"cpu_contention": 1e6, "gpu_not_used": 3600.0},
            "cooling": Cooling(seconds=0.0),
        }
        launch = lambda job: ThreadTask(job, node.gpu_uuid)  # noqa: E731
        yield from run_attempt(AttemptSpec(**{**spec, **more}), node, self.actor, launch)


@contextmanager
def local_node(folder: Path) -> Iterator[LocalNode]:
    node = LocalNode(folder)
    try:
        yield node
    finally:
        node.actor.stop()
        node.actor.sources.close()
