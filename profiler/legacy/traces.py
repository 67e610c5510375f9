"""Reads the energy folder of an old run: three GPU files and the words of perf. It computes no energy.

A cell that says N/A is absent; a cell or a line that is damaged is absent and named in `problems`.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from profiler.legacy.cells import epoch_ns, is_absent, number

GPU_FILES: dict[str, dict[str, str]] = {
    "gpu_power.csv": {"power_draw_w": "power_w"},
    "gpu_temperature.csv": {"gpu_temp_c": "temp_c", "memory_temp_c": "memory_temp_c"},
    "gpu_utilization.csv": {"gpu_util_percent": "util_percent", "memory_util_percent": "memory_util_percent"},
}
"""File -> its columns, and the field of `Tick` that each fills."""

CPU_TEXT, PERF_TEXT = "cpu_energy.txt", "cpu_energy_raw.txt"
_PROBLEMS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Tick:
    """One line of the old sampler; times are epoch ns of whole seconds. None where the file has no number."""

    t_ns: int
    power_w: float | None = None
    temp_c: float | None = None
    memory_temp_c: float | None = None
    util_percent: float | None = None
    memory_util_percent: float | None = None


@dataclass(frozen=True)
class OldTrace:
    """What an energy folder holds. CPU figures in J as perf printed them; `problems` names each damaged place."""

    ticks: tuple[Tick, ...] = ()
    package_j: float | None = None
    ram_j: float | None = None
    perf_package_j: float | None = None
    perf_ram_j: float | None = None
    files: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def read_trace(folder: Path) -> OldTrace:
    """Everything in an energy folder; a folder that is not there has nothing."""
    problems: list[str] = []
    merged: dict[tuple[int, int], dict[str, float | None]] = {}
    for name, columns in GPU_FILES.items():
        seen: Counter[int] = Counter()
        for t_ns, values in _rows(folder / name, columns, problems):
            place = (t_ns, seen[t_ns])
            seen[t_ns] += 1
            merged.setdefault(place, {}).update(values)
    summary, perf = _text(folder / CPU_TEXT, problems), _text(folder / PERF_TEXT, problems)
    return OldTrace(
        ticks=tuple(Tick(place[0], **merged[place]) for place in sorted(merged)),
        package_j=_joules(r"Package Energy \(Joules\):\s*([\d.,]+)", summary),
        ram_j=_joules(r"RAM Energy \(Joules\):\s*([\d.,]+)", summary),
        perf_package_j=_joules(r"([\d.,]+)\s+Joules\s+power/energy-pkg/", perf),
        perf_ram_j=_joules(r"([\d.,]+)\s+Joules\s+power/energy-ram/", perf),
        files=tuple(name for name in (*GPU_FILES, CPU_TEXT, PERF_TEXT) if (folder / name).is_file()),
        problems=_shortened(problems),
    )


def _shortened(problems: list[str]) -> tuple[str, ...]:
    more = len(problems) - _PROBLEMS_SHOWN
    return tuple(problems[:_PROBLEMS_SHOWN] + ([f"and {more} more places"] if more > 0 else []))


def _rows(path: Path, columns: Mapping[str, str], problems: list[str]) -> Iterator[tuple[int, dict[str, float | None]]]:
    """Time and values of each line of a GPU file; faults go to `problems`."""
    lines = _text(path, problems).splitlines()
    if not path.is_file():
        return
    if not lines:
        problems.append(f"{path.name} is empty")
        return
    header = [cell.strip() for cell in lines[0].split(",")]
    absent = [name for name in ("timestamp", *columns) if name not in header]
    if "timestamp" in absent:
        problems.append(f"{path.name} has no column timestamp")
        return
    if absent:
        problems.append(f"{path.name} has no column {', '.join(absent)}")
    time_at = header.index("timestamp")
    places = [(header.index(column), name) for column, name in columns.items() if column in header]
    for line, cells in enumerate(csv.reader(lines[1:]), start=2):
        t_ns = epoch_ns(cells[time_at]) if len(cells) == len(header) else None
        if t_ns is None:
            problems.append(f"{path.name}:{line} is torn: {','.join(cells)[:80]!r}")
            continue
        yield t_ns, {name: _value(cells[at], f"{path.name}:{line}", header[at], problems) for at, name in places}


def _value(cell: str, place: str, column: str, problems: list[str]) -> float | None:
    value = number(cell)
    if value is None and not is_absent(cell):
        problems.append(f"{place}: {column} is {cell!r}")
    return value


def _text(path: Path, problems: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror or error}")
        return ""


def _joules(pattern: str, text: str) -> float | None:
    match = re.search(pattern, text)
    return number(match.group(1)) if match else None
