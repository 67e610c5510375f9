"""What trace and sightings tell of a run's conditions: throttling, strangers, memory and warmth at its start. Pure.

They are made from rows of `samples` and `processes`, so the same code judges a run when it ends and again later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from profiler.energy.sample import Sample
from profiler.energy.throttle import THROTTLED_MASK, describe_throttle_reasons, is_throttled
from profiler.process.command import HOLDING_TIERS
from profiler.process.enclosure import Enclosure, is_in
from profiler.verdict import Finding

FROM_ROWS = ("throttled", "foreign_gpu_process")
"""Reasons that stored samples and sightings tell in full."""


def throttling(samples: Sequence[Sample], gpu_uuid: str | None, t0_ns: int, t1_ns: int) -> Finding | None:
    """Slowdowns by heat or power delivery within the run; None where the trace does not know."""
    told = [
        (sample.t_mono_ns, sample.throttle_reasons)
        for sample in samples
        if sample.device == gpu_uuid and t0_ns <= sample.t_mono_ns <= t1_ns and sample.throttle_reasons is not None
    ]
    slowed = [(t_ns, mask) for t_ns, mask in told if is_throttled(mask)]
    if not told:
        return None
    if not slowed:
        return Finding("throttled", f"in none of {len(told)} samples", value=0.0, start_ns=t0_ns, end_ns=t1_ns)
    names = sorted({name for _, mask in slowed for name in describe_throttle_reasons(mask & THROTTLED_MASK)})
    first_ns, last_ns = slowed[0][0], slowed[-1][0]
    text = f"{', '.join(names)} in {len(slowed)} of {len(told)} samples, {_when(first_ns, last_ns, t0_ns)}"
    share = len(slowed) / len(told)
    return Finding("throttled", text, value=share, start_ns=first_ns, end_ns=last_ns, culprit=", ".join(names))


def _when(first_ns: int, last_ns: int, t0_ns: int) -> str:
    return f"{(first_ns - t0_ns) / 1e9:.1f} s to {(last_ns - t0_ns) / 1e9:.1f} s of the run"


def strangers(processes: Sequence[Mapping[str, Any]], t0_ns: int) -> Iterator[Finding]:
    """Processes of others on the run's GPU; `processes` are rows of `processes` of this attempt."""
    for process in processes:
        if not process["own"]:
            memory = "unknown" if process["memory_mib"] is None else f"{process['memory_mib']:.0f}"
            culprit = f"PID {process['pid']} ({process['command'] or 'unknown command'}), user {process['user_id']}"
            first_ns, last_ns = process["first_seen_ns"], process["last_seen_ns"]
            text = f"{culprit}, {memory} MiB, seen {_when(first_ns, last_ns, t0_ns)}"
            yield Finding("foreign_gpu_process", text, start_ns=first_ns, end_ns=last_ns, culprit=culprit)


def presence(
    processes: Sequence[Mapping[str, Any]],
    gpu_uuids: Sequence[str],
    enclosure: Enclosure,
    training_ns: tuple[int, int],
) -> Iterator[Finding]:
    """GPUs of the run on which no process of the trainer's was seen, though it says that it trained."""
    t0_ns, t1_ns = training_ns
    used = {process["gpu_uuid"] for process in processes if is_in(process, enclosure)}
    for uuid in gpu_uuids:
        if uuid not in used:
            text = f"GPU {uuid}: it trained for {(t1_ns - t0_ns) / 1e9:.1f} s, and none of its processes was seen there"
            yield Finding("gpu_not_used", text, value=(t1_ns - t0_ns) / 1e9, start_ns=t0_ns, end_ns=t1_ns)


def mps_server(server_pids: Sequence[int], t0_ns: int, t1_ns: int) -> Finding | None:
    """A daemon of MPS starts its server with the first client and keeps it; without one the pair was in time slices."""
    if server_pids:
        return None
    return Finding("mps_not_used", "the MPS daemon has no server, or does not answer", start_ns=t0_ns, end_ns=t1_ns)


def memory_at_start(
    samples: Sequence[Sample], gpu_uuid: str | None, idle_mib: float | None, start_ns: int
) -> Finding | None:
    """GPU memory in use right before `start_ns`, when the run's first process was let go, against the idle mark; None
    where either is not known."""
    last = _last_before(samples, gpu_uuid, "memory_mib", start_ns)
    if last is None or idle_mib is None:
        return None
    used_mib = last.memory_mib or 0.0
    text = f"{used_mib:.0f} MiB in use before the run, idle is {idle_mib:.0f} MiB"
    return Finding("memory_not_idle", text, value=used_mib - idle_mib, start_ns=last.t_mono_ns, end_ns=last.t_mono_ns)


def warmth_at_start(
    samples: Sequence[Sample], gpu_uuid: str | None, mark_c: float | None, start_ns: int
) -> Finding | None:
    """The GPU's temperature right before `start_ns` against that before the campaign's first run on it; None where
    either is not known."""
    last = _last_before(samples, gpu_uuid, "temp_c", start_ns)
    if last is None or last.temp_c is None or mark_c is None:
        return None
    text = f"{last.temp_c:.0f} degrees C before the run, {mark_c:.0f} before the first one on this GPU"
    return Finding("warm_start", text, value=last.temp_c - mark_c, start_ns=last.t_mono_ns, end_ns=last.t_mono_ns)


def _last_before(samples: Sequence[Sample], gpu_uuid: str | None, column: str, start_ns: int) -> Sample | None:
    """The last row of a GPU until `start_ns` that has the column."""
    before = (row for row in reversed(samples) if row.device == gpu_uuid and row.t_mono_ns <= start_ns)
    return next((row for row in before if getattr(row, column) is not None), None)


def containment(kind: str) -> Finding | None:
    return None if kind in HOLDING_TIERS else Finding("uncontained", f"containment {kind} is best effort only")
