"""``profiler measure``: runs any command contained and measured, once or many times, alone or against another one."""

from __future__ import annotations

import json
import os
import select
import shlex
import shutil
import stat
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.cli import output
from profiler.cli.progress import duration_text, energy_text
from profiler.cli.signals import INTERRUPTED
from profiler.energy.derived import NOT_MEASURED
from profiler.errors import CannotRunError, ProfilerError, UsageError

if TYPE_CHECKING:
    from profiler.energy.idle import IdlePower
    from profiler.measurement import Measurement

STDIN_FD, STDERR_FD = 0, 2
DEFAULT_REPEAT = 10
ENERGIES = (
    ("gpu_energy_j", "GPU"),
    ("cpu_package_energy_j", "CPU package"),
    ("dram_energy_j", "DRAM"),
)


def execute(options: Namespace) -> int:
    """Runs the command (or both) and prints what it took. With ``--json`` the command's own output goes to stderr."""
    for stream in (sys.stdout, sys.stderr):  # what is buffered here comes before what the command writes
        if stream is not None:
            stream.flush()
    if options.result is not None:
        Path(options.result).open("a").close()  # what cannot be written is found out before anything runs
    if options.repeat is None and not options.warmup and options.versus is None:
        return _once(options)
    return _many_times(options)


def _print(options: Namespace, document: dict[str, Any], lines: Iterable[str], *, interrupted: bool) -> None:
    """The result as JSON or in words, on stdout or in the file of --result; `interrupted`: what there is of it."""
    if interrupted:
        document = {**document, "errors": output.error_entries(ProfilerError("interrupted"))}
        if not options.json:
            output.say("interrupted: everything is stopped; this was measured until then")
    if options.result is not None:
        text = json.dumps(output.json_ready(document), indent=2) if options.json else "\n".join(lines)
        with Path(options.result).open("w", encoding="utf-8") as file:
            file.write(text + "\n")
    elif options.json:
        output.print_json(document)
    else:
        output.print_result("\n".join(lines))


def _stdout(options: Namespace) -> Path | int | None:
    """Where the command's own output goes: --output FILE, else the terminal, with --json its stderr alone."""
    if options.output is not None:
        return Path(options.output)
    return STDERR_FD if options.json and options.result is None else None


def _once(options: Namespace) -> int:
    from profiler.measurement import MeasurementInterruptedError, measure_command

    interrupted = False
    with _given_input(options) as given:
        opened = None if given is None else os.open(given, os.O_RDONLY | os.O_CLOEXEC)
        try:
            measured = measure_command(
                options.argv,
                allow_uncontained=options.allow_uncontained,
                timeout_s=options.timeout,
                idle_s=options.idle_seconds,
                stdin=opened if opened is not None else _own_stdin(),
                stdout=_stdout(options),
            )
        except MeasurementInterruptedError as error:
            measured, interrupted = error.result, True
        finally:
            if opened is not None:
                os.close(opened)
    _refuse_lost(measured)
    if measured.error:
        output.say(f"error: {measured.error}")
    _print(options, measured.to_json(), _lines(measured), interrupted=interrupted)
    return INTERRUPTED if interrupted else measured.status


def _many_times(options: Namespace) -> int:
    from profiler.cli import series
    from profiler.measurement import MeasurementInterruptedError
    from profiler.repetition import Comparison, Plan, Series, measure_against, measure_repeatedly

    versus = None if options.versus is None else _split(options.versus)
    repeat = DEFAULT_REPEAT if options.repeat is None else options.repeat
    _warn_of_unread_input(options)
    with _given_input(options) as given:
        plan = Plan(
            repeat=repeat,
            warmup=options.warmup,
            input_file=given,
            stdout=_stdout(options),
            timeout_s=options.timeout,
            idle_s=options.idle_seconds,
            allow_uncontained=options.allow_uncontained,
        )
        told = series.Teller(plan, commands=1 if versus is None else 2)
        result: Series | Comparison
        interrupted = False
        try:
            if versus is None:
                result = measure_repeatedly(options.argv, plan, told)
            else:
                result = measure_against(options.argv, versus, plan, told)
        except MeasurementInterruptedError as error:
            result, interrupted = error.result, True
    for measured in result.measurements:
        _refuse_lost(measured)
    _print(options, result.to_json(), series.lines(result), interrupted=interrupted)
    return INTERRUPTED if interrupted else result.status


