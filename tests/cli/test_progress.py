"""The state of a campaign as folded from recorded events, and what both views make of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console

from profiler.cli import output
from profiler.cli.progress import Progress, duration_text, energy_text
from profiler.cli.view import LiveView, PlainView, open_view


def step(run: int, name: str, seconds: float | None = None, attempt: int = 1) -> dict[str, Any]:
    return {
        "event": "step",
        "run_id": f"s-{run:03d}",
        "experiment_id": f"examples_mnist_cnn_{run:03d}",
        "attempt": attempt,
        "step": name,
        "seconds": seconds,
    }


def ended(run: int, verdict: str = "valid", *, final: bool = True, attempt: int = 1, **row: Any) -> dict[str, Any]:
    known = {
        "run_id": f"s-{run:03d}",
        "experiment_id": f"examples_mnist_cnn_{run:03d}",
        "attempt": attempt,
        "is_final": final,
        "verdict": verdict,
        "duration_s": 12.34,
        "reasons": [],
        "gpu_energy_j": None,
        "cpu_energy_total_j": None,
        "primary_metric": "accuracy",
        "primary_metric_value": 0.931,
    }
    return {"event": "attempt", "row": {**known, **row}}


SESSION = {"event": "session", "session_id": "run_1", "path": "results/run_1", "runs": 3}

RECORDED: tuple[tuple[float, dict[str, Any]], ...] = (
    (0, SESSION),
    (1, step(1, "waiting")),
    (2, step(1, "gate")),
    (3, step(1, "training")),
    (4, {"event": "power", "watts": {"gpu 0": 310.5, "package-0": None}}),
    (10, {"event": "warning", "message": "left out: node b"}),
    (20, ended(1, gpu_energy_j=12_345.6)),
    (20, step(1, "cooling", 5.0)),
    (26, step(2, "training")),
    (40, ended(2, "failed", final=False, reasons=["exit"])),
    (41, step(2, "training", attempt=2)),
    (60, ended(2, "failed", attempt=2, reasons=["exit"])),
    (61, step(3, "training")),
    (90, ended(3, "contaminated", reasons=["throttled", "no_energy_source"])),
    (91, {"event": "end", "valid": 2, "failed": 1}),
)


class Clock:
    """A clock that stands where it is put."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def replay(view: Any, clock: Clock, until_s: float = 1e9) -> None:
    for at_s, event in RECORDED:
        if at_s <= until_s:
            clock.now_s = at_s
            view(event)


def test_the_state_follows_the_events() -> None:
    progress = Progress(0.0)
    for at_s, event in RECORDED:
        progress.apply(event, at_s)
    assert (progress.total, progress.finished, progress.attempts) == (3, 3, 4)
    assert dict(progress.verdicts) == {"valid": 1, "failed": 1, "contaminated": 1}
    assert progress.counts_text() == "3/3 runs, 1 valid, 1 contaminated, 1 failed"
    assert progress.ended
    assert progress.steps(100) == []


def test_the_time_left_follows_the_pace() -> None:
    progress = Progress(0.0)
    progress.apply(SESSION, 0)
    assert progress.eta_s(5) is None
    progress.apply(ended(1), 20)
    assert progress.eta_s(20) == 40
    assert progress.eta_s(30) == 30
    assert progress.eta_s(1000) == 0


def test_cooling_shows_its_seconds_and_is_over_by_itself() -> None:
    progress = Progress(0.0)
    progress.apply(step(1, "cooling", 60.0), 100)
    (cooling,) = progress.steps(112)
    assert cooling.text(112) == "cooling 12/60 s"
    assert progress.steps(160) == []


def test_off_a_terminal_each_change_is_one_line() -> None:
    lines: list[str] = []
    clock = Clock()
    with PlainView(clock, lines.append) as view:
        replay(view, clock)
    assert lines == [
        "session run_1: 3 runs, in results/run_1",
        "examples_mnist_cnn_001 attempt 1: waiting",
        "examples_mnist_cnn_001 attempt 1: gate",
        "examples_mnist_cnn_001 attempt 1: training",
        "warning: left out: node b",
        "examples_mnist_cnn_001 attempt 1: valid in 12.3 s, GPU 12.35 kJ, accuracy 0.931"
        " [1/3 runs, 1 valid, about 40 s left]",
        "examples_mnist_cnn_001 attempt 1: cooling (5 s)",
        "examples_mnist_cnn_002 attempt 1: training",
        "examples_mnist_cnn_002 attempt 1: failed in 12.3 s, accuracy 0.931, reasons: exit, will be tried again",
        "examples_mnist_cnn_002 attempt 2: training",
        "examples_mnist_cnn_002 attempt 2: failed in 12.3 s, accuracy 0.931, reasons: exit"
        " [2/3 runs, 1 valid, 1 failed, about 30 s left]",
        "examples_mnist_cnn_003 attempt 1: training",
        "examples_mnist_cnn_003 attempt 1: contaminated in 12.3 s, accuracy 0.931, reasons: throttled"
        " [3/3 runs, 1 valid, 1 contaminated, 1 failed]",
    ]


def test_a_step_told_twice_is_one_line() -> None:
    lines: list[str] = []
    view = PlainView(Clock(), lines.append)
    for _ in range(2):
        view(step(1, "training"))
    assert len(lines) == 1


def live(until_s: float, width: int = 100) -> tuple[str, str]:
    """What stands in the table, and what has scrolled above it, at `until_s`."""
    clock = Clock()
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    view = LiveView(io.StringIO(), clock, console)
    replay(view, clock, until_s)
    assert isinstance(console.file, io.StringIO)
    above = console.file.getvalue()
    with console.capture() as captured:
        console.print(view.render())
    return captured.get(), above


def test_on_a_terminal_the_table_shows_progress_steps_and_watts() -> None:
    table, above = live(10)
    assert "0/3 runs" in table
    assert "examples_mnist_cnn_001" in table
    assert "training 7 s" in table
    assert "gpu 0 310.5 W" in table
    assert "package-0" not in table
    assert "warning: left out: node b" in above
    table, above = live(26)
    assert "1/3 runs, 1 valid" in table
    assert "34 s left" in table
    assert "cooling" not in table
    assert "examples_mnist_cnn_001 attempt 1: valid" in above


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "kind", "term"),
    [(io.StringIO(), PlainView, "xterm"), (Terminal(), LiveView, "xterm"), (Terminal(), PlainView, "dumb")],
)
def test_never_both_views(stream: io.StringIO, kind: type, term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    assert type(open_view(stream, Clock())) is kind


def test_no_colour_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = _screen()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = _screen()
    assert "\x1b[32m" in coloured
    assert not any(f"\x1b[{code}m" in plain for code in (31, 32, 33))


def _screen() -> str:
    stream, clock = Terminal(), Clock()
    with open_view(stream, clock) as view:
        replay(view, clock)
    return stream.getvalue()


def test_a_terminal_that_is_gone_ends_no_campaign() -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    clock = Clock()
    view = LiveView(Gone(), clock)
    replay(view, clock)
    assert view.progress.ended


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4, "0 s"), (59, "59 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations_for_people(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("joules", "text"), [(None, "-"), (0.0, "0 J"), (812.4, "812.4 J"), (12_345.6, "12.35 kJ"), (3.2e6, "3.2 MJ")]
)
def test_energies_for_people(joules: float | None, text: str) -> None:
    assert energy_text(joules) == text


def test_output_knows_a_terminal() -> None:
    streams: Sequence[Any] = (None, io.StringIO())
    assert not any(output.is_terminal(stream) for stream in streams)
