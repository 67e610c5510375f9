"""Writes a run's trace as the energy CSV files of the older tool, on demand. The Parquet trace stays the source.

Times are epoch seconds with milliseconds (the older tool had whole seconds); a value that was not read is N/A.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from profiler.store.files import write_whole
from profiler.store.layout import SessionFolder
from profiler.store.rows import from_arrow
from profiler.store.schema import SAMPLES

NOT_AVAILABLE = "N/A"

GPU_FILES: dict[str, dict[str, str | None]] = {
    "gpu_power.csv": {"power_draw_w": "power_w"},
    "gpu_temperature.csv": {"gpu_temp_c": "temp_c", "memory_temp_c": None},
    "gpu_utilization.csv": {"gpu_util_percent": "util_percent", "memory_util_percent": "memory_util_percent"},
}
"""File -> its columns after `timestamp`, each with the column of `samples` it shows (None: never read)."""


def write_energy_folder(folder: SessionFolder, row: Mapping[str, Any], samples: Any) -> list[Path]:
    """The files of `energy/` for one run. `row` is its row, `samples` its trace as an Arrow table; without a GPU trace
    only cpu_energy.txt is written. Returns the files."""
    return write_energy_files(folder.energy_folder(row["experiment_id"]), row, samples)


def write_energy_files(target: Path, row: Mapping[str, Any], samples: Any) -> list[Path]:
    """The same files in the folder `target`."""
    texts = {"cpu_energy.txt": _cpu_text(row)}
    trace = [sample for sample in from_arrow(SAMPLES, samples) if sample["device"] == row["gpu_uuid"]]
    if row["gpu_uuid"] is not None and trace:
        texts |= {name: _gpu_text(columns, trace) for name, columns in GPU_FILES.items()}
    for name, text in texts.items():
        write_whole(target / name, text.encode())
    return [target / name for name in texts]


def _cpu_text(row: Mapping[str, Any]) -> str:
    lines = ["CPU Energy Consumption Summary", "=" * 30]
    for title, column in (
        ("Package Energy", "cpu_package_energy_j"),
        ("RAM Energy", "dram_energy_j"),
        ("Total CPU Energy", "cpu_energy_total_j"),
    ):
        value = row[column]
        lines.append(f"{title} (Joules): {NOT_AVAILABLE if value is None else repr(value)}")
    return "\n".join(lines) + "\n"


def _gpu_text(columns: Mapping[str, str | None], trace: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["timestamp", *columns])
    for sample in trace:
        if not sample["missed"]:
            writer.writerow([_seconds(sample["t_utc_ns"]), *(_cell(sample, name) for name in columns.values())])
    return text.getvalue()


def _cell(sample: Mapping[str, Any], column: str | None) -> Any:
    value = sample[column] if column else None
    return NOT_AVAILABLE if value is None else value


def _seconds(t_utc_ns: int) -> str:
    return f"{t_utc_ns // 1_000_000_000}.{t_utc_ns // 1_000_000 % 1000:03d}"