def _split(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--vs {text!r} is no command: {error}") from error
    if not words:
        raise UsageError("--vs needs a command in one argument, for example --vs 'python train.py --fast'")
    return words


def _refuse_lost(measured: Measurement) -> None:
    if measured.why == "keeper_killed":
        raise CannotRunError(f"the command was lost: {measured.error}")


def _own_stdin() -> int | None:
    """This program's stdin for the command, so that it works as a filter; None where it was closed."""
    try:
        os.fstat(STDIN_FD)
    except OSError:
        return None
    return STDIN_FD


@contextmanager
def _given_input(options: Namespace) -> Iterator[Path | None]:
    """The file of --input; for ``-`` all of stdin, read once, so that every repetition gets the same."""
    if options.input is None:
        yield None
        return
    if options.input != "-":
        path = Path(options.input)
        if not path.is_file():
            raise UsageError(f"--input {options.input!r} is not a file that can be read")
        yield path
        return
    with tempfile.TemporaryFile() as kept:
        if _own_stdin() is not None:
            with open(STDIN_FD, "rb", closefd=False) as stdin:
                shutil.copyfileobj(stdin, kept)
        kept.flush()
        yield Path(f"/proc/self/fd/{kept.fileno()}")


def _warn_of_unread_input(options: Namespace) -> None:
    """Repeated commands read /dev/null: a pipe could be read by the first of them only."""
    if options.input is None and _has_input():
        output.say("warning: repeated commands do not read this stdin; --input - gives each of them all of it")


def _has_input() -> bool:
    if _own_stdin() is None:
        return False
    mode = os.fstat(STDIN_FD).st_mode
    if stat.S_ISREG(mode):
        return os.fstat(STDIN_FD).st_size > 0
    waker = select.poll()
    waker.register(STDIN_FD, select.POLLIN)
    return stat.S_ISFIFO(mode) and any(event & select.POLLIN for _, event in waker.poll(0))


def _lines(measured: Measurement) -> Iterator[str]:
    yield ""
    yield f"{'ended':<12} {ending(measured)}, contained by {measured.containment}"
    if measured.duration_s is not None:
        cpu = f", {measured.cpu_s:.2f} s of CPU time" if measured.cpu_s is not None else ""
        long = f" ({duration_text(measured.duration_s)})" if measured.duration_s >= 60 else ""
        yield f"{'time':<12} {measured.duration_s:.3f} s{long}{cpu}"
    for column, label in ENERGIES:
        yield f"{label:<12} {_energy(measured, column)}"
        yield from above_idle(measured, column)
    energy = measured.energy
    yield f"{'trace':<12} {energy.samples} samples, {energy.samples_missed} missed"
    if measured.left_behind:
        yield f"{'left behind':<12} {measured.left_behind} processes, ended"
    for finding in energy.findings:
        if finding.reason != "no_energy_source":
            yield f"{'note':<12} {finding.reason}: {finding.evidence}"


def above_idle(measured: Measurement, column: str) -> Iterator[str]:
    """The energy above idle under that of the devices, where the machine was watched at rest before."""
    idle = _idle(measured, column)
    if idle is None or idle == NOT_MEASURED or getattr(measured.energy, column) is None:
        return
    if idle.power_w is None:
        yield f"{'  above idle':<12} not known: {idle.null_reason}"
        return
    net = column.replace("_energy_", "_energy_net_")
    joules, unsure_j = getattr(measured.derived, net), measured.derived.uncertainty_j[net]
    yield f"{'  above idle':<12} {energy_text(joules)} ± {energy_text(unsure_j)}, {idle_text(measured, column)} it"


def _idle(measured: Measurement, column: str) -> IdlePower | None:
    return {"gpu_energy_j": measured.idle.gpu, "cpu_package_energy_j": measured.idle.cpu}.get(column)


def idle_text(measured: Measurement, column: str) -> str:
    """The idle power of a column's devices, which must be known: "idle 70.2 ± 0.1 W before"."""
    idle = _idle(measured, column)
    assert idle is not None and idle.power_w is not None
    return f"idle {idle.power_w:.1f} ± {idle.uncertainty_w:.1f} W before"


def ending(measured: Measurement) -> str:
    """How a command ended, in words."""
    late = "at the time-out, " if measured.why == "timeout" else ""
    if measured.signal is not None:
        return f"{late}by signal {measured.signal}"
    if measured.exit_code is not None:
        return f"{late}with exit code {measured.exit_code}"
    return measured.why


def _energy(measured: Measurement, column: str) -> str:
    joules = getattr(measured.energy, column)
    if joules is None:
        return f"not known: {measured.energy.null_reasons.get(column, 'no reason given')}"
    unsure_j = measured.energy.uncertainty_j.get(column)
    about = f" ± {energy_text(unsure_j)}" if unsure_j is not None else ""
    power_w = measured.energy.gpu_power_mean_w if column == "gpu_energy_j" else None
    mean = f", mean {power_w:.1f} W" if power_w is not None else ""
    source = measured.energy.energy_sources.get(column, "").partition(", unit ")[0]
    return f"{energy_text(joules)}{about}{mean}" + (f" ({source})" if source else "")
