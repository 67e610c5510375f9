"""EnergyActor: one per node; a thin Ray shell around the sampler and the log of GPU processes."""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from actors.tether import tie
from profiler import host, spool
from profiler._version import __version__
from profiler.cooling import IdleMark
from profiler.diagnosis import torch_state
from profiler.driver_lock import is_driven
from profiler.energy.nvml import NvmlReadError
from profiler.energy.sample import Sample
from profiler.energy.sampler import Sampler
from profiler.energy.sources import Sources, discover
from profiler.gpu_activity import ActivityLog, ActivityWindow
from profiler.gpu_processes import GpuPresence, GpuProcessLog
from profiler.mps import CONTROL as MPS_CONTROL
from profiler.process.tiers import probe
from profiler.reach import Endpoint
from profiler.shipped import found_folders
from profiler.store.layout import SessionFolder
from profiler.workdirs import prune_work

PROCESS_LOOK_INTERVAL_S = 0.1  # a look takes 0.03 ms on a H100; a stranger's time is known as well as the trace's
# The call for activity takes 2.4 ms, so it is made once a second; more often where several share a GPU.
LOOKS_AN_ACTIVITY = 10
LOOKS_AN_ACTIVITY_SHARED = 3


@dataclass(frozen=True)
class Home:
    """Where a campaign lies on its driver's machine. `sign`: a file there whose name nobody else's file has; a node
    that sees it sees the session folder `root` itself. `identity`: no other session's, whatever its name. `folders`:
    those of the workloads, and whether they travel."""

    root: str
    sign: str
    identity: str
    folders: Mapping[str, bool]

    def seen(self) -> bool:
        return Path(self.sign).exists()


class EnergyActor:
    """Samples this node and answers for windows of time.

    Args:
        rate_hz: grid of the trace.
        node_id: Ray's id of the node, stored with every sample.
        endpoints: what this node must reach, or the driver is gone, and this process goes too.
    """

    def __init__(self, rate_hz: float, node_id: str, endpoints: Mapping[str, Endpoint] = MappingProxyType({})) -> None:
        tie(endpoints)
        self.node_id = node_id
        self._spool: tuple[SessionFolder, int] | None = None
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
        for number in itertools.count():
            if not self.sources.gpus:
                return
            with self._lock:
                self.processes.look(self.sources.gpus)
                self._look_at_activity(number)
            time.sleep(PROCESS_LOOK_INTERVAL_S)

    def _look_at_activity(self, number: int) -> None:
        shared = self.processes.shared()
        if number % LOOKS_AN_ACTIVITY_SHARED == 0:
            self.activity.look([gpu for gpu in self.sources.gpus if gpu.uuid in shared])
        if number % LOOKS_AN_ACTIVITY == 0:
            self.activity.look([gpu for gpu in self.sources.gpus if gpu.uuid not in shared])

    def describe(self, home: Home | None) -> dict[str, Any]:
        """Facts of the node, and where things of the campaign lie here; without one, where they would."""
        return {
            **self._places(home),
            "python": platform.python_version(),
            "ray": metadata.version("ray"),
            "profiler": __version__,
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
            "torch": asdict(torch_state()),
            "sampler_priority": self.sampler.priority,
        }

    def _places(self, home: Home | None) -> dict[str, Any]:
        if home is None:
            return _disk(spool.place())
        root = Path(home.root) if home.seen() else self._spooled(home).root
        folders = found_folders(home.folders, prefer_shipped=not home.seen())
        return {"session_root": str(root), "folders": folders, **_disk(root.parent)}

    def utc_ns(self) -> int:
        return time.time_ns()

    def _spooled(self, home: Home) -> SessionFolder:
        """This node's own folder for the session; an older campaign's is tidied up."""
        if self._spool is None:
            place = spool.place()
            self._spool = spool.open_session(place, home.identity, Path(home.root).name)
            prune_work(spool.session_places(place), is_driven)
        return self._spool[0]

    def kept(self, home: Home) -> list[spool.Result]:
        """Results of finished attempts of the session that its driver has not acknowledged."""
        return list(spool.kept(self._spooled(home)))

    def pieces(self, home: Home, experiment_id: str) -> Iterator[dict[str, Any]]:
        """The files of a run's newest attempt here, part by part."""
        yield from spool.pieces(self._spooled(home), experiment_id)

    def forget(self, home: Home, run_id: str, attempt: int, experiment_id: str) -> None:
        """The driver has this attempt on its own disk."""
        spool.forget(self._spooled(home), run_id, attempt, experiment_id)

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
            self.processes.look(own)
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


def _disk(folder: Path) -> dict[str, Any]:
    return {"disk": str(folder), "disk_free_gib": shutil.disk_usage(folder).free / 2**30}


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
