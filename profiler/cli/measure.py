"""``profiler measure``: runs any command contained and measured, and ends with the command's own code."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from profiler.cli import output
from profiler.cli.progress import duration_text, energy_text
from profiler.errors import CannotRunError

if TYPE_CHECKING:
    from profiler.measurement import Measurement

STDERR_FD = 2
ENERGIES = (
    ("gpu_energy_j", "GPU"),
    ("cpu_package_energy_j", "CPU package"),
    ("dram_energy_j", "DRAM"),
)


def execute(options: Namespace) -> int:
    """Runs the command and prints what it took. With ``--json`` the command's own output goes to stderr."""
    from profiler.measurement import measure_command

    for stream in (sys.stdout, sys.stderr):  # what is buffered here comes before what the command writes
        if stream is not None:
            stream.flush()
    measured = measure_command(
        options.argv,
        allow_uncontained=options.allow_uncontained,
        stdout=STDERR_FD if options.json else None,
    )
    if measured.why == "keeper_killed":
        raise CannotRunError(f"the command was lost: {measured.error}")
    if measured.error:
        output.say(f"error: {measured.error}")
    if options.json:
        output.print_json(measured.to_json())
    else:
        output.print_result("\n".join(_lines(measured)))
    return measured.status


def _lines(measured: Measurement) -> Iterator[str]:
    yield ""
    yield f"{'ended':<12} {_ending(measured)}, contained by {measured.containment}"
    if measured.duration_s is not None:
        cpu = f", {measured.cpu_s:.2f} s of CPU time" if measured.cpu_s is not None else ""
        long = f" ({duration_text(measured.duration_s)})" if measured.duration_s >= 60 else ""
        yield f"{'time':<12} {measured.duration_s:.3f} s{long}{cpu}"
    for column, label in ENERGIES:
        yield f"{label:<12} {_energy(measured, column)}"
    energy = measured.energy
    yield f"{'trace':<12} {energy.samples} samples, {energy.samples_missed} missed"
    if measured.left_behind:
        yield f"{'left behind':<12} {measured.left_behind} processes, ended"
    for finding in energy.findings:
        if finding.reason != "no_energy_source":
            yield f"{'note':<12} {finding.reason}: {finding.evidence}"


def _ending(measured: Measurement) -> str:
    if measured.signal is not None:
        return f"by signal {measured.signal}"
    if measured.exit_code is not None:
        return f"with exit code {measured.exit_code}"
    return measured.why


def _energy(measured: Measurement, column: str) -> str:
    joules = getattr(measured.energy, column)
    if joules is None:
        return f"not known: {measured.energy.null_reasons.get(column, 'no reason given')}"
    power_w = measured.energy.gpu_power_mean_w if column == "gpu_energy_j" else None
    mean = f", mean {power_w:.1f} W" if power_w is not None else ""
    source = measured.energy.energy_sources.get(column, "").partition(", unit ")[0]
    return f"{energy_text(joules)}{mean}" + (f" ({source})" if source else "")
