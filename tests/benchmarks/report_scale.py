"""How long `profiler show`, `coverage` and `report` take on a large synthetic session, and what they need.

`python -m tests.benchmarks.report_scale` writes it as one JSON document; `--keep DIR` leaves the session in DIR, or
takes the one that is there.

Runs and samples are written with the store's own writers: one Parquet file a run, as a campaign leaves them while it
runs, and one trace file for the node. The report is timed in this state, then the campaign's end merges the files of
the runs, and all three commands are timed. Bytes a sample are compared with other forms of the same trace.
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
import pyarrow.compute as pc
import pyarrow.parquet as pq

from profiler.store import write
from profiler.store.compact import compact
from profiler.store.files import whole_file
from profiler.store.layout import SessionFolder, create_session
from profiler.store.parquet import parquet_bytes, parquet_writer
from profiler.store.read import parquet_files
from profiler.store.rows import complete_run, to_arrow
from profiler.store.schema import RUNS, SAMPLES, arrow_schema
from profiler.store.trace_csv import write_energy_files
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
BATCH_ROWS = 4 * HZ * len(DEVICES)
"""What a campaign writes at once: four seconds."""
CPU_COLUMNS = ("cpu_package_energy_j", "dram_energy_j", "cpu_energy_total_j")
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
    """Wall and CPU seconds and the largest resident set in MiB of `profiler ARGUMENTS`; the load average before it."""
    load, begun_s = os.getloadavg()[0], time.monotonic()
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
        "load_average": round(load, 1),
    }


def commands(root: Path, page: Path) -> dict[str, tuple[str, ...]]:
    return {
        "show": ("show", str(root)),
        "coverage": ("coverage", str(root)),
        "report": ("report", str(root), "-o", str(page)),
    }


def bytes_a_sample(run: Run) -> dict[str, float]:
    """The trace of one run on disk in several forms, in bytes for each of its samples. The CSV files of the older tool
    hold five columns of the GPU's samples only, so theirs are bytes for each of these."""
    data = _samples(1, run, np.random.default_rng(9))
    gpu = data.filter(pc.equal(data["device"], GPU))
    frame = data.to_pandas()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        batches = [data.slice(start, BATCH_ROWS) for start in range(0, data.num_rows, BATCH_ROWS)]
        frame.to_parquet(folder / "pandas.parquet")
        frame.to_parquet(folder / "plain.parquet", compression=None, use_dictionary=False)
        csv = write_energy_files(folder / "energy", {**dict.fromkeys(CPU_COLUMNS), "gpu_uuid": GPU}, gpu)
        return {
            "merged": round(len(parquet_bytes(SAMPLES, data)) / data.num_rows, 2),
            "in batches, before the merge": round(
                sum(len(parquet_bytes(SAMPLES, batch)) for batch in batches) / data.num_rows, 2
            ),
            "pandas to_parquet": round((folder / "pandas.parquet").stat().st_size / data.num_rows, 2),
            "Parquet without compression and dictionaries": round(
                (folder / "plain.parquet").stat().st_size / data.num_rows, 2
            ),
            "three CSV files of the older tool": round(sum(path.stat().st_size for path in csv) / gpu.num_rows, 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=100_000_000)
    parser.add_argument("--keep", type=Path, help="make the session in this folder and leave it there")
    options = parser.parse_args()
    seconds = options.samples / options.runs / len(DEVICES) / HZ
    runs = make_runs(options.runs, seconds)
    with tempfile.TemporaryDirectory() as temporary:
        folder = session_in(options.keep or Path(temporary), runs)
        trace = next(folder.samples_of("node-a").glob("*.parquet"))
        rows = pq.read_metadata(trace).num_rows
        page = folder.root / "report.html"
        asked = commands(folder.root, page)
        before = timed(*asked["report"]) if len(parquet_files(folder.dataset("runs"))) > 1 else None
        begun_s = time.process_time()
        compact(folder, ["runs"])
        merge_s = time.process_time() - begun_s
        figures = {
            "what": "profiler show, coverage and report on a synthetic session",
            "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
            "runs": options.runs,
            "samples": rows,
            "trace_bytes": trace.stat().st_size,
            "trace_bytes_per_sample": round(trace.stat().st_size / rows, 2),
            "report, a file for each run": before,
            "merge_cpu_seconds": round(merge_s, 1),
            **{name: timed(*arguments) for name, arguments in asked.items()},
            "report_bytes": page.stat().st_size,
            "bytes_a_sample": bytes_a_sample(runs[0]),
        }
    print(json.dumps(figures, indent=2))


def session_in(results: Path, runs: Sequence[Run]) -> SessionFolder:
    """The session that `results` holds already, else a new one."""
    there = sorted(results.glob("run_*"))
    if there:
        return SessionFolder(there[0])
    folder = make_session(results, runs)
    write_trace(folder, runs)
    return folder


if __name__ == "__main__":
    main()
