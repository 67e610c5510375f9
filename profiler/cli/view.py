"""The live view of a campaign on stderr: a table that renews itself on a terminal, plain lines elsewhere; never both.

It only listens to the driver's events; it knows nothing of Ray, and a view that cannot be shown ends no campaign.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from profiler.cli import output
from profiler.cli.nodes import preflight_lines
from profiler.cli.progress import CurrentStep, Event, Progress, attempt_text, duration_text

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table

Clock = Callable[[], float]
REFRESH_HZ = 4
STEPS_SHOWN = 24
DEVICES_SHOWN = 12


def open_view(stream: IO[str] | None = None, clock: Clock = time.monotonic) -> PlainView | LiveView:
    """The view that fits `stream` (default: stderr). Used as a context manager and called with every event."""
    stream = sys.stderr if stream is None else stream
    return LiveView(stream, clock) if output.is_terminal(stream) else PlainView(clock)


class PlainView:
    """One line on stderr for each change of step, each attempt that ended, and each warning."""

    def __init__(self, clock: Clock = time.monotonic, say: Callable[[str], None] = output.say) -> None:
        self._clock, self._say = clock, say
        self.progress = Progress(clock())
        self._steps: dict[str, tuple[int, str]] = {}

    def __call__(self, event: Event) -> None:
        now_s = self._clock()
        self.progress.apply(event, now_s)
        line = self._line(event, now_s)
        if line:
            self._say(line)
        if event["event"] == "cooled":
            self._steps.pop(event["run_id"], None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_ignored: object) -> None:
        return None

    def _line(self, event: Event, now_s: float) -> str | None:
        match event["event"]:
            case "session":
                return f"session {event['session_id']}: {event['runs']} runs, in {event['path']}"
            case "step":
                return self._step_line(event)
            case "attempt":
                row = event["row"]
                return f"{row['experiment_id']} attempt {row['attempt']}: {attempt_text(row)}{self._counts(row, now_s)}"
            case "warning":
                return f"warning: {event['message']}"
            case "copies":
                return str(event["message"])
            case "preflight":
                return "\n".join(preflight_lines(event)) or None
        return None

    def _step_line(self, event: Event) -> str | None:
        now = (event["attempt"], event["step"])
        if self._steps.get(event["run_id"]) == now:
            return None
        self._steps[event["run_id"]] = now
        seconds = event.get("seconds")
        length = f" ({seconds:.0f} s)" if seconds is not None else ""
        return f"{event['experiment_id']} attempt {event['attempt']}: {event['step']}{length}"

    def _counts(self, row: Event, now_s: float) -> str:
        if not row.get("is_final"):
            return ""
        eta_s = self.progress.eta_s(now_s)
        left = f", about {duration_text(eta_s)} left" if eta_s else ""
        return f" [{self.progress.counts_text()}{left}]"


class LiveView:
    """A table on a terminal, renewed in place; warnings and ended attempts scroll above it."""

    def __init__(self, stream: IO[str], clock: Clock = time.monotonic, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._clock = clock
        self._lock = threading.Lock()
        self.progress = Progress(clock())
        self._console = console or Console(file=stream, highlight=False)
        self._live = Live(
            console=self._console, get_renderable=self.render, refresh_per_second=REFRESH_HZ, transient=True
        )

    def __call__(self, event: Event) -> None:
        with self._lock:
            self.progress.apply(event, self._clock())
        with suppress(OSError):  # the terminal is gone; the campaign goes on or is being stopped by SIGHUP
            self._print_above(event)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._live.stop()

    def _print_above(self, event: Event) -> None:
        from rich.text import Text

        if event["event"] == "preflight":
            for line in preflight_lines(event):
                self._console.print(Text(line))
        elif event["event"] == "warning":
            self._console.print(Text(f"warning: {event['message']}", style="yellow"))
        elif event["event"] == "copies":
            self._console.print(Text(event["message"]))
        elif event["event"] == "attempt":
            row = event["row"]
            style = {"valid": "green", "contaminated": "yellow", "failed": "red"}.get(str(row.get("verdict")), "")
            self._console.print(
                Text(f"{row['experiment_id']} attempt {row['attempt']}: {attempt_text(row)}", style=style)
            )

    def render(self) -> Group:
        """The table as it stands now; called by the refreshing thread."""
        from rich.console import Group

        with self._lock:
            now_s = self._clock()
            return Group(*self._parts(now_s))

    def _parts(self, now_s: float) -> list[Any]:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        progress = self.progress
        head = Table.grid(padding=(0, 2))
        eta = duration_text(progress.eta_s(now_s))
        head.add_row(
            ProgressBar(total=max(1, progress.total), completed=progress.finished, width=24),
            Text(progress.counts_text()),
            Text(f"{duration_text(now_s - progress.started_s)} gone, {eta} left"),
        )
        parts: list[Any] = [head]
        steps = progress.steps(now_s)
        if steps:
            parts.append(_steps_table(steps[:STEPS_SHOWN], now_s))
        if len(steps) > STEPS_SHOWN:
            parts.append(Text(f"and {len(steps) - STEPS_SHOWN} more"))
        known = {device: watts for device, watts in progress.watts.items() if watts is not None}
        if known:
            parts.append(Text(_power_text(known)))
        return parts


def _power_text(watts: Mapping[str, float]) -> str:
    """The power of each device, or of all together where they are many."""
    if len(watts) > DEVICES_SHOWN:
        return f"power  {sum(watts.values()):,.0f} W, {len(watts)} devices together"
    return "power  " + "  ".join(f"{device} {power_w:.1f} W" for device, power_w in watts.items())


def _steps_table(steps: Sequence[CurrentStep], now_s: float) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for step in steps:
        table.add_row(step.experiment_id, f"attempt {step.attempt}", step.text(now_s))
    return table
