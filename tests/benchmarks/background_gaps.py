"""How long the device lies idle between two trainings of a background: `python -m tests.benchmarks.background_gaps`.

One foreground of the given length beside the same background in mode loop and in mode reuse; prints one JSON document
with the gaps of each per minute of the foreground's window. On a machine without a GPU the pair shares its CPUs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import profiler

MODES = ("loop", "reuse")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8, help="of the foreground, mnist_cnn (8)")
    parser.add_argument("--background", default="examples/mnist_rnn", help="REPO/MODEL, one epoch a training")
    parser.add_argument("--size", choices=("full", "reduced"), default="full")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        session = profiler.run(profiler.load(campaign(options)), results=Path(folder))
        rows = [gaps(row) for row in session.rows()]
    print(json.dumps(rows, indent=1))
    return 0 if all(row["gap_s_per_minute"] is not None for row in rows) else 1


def campaign(options: argparse.Namespace) -> dict[str, Any]:
    repo, model = options.background.split("/", 1)
    foreground = {"repo": "examples", "model": "mnist_cnn", "mode": "default"}
    pairs = [
        {
            "mode": "parallel",
            "foreground": {**foreground, "hyperparameters": {"epochs": options.epochs, "seed": 1}},
            "background": {"repo": repo, "model": model, "mode": mode, "hyperparameters": {"epochs": 1, "seed": 1}},
        }
        for mode in MODES
    ]
    return {"name": "gaps", "seed": 1, "max_retries": 0, "size": options.size, "cooling": {"seconds": 1},
            "experiments": pairs}  # fmt: skip


def gaps(row: dict[str, Any]) -> dict[str, Any]:
    """The gaps of one run; null where the background did not tell its trainings apart."""
    minutes = None if row["duration_s"] is None else row["duration_s"] / 60
    known = minutes is not None and row["background_gap_s"] is not None
    return {
        "mode": MODES[row["index"] - 1],
        "verdict": row["verdict"],
        "error_message": row["error_message"],
        "foreground_s": row["duration_s"],
        "background_starts": row["background_starts"],
        "background_trainings": row["background_trainings"],
        "gaps": row["background_gaps"],
        "gap_s": row["background_gap_s"],
        "gap_s_per_minute": row["background_gap_s"] / minutes if known else None,
        "busy_share": row["background_busy_share"],
        "gpu_name": row["gpu_name"],
    }


if __name__ == "__main__":
    sys.exit(main())
