"""The epochs of a stored run with their energy: trainer's events and trace in, rows of `epochs` out. It writes nothing.

Nothing of it is stored: it follows from the events and the trace, so it is there for every session, old ones too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from profiler.energy.epochs import Part, PartEnergy, cut, measure_parts
from profiler.energy.sample import Sample
from profiler.events import read_events
from profiler.store.layout import SampleSpan, SessionFolder
from profiler.store.schema import EPOCHS

if TYPE_CHECKING:
    from profiler.store.read import Session

# The parts at the edges are cut between two samples: those just outside are needed too.
MARGIN_NS: Final = 1_000_000_000
_TRACE: Final = (
    "t_mono_ns",
    "t_utc_ns",
    "boot_id",
    "tick",
    "lateness_ns",
    "missed",
    "source",
    "device",
    "scope",
    "energy_j",
    "power_w",
    "power_kind",
)


def epoch_rows(session: Session, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of `epochs` for one attempt's row of `runs`; none for an attempt without a window."""
    t0_ns, t1_ns = row["window_start_ns"], row["window_end_ns"]
    if None in (row["node_id"], row["boot_id"], t0_ns, t1_ns):
        return []
    events = read_events(events_of(session.folder, row))
    parts = cut(t0_ns, t1_ns, events.ready_t_ns, [(e.epoch, e.t_ns, e.metrics) for e in events.epochs])
    span = SampleSpan(row["boot_id"], t0_ns - MARGIN_NS, t1_ns + MARGIN_NS)
    trace = session.samples_between(row["node_id"], span, _TRACE)
    samples = [Sample(**values) for values in trace.to_pylist()]
    return [_row(row, measured) for measured in measure_parts(parts, samples, row["gpu_uuid"])]


def events_of(folder: SessionFolder, row: Mapping[str, Any]) -> Path:
    """The event file of an attempt: that of an earlier one lies among the archived attempts."""
    current = folder.events(row["experiment_id"])
    archived = folder.attempt_folder(row["experiment_id"], row["attempt"]) / current.name
    return archived if archived.exists() else current


def _row(run: Mapping[str, Any], measured: PartEnergy) -> dict[str, Any]:
    part: Part = measured.part
    values = {
        "run_id": run["run_id"],
        "attempt": run["attempt"],
        "part": part.part,
        "epoch": part.epoch,
        "start_ns": part.start_ns,
        "end_ns": part.end_ns,
        "duration_s": part.duration_s,
        "gpu_energy_integral_j": measured.gpu_energy_integral_j,
        "gpu_power_mean_w": measured.gpu_power_mean_w,
        "cpu_package_energy_j": measured.cpu_package_energy_j,
        "samples": measured.samples,
        "metrics": dict(part.metrics),
        "null_reasons": measured.null_reasons,
    }
    return {column.name: values[column.name] for column in EPOCHS}
