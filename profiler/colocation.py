"""Who is who on a GPU, and whether a background really ran beside the foreground all the time. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from profiler.background import BackgroundStart
from profiler.energy.attribution import Role
from profiler.partner import BackgroundFacts
from profiler.process.enclosure import Enclosure, is_in
from profiler.verdict import Finding, is_hopeless, signal_name


def background_findings(
    background: BackgroundFacts | None, gpu_uuid: str | None, window_ns: tuple[int, int] | None
) -> Iterator[Finding]:
    """What speaks against co-location. `gpu_uuid`: the foreground's device; `window_ns`: the foreground's window, None
    where nothing was trained."""
    if background is None:
        return
    if not background.ready:
        yield from _failed("it was not ready in time", background, background.starts)
    elif background.ended_early:
        yield from _failed("it ended before the foreground did", background, background.starts)
    elif background.gpu_uuid != gpu_uuid:
        yield Finding("background_failed", f"it was on GPU {background.gpu_uuid}, the foreground on {gpu_uuid}")
    elif window_ns is not None and (broken := _failed_within(background.starts, *window_ns)):
        yield from _failed("it failed during the run", background, broken)
    elif window_ns is not None:
        yield from _idle(background, *window_ns)


def _idle(background: BackgroundFacts, t0_ns: int, t1_ns: int) -> Iterator[Finding]:
    busy = background.busy
    if background.on_gpu is False:
        text = "none of its processes was seen on the GPU: it trained on the CPU, or not at all"
        yield Finding("background_idle", text, start_ns=t0_ns, end_ns=t1_ns)  # whatever share of the time may be idle
    elif busy is not None and busy.share is None:
        yield Finding("background_idle", "nothing tells whether it worked", start_ns=t0_ns, end_ns=t1_ns)
    elif busy is not None:
        text = f"it worked for {busy.share:.2f} of the run ({busy.evidence})"
        yield Finding("background_idle", text, value=busy.share, start_ns=t0_ns, end_ns=t1_ns)


def _failed(what: str, background: BackgroundFacts, starts: tuple[BackgroundStart, ...]) -> Iterator[Finding]:
    """`starts`: those whose failure it was, the last of them above all."""
    if background.no_copy is not None:
        yield Finding("background_failed", background.no_copy, retry=False)
        return
    failed = [start for start in starts if start.failed]
    if not failed:
        yield Finding("background_failed", f"{what}; failed starts: none")
        return
    last = failed[-1]
    missing = background.data_missing.get(last.number)
    said = f"; the background says: {missing or 'data missing'}" if missing is not None else ""
    text = f"{what}; failed starts: {', '.join(map(_end, failed))}{said}"
    hopeless = missing is not None or is_hopeless(last.why, last.exit_code, last.signal)
    yield Finding("background_failed", text, retry=False if hopeless else None)
    words = background.out_of_memory.get(last.number)
    if words is not None:
        yield Finding("background_oom", f"the background says: {words}")


def _end(start: BackgroundStart) -> str:
    how = f"signal {signal_name(start.signal)}" if start.signal is not None else f"exit code {start.exit_code}"
    cause = f"{start.why}: {start.error}" if start.error else start.why
    return f"{start.number} ({how if start.why == 'exited' else cause})"


def _failed_within(starts: tuple[BackgroundStart, ...], t0_ns: int, t1_ns: int) -> tuple[BackgroundStart, ...]:
    return tuple(
        start for start in starts if start.failed and start.t1_ns is not None and t0_ns <= start.t1_ns <= t1_ns
    )


def role(process: Mapping[str, Any], foreground: Enclosure | None, background: BackgroundFacts | None) -> Role | None:
    """Whose `process` is, a row of the table `processes`; None: a stranger."""
    if foreground is not None and is_in(process, foreground):
        return "foreground"
    return "background" if background is not None and background.holds(process) else None


def roles(
    processes: Iterable[Mapping[str, Any]], foreground: Enclosure | None, background: BackgroundFacts | None
) -> dict[int, Role]:
    """Whose each PID of `processes` is, without those of strangers."""
    known = ((process["pid"], role(process, foreground, background)) for process in processes)
    return {pid: whose for pid, whose in known if whose is not None}


def memory_mib(processes: Sequence[Mapping[str, Any]], whose: Mapping[int, Role], role: Role) -> float | None:
    """The largest GPU memory that the processes of one partner had at one time on one GPU, in MiB; None where the
    driver does not tell."""
    own = [process for process in processes if whose.get(process["pid"]) == role]
    if not own or any(process["memory_mib"] is None for process in own):
        return None
    return max(_memory_beside_mib(one, own) for one in own)


def _memory_beside_mib(one: Mapping[str, Any], all_of_them: Sequence[Mapping[str, Any]]) -> float:
    """What those on its GPU had together when `one` was first seen."""
    t_ns = one["first_seen_ns"]
    return sum(
        float(other["memory_mib"])
        for other in all_of_them
        if other["gpu_uuid"] == one["gpu_uuid"] and other["first_seen_ns"] <= t_ns <= other["last_seen_ns"]
    )
