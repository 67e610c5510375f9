"""EnergyActor: one per node; a thin Ray shell around the sampler and the log of GPU processes."""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from profiler import host
from profiler.cooling import IdleMark
from profiler.energy.nvml import NvmlReadError
from profiler.energy.sample import Sample
from profiler.energy.sampler import Sampler
from profiler.energy.sources import Sources, discover
from profiler.gpu_activity import ActivityLog, ActivityWindow
from profiler.gpu_processes import GpuPresence, GpuProcessLog
from profiler.mps import CONTROL as MPS_CONTROL
from profiler.process.tiers import probe

PROCESS_LOOK_INTERVAL_S = 1.0


class EnergyActor:
    """Samples this node and answers for windows of time.

    Args:
        rate_hz: grid of the trace.
        node_id: Ray's id of the node, stored with every sample.
    """

    def __init__(self, rate_hz: float, node_id: str) -> None:
        self.node_id = node_id
        self.sources: Sources = discover()
        self.processes = GpuProcessLog()
        self.activity = ActivityLog()
        self.sampler = Sampler(self.sources, rate_hz=rate_hz, node_id=node_id, boot_id=host.boot_id())
        self.sampler.start()
        self.idle_memory_mib = _idle_memory_mib(self.sources)
        self._idle_marks: dict[str, IdleMark] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._look_at_processes, daemon=True, name="gpu-processes").start()

    def _look_at_processes(self) -> None:
        while self.sources.gpus:
            with self._lock:
                self.processes.look(self.sources.gpus, time.monotonic_ns())
                self.activity.look(self.sources.gpus)
            time.sleep(PROCESS_LOOK_INTERVAL_S)

    def describe(self, folders: list[str]) -> dict[str, Any]:
        """Facts of the node; `folders_seen` says which of `folders` exist here."""
        return {
            "node_id": self.node_id,
            "pid": os.getpid(),
            "hostname": host.hostname(),
            "boot_id": host.boot_id(),
            "cpus": host.cpu_count(),
            "niceness": os.getpriority(os.PRIO_PROCESS, os.getpid()),
            "gpus": [{"index": gpu.index, "uuid": gpu.uuid, "name": gpu.name} for gpu in self.sources.gpus],
            "idle_memory_mib": self.idle_memory_mib,
            "memory_total_mib": min((gpu.memory_total_mib or 0.0 for gpu in self.sources.gpus), default=0.0) or None,
            "mps": shutil.which(MPS_CONTROL) is not None,
            "scopes": sorted({counter.info.scope for counter in self.sources.all_counters()}),
            "counters": [counter.info.name for counter in self.sources.counters],
            "gpu_counters": {uuid: counter.info.name for uuid, counter in self.sources.gpu_counters.items()},
            "unavailable": [asdict(item) for item in self.sources.unavailable],
            "containment": [asdict(tier) for tier in probe()],
            "sampler_priority": self.sampler.priority,
            "folders_seen": [folder for folder in folders if Path(folder).is_dir()],
            "t_utc_ns": time.time_ns(),
        }

    def rows(self, since: int) -> tuple[list[Sample], int]:
        """Samples newer than `since`, and the number to ask with next time."""
        return self.sampler.rows(since)

    def latest(self) -> dict[str, Any]:
        return self.sampler.latest()

    def hold(self, t0_ns: int) -> int:
        """Keep every sample from `t0_ns` on until `release`; returns the token."""
        return self.sampler.hold(t0_ns)

    def release(self, token: int) -> None:
        self.sampler.release(token)

    def window(self, t0_ns: int, t1_ns: int) -> list[Sample]:
        return self.sampler.window(t0_ns, t1_ns)

    def gpu_processes(self, t0_ns: int, t1_ns: int) -> list[GpuPresence]:
        with self._lock:
            return self.processes.between(t0_ns, t1_ns)

    def gpu_activity(self, gpu_uuid: str, t0_ns: int, t1_ns: int) -> ActivityWindow:
        """Who kept the SMs of that GPU busy, up to this moment; who is on it is looked at too."""
        own = [gpu for gpu in self.sources.gpus if gpu.uuid == gpu_uuid]
        with self._lock:
            self.processes.look(own, time.monotonic_ns())
            self.activity.look(own)
            return self.activity.between(gpu_uuid, t0_ns, t1_ns)

    def idle_mark(self, gpu_uuid: str) -> IdleMark | None:
        """What the GPU was like before the first run on it; None until `keep_idle_mark` has told."""
        return self._idle_marks.get(gpu_uuid)

    def keep_idle_mark(self, gpu_uuid: str, mark: IdleMark) -> None:
        self._idle_marks[gpu_uuid] = mark

    def stop(self) -> None:
        self.sampler.stop()

    def leave(self) -> None:
        """End this process at once. Ray does that with the driver's end, but not when its gcs is gone."""
        os._exit(0)


def _idle_memory_mib(sources: Sources) -> dict[str, float]:
    """Used memory of each GPU that nobody is on, in MiB by UUID: what its driver keeps for itself."""
    idle: dict[str, float] = {}
    for device in sources.gpus:
        try:
            strangers = device.processes()
        except NvmlReadError:
            continue
        used_mib = device.read().memory_mib
        if not strangers and used_mib is not None:
            idle[device.uuid] = used_mib
    return idle
