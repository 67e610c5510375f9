"""Pairs on a real GPU: `python -m tests.hardware.pairs OUT.json [--minutes 8]`. One JSON; needs no network.

Runs the pairs of configs/parallel_feasibility_test.yaml (or those that --sharing names) at one epoch, by time slices,
under MPS or both (--sharing), with each distinct training alone before them (--solo), and writes of each pair: verdict,
peak memory, overlap, slowdown, the parts of the energy, and how long it waited.
"""

from __future__ import annotations

import argparse
import copy
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import yaml

import profiler
from profiler.analysis.pairs import pair_costs

CONFIG = Path(__file__).parents[2] / "configs" / "parallel_feasibility_test.yaml"
ALL = list(range(1, 13))
WAITING_STEPS = ("gate", "settling", "background", "readiness")
OF_A_PAIR = (
    "experiment_id", "model", "background_model", "verdict", "reasons", "evidence", "error_message", "sharing",
    "duration_s", "gpu_uuid", "background_gpu_uuid", "gpu_memory_peak_mib", "gpu_memory_foreground_mib",
    "gpu_memory_background_mib", "memory_mib", "background_busy_share", "background_busy_method", "background_starts",
    "background_gaps", "background_gap_s", "background_epochs_worked", "gpu_energy_j", "gpu_energy_foreground_j",
    "gpu_energy_background_j", "gpu_energy_idle_j", "gpu_energy_other_j", "gpu_attribution_method",
    "gpu_attribution_confidence", "gpu_energy_foreground_sm_ratio_j", "gpu_energy_background_sm_ratio_j",
    "gpu_idle_power_w", "gpu_power_mean_w", "gpu_sm_foreground_percent", "gpu_sm_background_percent",
    "gpu_util_mean_percent", "cooling_s", "cooling_end", "cooling_idle_proven", "gate_wait_s", "steps", "null_reasons",
)  # fmt: skip
OF_A_SOLO = (
    "repo", "model", "verdict", "reasons", "error_message", "duration_s", "ready_s", "gpu_uuid", "gpu_energy_j",
    "training_s", "gpu_energy_training_j", "gpu_idle_power_w", "gpu_power_mean_w", "gpu_memory_peak_mib",
    "gpu_sm_foreground_percent", "gpu_sm_training_percent", "gpu_util_mean_percent",
)  # fmt: skip


