"""Judges from a node's facts whether it can serve a campaign, and what lessens its figures, each with the line that
mends it. Pure: it asks nobody."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.clocks import ClockOffset
from cluster.ray_node import ENERGY_SLOT, RayNode
from profiler.errors import CannotRunError
from profiler.mps import CONTROL as MPS_CONTROL

SCOPES = {"cpu": "cpu_package", "dram": "dram", "gpu": "gpu"}
CLOCK_LIMIT_S = 0.1  # below it, times of different nodes still tell which of two runs was first
DISK_LOW_GIB = 1.0
ALL = "all"
MEND_DRIVER = "mend its driver: nvidia-smi there says what it lacks"


@dataclass(frozen=True)
class Needs:
    """What a campaign asks of its nodes. `python` and `ray`: the driver's versions; `energy`: as in `require_energy`;
    `gpu`: its trainings use one, and the cluster has some; `folders`: must be there, or have travelled there."""

    python: str
    ray: str
    energy: Sequence[str] = ()
    mps: bool = False
    gpu: bool = False
    folders: Sequence[str] = ()
    allow_uncontained: bool = False


@dataclass(frozen=True)
class Remark:
    """One thing that is wrong with a node: `text`, the line that mends it (`fix`), and whether it `refuses` the node or
    only lessens what is measured there."""

    text: str
    fix: str
    refuses: bool


@dataclass(frozen=True)
class NodeReport(RayNode):
    """What is known of one alive node. `facts`: see EnergyActor.describe; None where it did not answer, for the reason
    in `error`. `driver`: the driver runs there."""

    facts: Mapping[str, Any] | None = None
    clock: ClockOffset | None = None
    error: str | None = None
    remarks: Sequence[Remark] = ()
    driver: bool = False

    @property
    def serves(self) -> bool:
        return not any(remark.refuses for remark in self.remarks)

    @property
    def names(self) -> set[str]:
        return {self.hostname, self.address, self.node_id}

    def why_not(self) -> str:
        """All that keeps it from serving, in one line."""
        return "; ".join(f"{remark.text}: {remark.fix}" for remark in self.remarks if remark.refuses)

    def row(self) -> dict[str, Any]:
        """Columns of the dataset `nodes`; what is not known is None."""
        facts = self.facts or {}
        clock = self.clock
        return {
            "node_id": self.node_id,
            "host": self.hostname,
            "address": self.address,
            "driver": self.driver,
            "boot_id": facts.get("boot_id"),
            "serves": self.serves,
            "cpus": self.cpus,
            "gpus": [f"{gpu['uuid']} {gpu['name']}" for gpu in facts.get("gpus", ())],
            "energy_sources": sorted([*facts.get("counters", ()), *facts.get("gpu_counters", {}).values()]),
            "containment": best_containment(facts) if facts else None,
            "python_version": facts.get("python"),
            "ray_version": facts.get("ray"),
            "profiler_version": facts.get("profiler"),
            "disk_free_gib": facts.get("disk_free_gib"),
            "clock_offset_s": None if clock is None else clock.offset_ns / 1e9,
            "clock_uncertainty_s": None if clock is None else clock.uncertainty_ns / 1e9,
            "remarks": [f"{remark.text}: {remark.fix}" for remark in self.remarks],
        }


def judge(report: NodeReport, needs: Needs) -> list[Remark]:
    """Everything that is wrong with the node, what refuses it first."""
    if report.facts is None:
        return [_refused(f"its EnergyActor did not start: {report.error}", "look at `ray status` and its Ray's logs")]
    facts = report.facts
    found = [
        *_versions(facts, needs),
        *_missing(facts, needs),
        *_resources(report, needs),
        *_containment(facts, needs),
        *_energy(report, facts, needs),
        *_lessened(report, facts),
    ]
    return sorted(found, key=lambda remark: not remark.refuses)


def required(reports: Sequence[NodeReport], names: Collection[str]) -> None:
    """Raises CannotRunError where a node of `names` ("all": every node) is not there or cannot serve."""
    known: set[str] = set().union(*(report.names for report in reports))
    wrong = [f"{name}: no alive node of the cluster is called so" for name in sorted({*names} - known - {ALL})]
    wrong += [
        f"{report.hostname} ({report.address}): {report.why_not()}"
        for report in reports
        if not report.serves and (ALL in names or report.names & {*names})
    ]
    if wrong:
        raise CannotRunError("nodes that --require names cannot serve:\n  " + "\n  ".join(wrong))


def best_containment(facts: Mapping[str, Any]) -> str | None:
    """Name of the best tier that works there; None if there is none."""
    return next((tier["name"] for tier in facts["containment"] if tier["available"]), None)


def _refused(text: str, fix: str) -> Remark:
    return Remark(text, fix, refuses=True)


def _lesser(text: str, fix: str) -> Remark:
    return Remark(text, fix, refuses=False)


def _versions(facts: Mapping[str, Any], needs: Needs) -> Iterator[Remark]:
    if _minor(facts["ray"]) != _minor(needs.ray):
        yield _refused(
            f"its Ray is {facts['ray']}, the driver's {needs.ray}",
            f"there: pip install 'ray=={needs.ray}' and start its Ray anew",
        )
    if _minor(facts["python"]) != _minor(needs.python):
        yield _refused(
            f"its Python is {facts['python']}, the driver's {needs.python}",
            f"start its Ray with Python {_minor(needs.python)}",
        )


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _missing(facts: Mapping[str, Any], needs: Needs) -> Iterator[Remark]:
    missing = [folder for folder in needs.folders if facts["folders"].get(folder) is None]
    if missing:
        yield _refused(f"does not see {', '.join(missing)}", "put it there, or on a file system that all nodes share")


def _resources(report: NodeReport, needs: Needs) -> Iterator[Remark]:
    assert report.facts is not None
    seen = len(report.facts["gpus"])
    if report.cpus < 1:
        yield _refused("offers no CPU to Ray", "start its Ray with --num-cpus of at least 1")
    if report.gpus > seen:
        yield _refused(
            f"offers {report.gpus} GPUs to Ray, and NVML shows {seen}",
            f"start its Ray with --num-gpus={seen}, or {MEND_DRIVER}",
        )
    if needs.mps and report.gpus and not report.facts["mps"]:
        yield _refused(
            f"sharing: mps needs {MPS_CONTROL}, which is not found there", "install the driver's compute utilities"
        )
    if report.gpus:
        return
    if needs.mps:
        yield _refused("sharing: mps needs a GPU, and it has none", "say sharing: time_slice")
    elif needs.gpu:
        seen_text = f" (NVML shows {seen})" if seen else ""
        fix = f"start its Ray with --num-gpus={seen}" if seen else MEND_DRIVER
        yield _refused(f"offers no GPU, while others do, and trainings here use one{seen_text}", fix)


def _containment(facts: Mapping[str, Any], needs: Needs) -> Iterator[Remark]:
    if best_containment(facts) is None and not needs.allow_uncontained:
        fixes = "; ".join(f"{tier['name']}: {tier['fix']}" for tier in facts["containment"] if tier["fix"])
        yield _refused("cannot contain a run's processes", f"{fixes}; --allow-uncontained runs all the same")


def _energy(report: NodeReport, facts: Mapping[str, Any], needs: Needs) -> Iterator[Remark]:
    """A source that is there but cannot be read has a fix of its own; one that a machine does not have has none."""
    silent = [name for name in needs.energy if SCOPES[name] not in facts["scopes"]]
    fixes = {entry["scope"]: entry for entry in reversed(facts["unavailable"]) if entry["fix"]}
    for name in silent:
        entry = fixes.get(SCOPES[name])
        why = f" ({entry['reason']})" if entry else ""
        yield _refused(
            f"require_energy: no source for {name}{why}", entry["fix"] if entry else "`profiler doctor` there says why"
        )
    for entry in facts["unavailable"]:
        wanted = [name for name in silent if SCOPES[name] == entry["scope"]]
        if entry["reason"] == "permission_denied" and not wanted:
            yield _lesser(f"{entry['name']} may not be read by the user of its Ray", entry["fix"])


def _lessened(report: NodeReport, facts: Mapping[str, Any]) -> Iterator[Remark]:
    clock = report.clock
    if clock is not None and abs(clock.offset_ns) - clock.uncertainty_ns > CLOCK_LIMIT_S * 1e9:
        way = "ahead of" if clock.offset_ns > 0 else "behind"
        yield _lesser(
            f"its clock is {abs(clock.offset_ns) / 1e9:.3f} s {way} the driver's "
            f"(+- {clock.uncertainty_ns / 1e9:.3f} s)",
            "sudo chronyc makestep there, or: sudo timedatectl set-ntp true",
        )
    if not report.has_energy_slot:
        yield _lesser(
            f"has no resource {ENERGY_SLOT!r}: another campaign could work there at the same time",
            f"start its Ray with --resources='{{\"{ENERGY_SLOT}\": 1}}'",
        )
    if facts["niceness"] > 0:
        yield _lesser(
            f"its Ray gives trainings a lowered priority (nice {facts['niceness']})",
            "start its Ray with RAY_worker_niceness=0 in the environment",
        )
    torch = facts["torch"]
    if not torch["ok"]:
        yield _lesser(f"its torch is {torch['detail']}", torch["fix"])
    free_gib = facts["disk_free_gib"]
    if free_gib is not None and free_gib < DISK_LOW_GIB:
        yield _lesser(
            f"only {free_gib:.1f} GiB are free in {facts['disk']}", "free some, or set PROFILER_SPOOL for its Ray"
        )
