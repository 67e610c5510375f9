"""How long `profiler report` takes on a large synthetic session, and what it needs.

`python -m tests.benchmarks.report_scale` writes both as one JSON document.

Runs and samples are written with the store's own writers: one Parquet file a run, as a campaign leaves them, and one
trace file for the node, as compaction at a campaign's end leaves it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from profiler.store import write
from profiler.store.files import whole_file
from profiler.store.layout import SessionFolder, create_session
from profiler.store.parquet import parquet_bytes, parquet_writer
from profiler.store.rows import complete_run, to_arrow
from profiler.store.schema import RUNS, SAMPLES, arrow_schema
from tests.report.sessions import BOOT, GPU, HZ, MONO_NS, STARTED, Run, planned, run_row, write_events

DEVICES = (
    ("nvml", GPU, "gpu", "instant"),
    ("powercap", "package-0", "cpu_package", "interval"),
    ("powercap", "package-1", "cpu_package", "interval"),
    ("powercap", "dram-0", "dram", "interval"),
)
MODELS = (
    ("examples", "mnist_cnn"),
    ("examples", "mnist_rnn"),
    ("examples", "siamese"),
    ("pytorch_resnet_cifar10", "resnet20"),
    ("pytorch_resnet_cifar10", "resnet56"),
    ("VulBERTa", "mlp"),
)
PAUSE_S = 10.0
RUNS_AT_ONCE = 20


def make_runs(count: int, seconds: float) -> list[Run]:
    """Runs of six models in all modes; one in 20 is contaminated, one in 50 failed. Values and figures are drawn."""
    draw = np.random.default_rng(7)
    runs = []
    for number in range(count):
        repo, model = MODELS[number % len(MODELS)]
        mode = ("mutation", "mutation", "parallel", "default")[number // len(MODELS) % 4]
        rate, epochs = float(10 ** draw.uniform(-4, -1)), int(draw.integers(2, 30))
        values = (
            {"epochs": 10, "learning_rate": 0.01} if mode == "default" else {"epochs": epochs, "learning_rate": rate}
        )
        findings = {"foreign_gpu_process": "process 4711 (python) held 5540 MiB"} if number % 20 == 3 else {}
        findings = {"exit": "exit code 1"} if number % 50 == 7 else findings
        power_w = 180.0 + 3 * epochs + float(draw.normal(0, 4)) + (90 if findings or mode == "parallel" else 0)
        metric = None if "exit" in findings else 0.6 + 0.01 * epochs + float(draw.normal(0, 0.02))
        runs.append(
            Run(
                repo=repo, model=model, mode=mode, values=values, seconds=seconds, gpu_w=power_w, metric=metric,
                background=("examples", "mnist_rnn") if mode == "parallel" else None, findings=findings,
            )
        )  # fmt: skip
    return runs


def make_session(results: Path, runs: Sequence[Run]) -> SessionFolder:
    """The session without its trace. Rows have the bytes that `write_run` would write, without its fsync: ten thousand
    of those are minutes of waiting for a disk that this is not about."""
    folder = create_session(results, lambda: STARTED)
    write.write_campaign(folder, "name: large\nseed: 7\n")
    write.write_plan(folder, {"seed": 7, "digest": "d" * 64, "runs": [planned(n, r) for n, r in enumerate(runs, 1)]})
    for number, run in enumerate(runs, 1):
        row = complete_run(run_row(folder, number, run, run, 1, begun_s(number, run), is_final=True))
        folder.run_file(row["run_id"], 1).write_bytes(parquet_bytes(RUNS, to_arrow(RUNS, [row])))
        write_events(folder, row)
    return folder


def begun_s(number: int, run: Run) -> float:
    return 30.0 + (number - 1) * (run.seconds + PAUSE_S)


def write_trace(folder: SessionFolder, runs: Sequence[Run]) -> tuple[Path, int]:
    """The node's whole trace in one file; the file and its rows."""
    path = folder.samples_of("node-a") / "compacted.parquet"
    draw, rows = np.random.default_rng(8), 0
    with whole_file(path) as file, parquet_writer(SAMPLES, file) as writer:
        for first in range(0, len(runs), RUNS_AT_ONCE):
            part = [_samples(n + 1, runs[n], draw) for n in range(first, min(first + RUNS_AT_ONCE, len(runs)))]
            table = pa.concat_tables(part)
            writer.write_table(table)
            rows += table.num_rows
    return path, rows