def main() -> None:
    options = parse()
    deadline = time.monotonic() + 60 * options.minutes
    found = pairs(options, deadline)
    options.out.write_text(json.dumps(found, indent=1, default=str))
    print(json.dumps(found.get("summary"), indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the JSON file to write")
    parser.add_argument("--minutes", type=float, default=8.0, help="after that time the campaign is ended (8)")
    parser.add_argument("--size", choices=("full", "reduced"), default="full")
    text = "time_slice or mps, each with the numbers of its pairs, from 1, as in mps=1,3,5 (all)"
    parser.add_argument("--sharing", nargs="+", type=sharing_of_pairs, default=[("time_slice", ALL)], help=text)
    parser.add_argument("--mode", choices=("loop", "reuse"), default="loop", help="of the background (loop)")
    text = "each distinct training alone first, for slowdowns and for the parts under MPS; only these if any are named"
    parser.add_argument("--solo", nargs="*", metavar="REPO/MODEL", help=text)
    return parser.parse_args()


def sharing_of_pairs(text: str) -> tuple[str, list[int]]:
    sharing, _, numbers = text.partition("=")
    chosen = [int(number) for number in numbers.split(",")] if numbers else ALL
    if sharing not in ("time_slice", "mps") or not set(chosen) <= set(ALL):
        raise argparse.ArgumentTypeError(f"{text}: expected time_slice or mps, and pairs from 1 to {len(ALL)}")
    return sharing, chosen


def campaign(config: dict[str, Any], deadline: float) -> tuple[list[dict[str, Any]], int]:
    """The rows of a campaign that is interrupted at `deadline`, and its exit code."""
    folder = Path(tempfile.mkdtemp(prefix="pairs-"))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [
        sys.executable,
        "-m",
        "profiler",
        "run",
        str(folder / "config.yaml"),
        "--results",
        str(folder / "results"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        code = process.wait(timeout=max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        code = process.wait()
    sessions = list((folder / "results").glob("run_*"))
    rows = profiler.open(sessions[0]).rows() if sessions else []
    return [row for row in rows if row["verdict"] is not None], code


def pairs(options: argparse.Namespace, deadline: float) -> dict[str, Any]:
    config = yaml.safe_load(CONFIG.read_text())
    together = [
        {**copy.deepcopy(config["experiments"][number - 1]), "sharing": sharing}
        for sharing, numbers in options.sharing
        for number in numbers
    ]
    for item in together:
        item["background"]["mode"] = options.mode
    alone = [] if options.solo is None else list(solo_items(together, options.solo))
    if options.solo and len(alone) < len(options.solo):
        raise SystemExit(f"--solo {' '.join(options.solo)}: not all of these are in the chosen pairs")
    config.update(experiments=[*alone, *together], size=options.size, seed=1, max_retries=0)
    rows, code = campaign(config, deadline)
    both = [row for row in rows if row["background_repo"] is not None]
    costs = [
        {"foreground": cost.foreground[1], "background": cost.background[1], "sharing": cost.sharing,
         **{name: vars(getattr(cost, name)) for name in ("slowdown_foreground", "slowdown_background",
                                                         "energy_saved_j", "energy_saved_share", "time_saved_s")}}
        for cost in pair_costs(rows)
    ]  # fmt: skip
    return {
        "exit_code": code,
        "planned": len(together),
        "summary": summary(both),
        "pairs": [{**{name: row[name] for name in OF_A_PAIR}, **derived(row)} for row in both],
        "alone": [{name: row[name] for name in OF_A_SOLO} for row in rows if row["background_repo"] is None],
        "peak_memory_mib": peaks(rows),
        "costs": costs,
    }


def solo_items(items: list[dict[str, Any]], models: list[str]) -> Iterator[dict[str, Any]]:
    """Each training of `items` once, alone; only those of `models` where any are named."""
    seen = []
    for item in items:
        for part in (item["foreground"], item["background"]):
            training = {name: part[name] for name in ("repo", "model", "hyperparameters")}
            if training not in seen and (not models or f"{part['repo']}/{part['model']}" in models):
                seen.append(training)
                yield {"mode": "default", **training}


def derived(row: dict[str, Any]) -> dict[str, Any]:
    """Waiting of the run; overlap; how far the parts are from the whole."""
    steps = row["steps"] or {}
    waited_s = sum(steps.get(name, 0.0) for name in WAITING_STEPS) + (row["cooling_s"] or 0.0)
    parts = [row[f"gpu_energy_{part}_j"] for part in ("foreground", "background", "idle", "other")]
    known = row["gpu_energy_j"] is not None and None not in parts
    started, ended = row["background_started_at"], row["background_ended_at"]
    overlap = None
    if row["duration_s"] and started is not None and ended is not None:
        together = min(ended, row["ended_at"]) - max(started, row["started_at"])
        overlap = max(0.0, together.total_seconds()) / row["duration_s"]
    return {
        "waited_s": waited_s,
        "overlap_share": overlap,
        "parts_minus_whole_j": sum(parts) - row["gpu_energy_j"] if known else None,
    }


def peaks(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The largest memory seen of each model's processes, in MiB."""
    found: dict[str, float] = {}
    for row in rows:
        for model, column in (
            ("model", "gpu_memory_foreground_mib"),
            ("background_model", "gpu_memory_background_mib"),
        ):
            if row[column] is not None:
                found[row[model]] = max(found.get(row[model], 0.0), row[column])
    return found


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    facts = [derived(row) for row in rows]
    overlaps = [fact["overlap_share"] for fact in facts if fact["overlap_share"] is not None]
    return {
        "executed": len(rows),
        "valid": sum(row["valid"] for row in rows),
        "safe": sum(row["safe"] for row in rows),
        "out_of_memory": sum(not {"oom", "background_oom"}.isdisjoint(row["reasons"]) for row in rows),
        "waited_median_s": median([fact["waited_s"] for fact in facts]) if facts else None,
        "overlap_min": min(overlaps, default=None),
    }


if __name__ == "__main__":
    main()
