"""Makes small result trees in the form of the older tool, with known figures. Every number in them is made up."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

START_S = 1_760_000_000
ZONE_H = 8
SUCCESS = "Training completed successfully"
MNIST = {"epochs": 10, "learning_rate": 0.01, "batch_size": 32, "seed": 1}


@dataclass
class OldRun:
    """One run: ten samples, one of them two seconds after its neighbour, so that a sum of samples is too low."""

    name: str = "examples_mnist_001"
    repo: str = "examples"
    model: str = "mnist"
    hyperparameters: Mapping[str, Any] = field(default_factory=lambda: dict(MNIST))
    metrics: Mapping[str, Any] = field(default_factory=lambda: {"test_accuracy": 96.0, "test_loss": 0.12})
    success: bool = True
    message: str = SUCCESS
    retries: int = 0
    start_s: int = START_S
    distances_s: Sequence[int] = (1, 1, 1, 2, 1, 1, 1, 1, 1)
    power_w: Sequence[float | str] = (70.5, 80.25, 90.0, 100.0, 100.0, 100.0, 100.0, 90.0, 80.0, 75.0)
    util_percent: Sequence[float | str] = (0, 20, 50, 50, 50, 50, 50, 50, 40, 30)
    duration_s: float = 10.4
    package_j: float = 1_234.5
    ram_j: float = 67.89
    background: tuple[str, str] | None = None
    background_values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def times_s(self) -> list[int]:
        times = [self.start_s]
        for distance in self.distances_s:
            times.append(times[-1] + distance)
        return times

    @property
    def ended(self) -> datetime:
        """Local time of the record, two seconds after the last sample."""
        moment = datetime.fromtimestamp(self.times_s[-1], UTC) + timedelta(hours=ZONE_H, seconds=2, microseconds=250)
        return moment.replace(tzinfo=None)

    @property
    def numbers(self) -> list[tuple[int, float]]:
        pairs = zip(self.times_s, self.power_w, strict=True)
        return [(second, watts) for second, watts in pairs if isinstance(watts, int | float)]

    @property
    def sum_j(self) -> float:
        return sum(watts for _, watts in self.numbers)

    @property
    def trapezoid_j(self) -> float:
        points = self.numbers
        return sum((a_w + b_w) / 2 * (b - a) for (a, a_w), (b, b_w) in pairwise(points))

    def energies(self) -> dict[str, float]:
        watts = [value for _, value in self.numbers]
        util = [float(value) for value in self.util_percent if isinstance(value, int | float)]
        return {
            "cpu_energy_pkg_joules": self.package_j,
            "cpu_energy_ram_joules": self.ram_j,
            "cpu_energy_total_joules": round(self.package_j + self.ram_j, 2),
            "gpu_power_avg_watts": sum(watts) / len(watts),
            "gpu_power_max_watts": max(watts),
            "gpu_power_min_watts": min(watts),
            "gpu_energy_total_joules": self.sum_j,
            "gpu_temp_avg_celsius": 60.0,
            "gpu_temp_max_celsius": 60.0,
            "gpu_util_avg_percent": sum(util) / len(util),
            "gpu_util_max_percent": max(util),
        }

    def record(self) -> dict[str, Any]:
        body = {
            "repository": self.repo,
            "model": self.model,
            "hyperparameters": dict(self.hyperparameters),
            "duration_seconds": self.duration_s,
            "energy_metrics": self.energies(),
            "performance_metrics": dict(self.metrics),
            "training_success": self.success,
            "retries": self.retries,
            "error_message": self.message,
        }
        head = {"experiment_id": self.name, "timestamp": self.ended.isoformat()}
        if self.background is None:
            return {**head, **body}
        repo, model = self.background
        back = {
            "repository": repo,
            "model": model,
            "hyperparameters": dict(self.background_values),
            "log_directory": f"/somewhere/{self.name}/background_logs",
            "note": "load only",
        }
        return {**head, "mode": "parallel", "foreground": body, "background": back}

    def write(self, parent: Path) -> Path:
        """The run's folder below `parent`."""
        folder = parent / self.name
        energy = folder / "energy"
        energy.mkdir(parents=True)
        (folder / "experiment.json").write_text(json.dumps(self.record(), indent=2))
        (energy / "cpu_energy.txt").write_text(
            f"CPU Energy Consumption Summary\n=====\nPackage Energy (Joules): {self.package_j:.2f}\n"
            f"RAM Energy (Joules): {self.ram_j:.2f}\nTotal CPU Energy (Joules): {self.package_j + self.ram_j:.2f}\n"
        )
        (energy / "cpu_energy_raw.txt").write_text(
            f"# started\n\n Performance counter stats for 'system wide':\n\n"
            f"   {self.package_j:,.2f} Joules power/energy-pkg/\n   {self.ram_j:,.2f} Joules power/energy-ram/\n"
        )
        times = self.times_s
        _csv(energy / "gpu_power.csv", ("timestamp", "power_draw_w"), zip(times, self.power_w, strict=True))
        _csv(
            energy / "gpu_temperature.csv",
            ("timestamp", "gpu_temp_c", "memory_temp_c"),
            ((second, 60, "N/A") for second in times),
        )
        _csv(
            energy / "gpu_utilization.csv",
            ("timestamp", "gpu_util_percent", "memory_util_percent"),
            ((second, util, 5) for second, util in zip(times, self.util_percent, strict=True)),
        )
        return folder

    def row(self) -> dict[str, Any]:
        """Its row of summary.csv, written a moment after the record."""
        return {
            "experiment_id": self.name,
            "timestamp": (self.ended + timedelta(microseconds=300)).isoformat(),
            "repository": self.repo,
            "model": self.model,
            "training_success": self.success,
            "duration_seconds": self.duration_s,
            "retries": self.retries,
            **{f"hyperparam_{name}": value for name, value in self.hyperparameters.items()},
            **{f"perf_{name}": value for name, value in self.metrics.items()},
            **{_summary_name(name): value for name, value in self.energies().items()},
        }


def _summary_name(name: str) -> str:
    for old in ("cpu_energy_", "gpu_energy_", "gpu_power_"):
        name = name.replace(old, old.split("_")[0] + "_")
    return f"energy_{name}"


def _csv(path: Path, header: Sequence[str], rows: Any) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_summary(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A summary with every column that occurs."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def later(seconds: int, **what: Any) -> OldRun:
    """A run that began so many seconds after the first."""
    return OldRun(start_s=START_S + seconds, **what)
