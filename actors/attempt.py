"""The two Ray tasks of a run: the attempt, and the background that it starts on its own bundle. Thin shells."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.tether import tie
from profiler import host, spool
from profiler.attempt import AttemptSpec, Progress, run_attempt
from profiler.background import BackgroundFiles, BackgroundJob, loop_background, read_status
from profiler.cooling import IdleMark
from profiler.energy.nvml import Nvml, open_nvml
from profiler.energy.sample import Sample
from profiler.errors import CannotRunError
from profiler.gpu_activity import ActivityWindow
from profiler.gpu_processes import GpuPresence
from profiler.interrupts import holding
from profiler.record import NodeFacts

ACTOR_RESTART_S = 30.0  # Ray takes about three seconds
ENERGY_SHARE_OF_TASK = 0.001  # of the bundle's energy_slot, so that the task belongs to it


@dataclass(frozen=True)
class Grant:
    """Resources of one task inside bundle number `bundle` of its group: CPUs, the fraction of the GPU (0 where there is
    none), whether the node has an energy slot to be part of, and what else it takes."""

    cpus: float
    gpu_fraction: float
    energy_slot: bool
    bundle: int = 0
    extra: Mapping[str, float] = field(default_factory=dict)

    def options(self, group: PlacementGroup) -> dict[str, Any]:
        return {
            "num_cpus": self.cpus,
            "num_gpus": self.gpu_fraction,
            "resources": {**self.extra, **({"energy_slot": ENERGY_SHARE_OF_TASK} if self.energy_slot else {})},
            "max_retries": 0,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                placement_group=group, placement_group_bundle_index=self.bundle
            ),
        }


class _ActorTrace:
    """The node's EnergyActor seen as a trace. One that was killed is started again by Ray; it is waited for, and the
    samples that are lost with it are a gap of the trace, not the end of the attempt."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def hold(self, t0_ns: int) -> int:
        return int(self._ask("hold", t0_ns))

    def release(self, token: int) -> None:
        self._actor.release.remote(token)

    def window(self, t0_ns: int, t1_ns: int) -> Sequence[Sample]:
        samples: Sequence[Sample] = self._ask("window", t0_ns, t1_ns)
        return samples

    def gpu_processes(self, t0_ns: int, t1_ns: int) -> Sequence[GpuPresence]:
        presences: Sequence[GpuPresence] = self._ask("gpu_processes", t0_ns, t1_ns)
        return presences

    def gpu_activity(self, gpu_uuid: str, t0_ns: int, t1_ns: int) -> ActivityWindow:
        window: ActivityWindow = self._ask("gpu_activity", gpu_uuid, t0_ns, t1_ns)
        return window

    def idle_mark(self, gpu_uuid: str) -> IdleMark | None:
        mark: IdleMark | None = self._ask("idle_mark", gpu_uuid)
        return mark

    def keep_idle_mark(self, gpu_uuid: str, mark: IdleMark) -> None:
        self._ask("keep_idle_mark", gpu_uuid, mark)

    def _ask(self, method: str, *arguments: Any) -> Any:
        deadline = time.monotonic() + ACTOR_RESTART_S
        while True:
            try:
                return ray.get(getattr(self._actor, method).remote(*arguments))
            except ray.exceptions.RayActorError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(0.1)


class _RayBackground:
    """The background's task seen from the attempt that owns it. A cancelled attempt cannot wait for a task: Ray answers
    with KeyboardInterrupt each time. Then the word of the background itself counts."""

    def __init__(self, reference: Any, files: BackgroundFiles) -> None:
        self._reference = reference
        self._files = files

    def alive(self) -> bool:
        return not self._ends_within(0)

    def wait(self, timeout_s: float) -> None:
        if not self._ends_within(timeout_s):
            raise TimeoutError(f"the background's task did not end within {timeout_s:g} s of its stop")

    def _ends_within(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        try:
            ready, _ = ray.wait([self._reference], timeout=timeout_s)
            return bool(ready)
        except KeyboardInterrupt:
            if not holding():
                raise
        while not (ended := any(event["event"] == "ended" for event in read_status(self._files))):
            if time.monotonic() >= deadline:
                break
            time.sleep(0.02)
        return ended


@ray.remote
def background_task(background: BackgroundJob) -> None:
    gpu = own_gpu()
    loop_background(background, gpu[0] if gpu else None)


@ray.remote
def attempt_task(
    spec: AttemptSpec, node_id: str, trace_actor: Any, group: PlacementGroup, background_grant: Grant | None
) -> Iterator[Progress]:
    """Execute one attempt on this node; yields its progress (see `profiler.attempt.run_attempt`)."""
    _hear_cancel()
    tie(spec.tether)
    gpu_uuid, gpu_name = own_gpu() or (None, None)
    if spec.gpu_uuids and gpu_uuid != spec.gpu_uuids[0]:
        raise CannotRunError(f"Ray gave this run GPU {gpu_uuid}, reserved for it was {spec.gpu_uuids[0]}")
    more = spec.gpu_uuids[1:]
    node = NodeFacts(node_id, host.hostname(), host.boot_id(), gpu_uuid, gpu_name, host.anchor(), more)
    # The worker's parent is the raylet: an embedded Ray would not end this worker soon when it dies.
    spec = replace(spec, watch_pids=(os.getppid(), *spec.watch_pids))

    def launch(background: BackgroundJob) -> _RayBackground:
        assert background_grant is not None
        return _RayBackground(
            background_task.options(**background_grant.options(group)).remote(background), background.files
        )

    for progress in run_attempt(spec, node, _ActorTrace(trace_actor), launch):
        if progress["kind"] == "result" and spec.elsewhere:
            for piece in spool.pieces(spec.folder, spec.planned.experiment_id):
                yield {"kind": "piece", **piece}
        yield progress


def _hear_cancel() -> None:
    """Ray cancels a task by what Ctrl-C does to its process. A Ray that a script started in its background has Ctrl-C
    ignored, and its workers inherit that: the attempt would go on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def own_gpu() -> tuple[str, str] | None:
    """UUID and name of the GPU that Ray gave to this task, or None."""
    ids = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    if not ids:
        return None
    nvml = open_nvml()
    if not isinstance(nvml, Nvml):
        return None
    try:
        for device in nvml.devices:
            if str(ids[0]) in (str(device.index), device.uuid):
                return device.uuid, device.name
    finally:
        nvml.close()
    return None