def _samples(number: int, run: Run, draw: np.random.Generator) -> pa.Table:
    ticks, devices = round(run.seconds * HZ), len(DEVICES)
    count = ticks * devices
    start_ns = MONO_NS + round(begun_s(number, run) * 1e9)
    lateness = draw.integers(20_000, 400_000, count)
    t_ns = start_ns + np.repeat(np.arange(ticks), devices) * (1_000_000_000 // HZ) + lateness
    levels = np.tile(np.array([run.gpu_w or 0, 40.0, 40.0, 12.0]), ticks)
    power_w = np.round(levels * draw.normal(1, 0.05, count), 3)
    on_gpu = np.tile(np.arange(devices) == 0, ticks)
    columns: dict[str, Any] = {
        "t_mono_ns": t_ns,
        "t_utc_ns": t_ns + 1_772_000_000_000_000_000,
        "node_id": pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), ["node-a"]).cast(pa.string()),
        "boot_id": pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [BOOT]).cast(pa.string()),
        "tick": np.repeat(np.arange(ticks), devices) + round(begun_s(number, run)) * HZ,
        "lateness_ns": lateness,
        "missed": np.zeros(count, bool),
        "energy_j": np.cumsum(power_w) / HZ,
        "counter_units": np.cumsum(power_w * 1e5).astype(np.int64),
        "power_w": power_w,
        "temp_c": pa.array(draw.integers(45, 70, count).astype(float), mask=~on_gpu),
        "util_percent": pa.array(draw.integers(60, 100, count).astype(float), mask=~on_gpu),
        "memory_mib": pa.array(np.full(count, 2048.0), mask=~on_gpu),
        "clock_mhz": pa.array(np.full(count, 1755.0), mask=~on_gpu),
        "throttle_reasons": pa.array(np.zeros(count, np.int64), mask=~on_gpu),
    }
    for place, name in enumerate(("source", "device", "scope", "power_kind")):
        words = [device[place] for device in DEVICES]
        codes = pa.array(np.tile(np.arange(devices, dtype=np.int32), ticks))
        columns[name] = pa.DictionaryArray.from_arrays(codes, pa.array(words)).cast(pa.string())
    schema = arrow_schema(SAMPLES).remove_metadata()
    arrays = [
        pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def timed(*arguments: str) -> dict[str, float]:
    """Wall and CPU seconds, and the largest resident set in MiB, of `profiler ARGUMENTS`."""
    begun_s = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "profiler", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"profiler {' '.join(arguments)} ended with {process.returncode}")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "max_rss_mib": round(usage.ru_maxrss / 1024, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=100_000_000)
    parser.add_argument("--keep", type=Path, help="make the session in this folder and leave it there")
    options = parser.parse_args()
    seconds = options.samples / options.runs / len(DEVICES) / HZ
    with tempfile.TemporaryDirectory() as temporary:
        runs = make_runs(options.runs, seconds)
        folder = make_session(options.keep or Path(temporary), runs)
        trace, rows = write_trace(folder, runs)
        page = folder.root / "report.html"
        used = timed("report", str(folder.root), "-o", str(page))
        figures = {
            "what": "profiler report on a synthetic session",
            "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
            "runs": options.runs,
            "samples": rows,
            "trace_bytes": trace.stat().st_size,
            "trace_bytes_per_sample": round(trace.stat().st_size / rows, 2),
            "report": used,
            "report_bytes": page.stat().st_size,
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
