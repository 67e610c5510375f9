"""``profiler doctor``: says what can be measured and contained here, what not, why, and the line that fixes it."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.cli import output
from profiler.cli.main import CANNOT
from profiler.cli.nodes import node_lines
from profiler.errors import UsageError

if TYPE_CHECKING:
    from profiler.diagnosis import Diagnosis

WORDS = {
    "permission_denied": "may not be read by this user",
    "counter_not_advancing": "exists, but its figure does not move",
    "no_rapl_zones": "this machine shows no RAPL counters",
}


def execute(options: Namespace) -> int:
    """Prints what was found. 0 where campaigns can run (with or without energy figures), else 3."""
    if options.address is not None:
        return _cluster(options)
    if options.require:
        raise UsageError("--require names nodes of a cluster: give its --address too")
    if options.calibrate:
        return _calibrate(options)
    from profiler.diagnosis import diagnose
    from profiler.store.remote import refuse_uri

    refuse_uri(options.results)
    diagnosis = diagnose(Path(options.results))
    if options.json:
        output.print_json(diagnosis.to_json())
    else:
        output.print_result("\n".join(_lines(diagnosis)))
    return 0 if diagnosis.ok else CANNOT


def _cluster(options: Namespace) -> int:
    """The table of all nodes; 0 where at least one can serve."""
    from profiler._own import survey

    if options.calibrate:
        raise UsageError("--calibrate measures this machine's GPUs: leave out --address, and run it on each node")
    with output.stdout_kept_clean():
        rows = survey(options.address, options.require)
    ok = any(row["serves"] for row in rows)
    if options.json:
        output.print_json({"ok": ok, "nodes": rows})
    else:
        output.print_result("\n".join(node_lines(rows)))
    return 0 if ok else CANNOT


def _calibrate(options: Namespace) -> int:
    """Measures and keeps the passport of each GPU's power sensor."""
    from profiler.energy import passport
    from profiler.energy.calibration import calibrate
    from profiler.energy.sources import discover

    load = shlex.split(options.load) if options.load else None
    with discover() as sources:
        found = calibrate(sources, sources.driver or "unknown", load)
    folder = passport.cache_folder()
    paths = [passport.save(one, folder) for one in found]
    if options.json:
        output.print_json({"passports": found, "files": paths})
        return 0
    for one, path in zip(found, paths, strict=True):
        output.print_result(f"{one.gpu_name} {one.gpu_uuid}\n  {one.power_kind} power, {one.text()}")
        for column, reason in one.null_reasons.items():
            output.print_result(f"  {column} not known: {reason}")
        output.print_result(f"  kept in {path}")
    return 0


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    yield from _section("needed", _needed(diagnosis))
    yield from _section("containment", _containment(diagnosis))
    yield from _section("energy", _energy(diagnosis))
    yield from _section("trainers", _trainers(diagnosis))
    yield from _section("sampler", _sampler(diagnosis))
    yield from ("", _conclusion(diagnosis))


Entry = tuple[bool, str, str, str | None]  # good?, name, what was seen, the line that fixes it


def _section(title: str, entries: Iterator[Entry]) -> Iterator[str]:
    yield title
    for good, name, seen, fix in entries:
        yield f"  {'ok ' if good else '-- '} {name:<16} {seen}"
        if fix and not good:
            yield from (
                f"      {'fix' if number == 0 else '':<16} {line}" for number, line in enumerate(fix.splitlines())
            )


def _needed(diagnosis: Diagnosis) -> Iterator[Entry]:
    for part in (diagnosis.python, diagnosis.ray, diagnosis.disk):
        yield part.ok, part.name, part.detail, part.fix


def _containment(diagnosis: Diagnosis) -> Iterator[Entry]:
    for tier in diagnosis.tiers:
        used = " (used)" if tier.name == diagnosis.containment else ""
        yield tier.available, tier.name, (tier.meaning if tier.available else tier.reason) + used, tier.fix or None


def _energy(diagnosis: Diagnosis) -> Iterator[Entry]:
    for gpu in diagnosis.gpus:
        watts = f"{gpu.power_w:.1f} W now" if gpu.power_w is not None else "power not known"
        yield True, f"gpu {gpu.index}", f"{gpu.name}, {watts}, {gpu.uuid}", None
    for source in diagnosis.sources:
        seen = f"{source.scope} from {source.source}" if source.available else _why(source.reason)
        yield source.available, source.name, seen, source.fix


def _why(reason: str | None) -> str:
    return f"{reason}: {WORDS[reason]}" if reason in WORDS else str(reason)


def _trainers(diagnosis: Diagnosis) -> Iterator[Entry]:
    part = diagnosis.torch
    yield part.ok, part.name, part.detail, part.fix


def _sampler(diagnosis: Diagnosis) -> Iterator[Entry]:
    state = diagnosis.sampler
    fifo = "permitted" if state.sched_fifo else "not permitted: samples come later when all CPUs are busy"
    yield state.sched_fifo, "SCHED_FIFO", fifo, state.fix
    if not state.sched_fifo:
        yield state.negative_nice, "nice -10", "permitted" if state.negative_nice else "not permitted", None


def _conclusion(diagnosis: Diagnosis) -> str:
    if not diagnosis.ok:
        return "campaigns cannot run here: see the lines marked -- under needed and containment"
    scopes = {source.scope for source in diagnosis.sources if source.available}
    known = [name for scope, name in (("gpu", "GPU"), ("cpu_package", "CPU"), ("dram", "DRAM")) if scope in scopes]
    if not known:
        return "campaigns can run here; no energy can be measured, so every energy column is null with its reason"
    return f"campaigns can run here; energy is measured for: {', '.join(known)}"
