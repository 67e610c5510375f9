"""Every reason that a verdict can have, in one place: level, meaning, threshold, evidence. It judges nobody.

fail    the attempt did not succeed                 -> verdict failed
unsafe  it succeeded, but conditions were not clean -> verdict contaminated
note    worth knowing, changes nothing              -> verdict valid
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["fail", "unsafe", "note"]
LEVELS: tuple[Level, ...] = ("fail", "unsafe", "note")


@dataclass(frozen=True)
class Threshold:
    """From where on a measured `quantity` (in `unit`) is a reason: above the limit, or `below` it. Limits go from 0 to
    `high` (None: no largest one)."""

    default: float
    unit: str
    quantity: str
    below: bool = False
    high: float | None = None

    def crossed(self, value: float, limit: float) -> bool:
        return value < limit if self.below else value > limit


@dataclass(frozen=True)
class Reason:
    """One reason. `evidence`: what is recorded with it. `retry`: may another attempt of the same run end otherwise?
    `retry_because`: why (not). Without a `threshold` it holds whenever it is seen."""

    name: str
    level: Level
    meaning: str
    evidence: str
    retry: bool = False
    retry_because: str = ""
    threshold: Threshold | None = None


def _fail(name: str, meaning: str, evidence: str, retry: bool, because: str) -> Reason:
    return Reason(name, "fail", meaning, evidence, retry, because)


def _state(level: Level, name: str, meaning: str, evidence: str, threshold: Threshold | None = None) -> Reason:
    return Reason(name, level, meaning, evidence, threshold=threshold)


_ALL = (
    _fail(
        "interrupted",
        "stopped from outside before it ended by itself",
        "who noticed, and how the trainer ended where it was seen",
        True,
        "the run had no chance to end",
    ),
    _fail(
        "start_failed",
        "the trainer's program could not be started",
        "the kernel's words",
        False,
        "it is as absent the next time",
    ),
    _fail(
        "exit",
        "the trainer ended with an exit code other than 0",
        "the exit code",
        True,
        "a driver or a file system can fail once; codes 2, 126 and 127 (wrong arguments, cannot execute, not found) "
        "are the same the next time and are not retried",
    ),
    _fail(
        "signal",
        "a signal ended the trainer",
        "number and name of the signal",
        True,
        "who sent it may not send it again; an illegal instruction or a resource limit will come again",
    ),
    _fail(
        "timeout",
        "it ran longer than timeout_seconds and was ended",
        "how it ended",
        False,
        "it would take as long again",
    ),
    _fail(
        "oom",
        "it ran out of memory",
        "the trainer's own words, or how many processes the kernel ended for lack of memory",
        False,
        "the same values need the same memory",
    ),
    _fail(
        "data_missing",
        "the trainer did not find its data",
        "the trainer's own words",
        False,
        "nobody puts it there between two attempts",
    ),
    _fail(
        "not_finished",
        "exit code 0, but the trainer never said it did every epoch",
        "what it said instead, epochs done and asked",
        False,
        "the program ends there",
    ),
    _fail(
        "metric_missing",
        "the primary metric was never reported",
        "the metric, and what stood in its place",
        False,
        "the program does not print it",
    ),
    _fail(
        "metric_out_of_range",
        "a metric is not finite or outside its declared range",
        "value and range",
        False,
        "same values, same result",
    ),
    _fail(
        "parameter_not_applied",
        "the trainer used another value than the one asked for",
        "both values of each parameter",
        False,
        "the program ignores or changes it every time",
    ),
    _fail(
        "imported_failure",
        "the record that the run was imported from does not call it a success",
        "what the record says",
        False,
        "it is history",
    ),
    _fail(
        "imported_unproven",
        "imported, and nothing in the old files can prove a success",
        "what is missing",
        False,
        "it is history",
    ),
    _fail(
        "background_failed",
        "the background did not start, or ended for good before the foreground",
        "which of these, and the exit codes",
        True,
        "but not for what a foreground is not tried again for either (see exit, start_failed, timeout, data_missing), "
        "nor where its clone cannot be copied",
    ),
    _fail(
        "background_oom",
        "the background ran out of memory, which is why it failed (`background_failed`)",
        "its own words",
        False,
        "the same values beside each other need the same memory",
    ),
    _state(
        "unsafe",
        "foreign_gpu_process",
        "a process of somebody else was on the GPU during the run",
        "PID, command, user, memory; from first to last sighting (ten looks a second)",
    ),
    _state(
        "unsafe",
        "memory_not_idle",
        "GPU memory was above its idle mark when the run began",
        "memory used right before the run's first process, and the idle mark of the device",
        Threshold(64.0, "MiB", "memory above the idle mark of the device"),
    ),
    _state(
        "unsafe",
        "gpu_not_used",
        "the trainer was not seen on a GPU of its run while it trained; it may have trained on the CPU",
        "which GPU, and how long it trained by its events; not asked of models that use no GPU",
        Threshold(3.0, "s", "from its first step to its end without being seen on the GPU"),
    ),
    _state(
        "unsafe",
        "mps_not_used",
        "the pair was to share its GPU through MPS, and no MPS server was there when the foreground ended",
        "that the daemon had none, or did not answer",
    ),
    _state(
        "unsafe",
        "background_idle",
        "the background worked for a smaller share of the run than it should",
        "the share",
        Threshold(0.5, "share 0..1", "share of the run in which the background worked", below=True, high=1.0),
    ),
    _state(
        "unsafe",
        "throttled",
        "the GPU lowered its clocks because of heat or power delivery",
        "causes, number of samples, first to last of them",
        Threshold(0.0, "share 0..1", "share of the run's samples that show a slowdown", high=1.0),
    ),
    _state(
        "unsafe",
        "cpu_contention",
        "processes of others, or the host of a virtual machine, used the CPUs of the run",
        "CPUs that others used, CPUs of the run, and who used most",
        Threshold(0.25, "share 0..1", "CPU time of others beyond the CPUs left over, as a share of the run's own CPUs"),
    ),
    _state(
        "unsafe",
        "sampler_gap",
        "a hole in the trace that the energy counter cannot bridge",
        "the counter and the length of the hole",
    ),
    _state("unsafe", "node_rebooted", "the node was booted anew before the attempt could end", "both boot ids"),
    _state(
        "unsafe",
        "suspended",
        "the machine slept during the run",
        "how long CLOCK_BOOTTIME was ahead of CLOCK_MONOTONIC from edge to edge of the run",
        Threshold(0.5, "s", "time asleep between the edges of the run"),
    ),
    _state(
        "unsafe", "uncontained", "the run's processes could not be contained for certain", "the kind of containment"
    ),
    _state(
        "unsafe",
        "conditions_unknown",
        "imported from a tool that contained nothing and did not look who else was on the GPU",
        "what is not recorded",
    ),
    _state(
        "note",
        "counter_integral_gap",
        "energy counter and integrated power trace differ",
        "both energies and the gap; only for runs of more than 10 s",
        Threshold(2.0, "%", "size of the gap, in percent of the counter"),
    ),
    _state(
        "note",
        "too_short",
        "the run was too short for a good energy figure",
        "the energy column, its counter's period, and the duration",
        Threshold(5.0, "updates", "updates of the energy counter within the run", below=True),
    ),
    _state(
        "note",
        "warm_start",
        "a GPU had not cooled down to its mark when the run began; a warm board takes more power for the same work",
        "temperature right before the run's first process, and that before the campaign's first run on the GPU",
        Threshold(3.0, "deg C", "degrees above the mark that `cooling: {until: idle}` comes back to"),
    ),
    _state(
        "note",
        "clock_stepped",
        "the wall clock was set during the run; durations are not affected",
        "by how much",
        Threshold(0.5, "s", "size of the step"),
    ),
    _state("note", "estimate_used", "a figure is an estimate that the config asked for", "which figure, from what"),
    _state(
        "note",
        "no_energy_source",
        "no energy source at all is readable here; the energy columns are null",
        "each energy column and why it is null",
    ),
    _state("note", "imported", "taken over from the record of an older tool", "the findings of the import's audit"),
    _state(
        "note",
        "effective_unknown",
        "nobody reported which hyperparameter values the trainer really used",
        "the values without a report",
    ),
)

REASONS: dict[str, Reason] = {reason.name: reason for reason in _ALL}
"""Every reason, worst level first."""

THRESHOLDS: dict[str, Threshold] = {reason.name: reason.threshold for reason in _ALL if reason.threshold is not None}


def limits(changed: Mapping[str, float | None] | None = None) -> dict[str, float]:
    """The limit of each reason that has one: its default, or what `changed` says (None: the default again)."""
    asked = {name: limit for name, limit in (changed or {}).items() if limit is not None}
    return {name: float(asked.get(name, threshold.default)) for name, threshold in THRESHOLDS.items()}


def reasons_at(level: Level) -> Sequence[Reason]:
    return [reason for reason in REASONS.values() if reason.level == level]
