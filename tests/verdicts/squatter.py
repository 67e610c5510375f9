"""A campaign of many short runs, alone and in pairs, with a stranger on the GPU during one of them.

    python -m tests.verdicts.squatter > docs/measurements/squatter.json
    python -m tests.verdicts.squatter --runs 8 --squatted 4

Plan and values are those of a real config, the trainers are stand-ins of half a second: real processes, contained as
ever, on a virtual GPU. The stranger is a real process too. What it was planted over is known from the clock; what the
verdicts say is compared with that. Prints one JSON document, and ends with 1 where the two differ.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

import profiler
from tests.campaigns import command, environment
from tests.fakes import nvml
from tests.fakes.gpu_player import GpuPlayer, Part
from tests.verdicts import stand_ins

CONFIG = Path(__file__).parents[2] / "configs" / "mutation_all_models_2x_dynamic.yaml"
STRANGER = ("sleep", "86398")  # nobody else sleeps as long
STRANGER_MIB = 5500.0
STAYS_S = 2.0
SETTINGS = ("cooling.seconds=0", "thresholds.cpu_contention=1e6")
"""Others may use the CPUs of this machine meanwhile: that is no subject here."""
PARTS = {"trainer": Part(50, 0.0), "stranger": Part(30, 0.0, STRANGER_MIB)}
LOOK_S = 0.05


def marker_of(words: Sequence[str]) -> str | None:
    """What a process is on the virtual GPU, by its command line."""
    if tuple(words[:2]) == STRANGER:
        return "stranger"
    return "trainer" if any(word.endswith("/stand_in.py") for word in words[2:3]) else None


def first_runs(config: Path, count: int, folder: Path) -> Path:
    """A config with the first `count` items of `config`, one run each."""
    document = yaml.safe_load(config.read_text())
    document |= {"runs_per_config": 1, "experiments": document["experiments"][:count]}
    target = folder / "first.yaml"
    target.write_text(yaml.safe_dump(document))
    return target


def replay(config: Path, squatted: int, folder: Path, library: Path) -> dict[str, Any]:
    """Run `config` with the stranger during run number `squatted`; what was planted, and what was found."""
    gpu = nvml.FakeNvml(folder / "nvml.state", library)
    results = folder / "results"
    options = [word for setting in SETTINGS for word in ("--set", setting)]
    repos = {"PROFILER_REPOS": str(stand_ins.make(folder / "repos"))}
    begun_s = time.monotonic()
    with GpuPlayer(gpu, PARTS, marker_of=marker_of, look_s=LOOK_S), (folder / "stderr").open("w") as stderr:
        campaign = subprocess.Popen(
            command("run", config, "--results", results, *options),
            env={**environment(**gpu.env), **repos}, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
        wait_for(lambda: any(log.stat().st_size for log in _logs(results, squatted)), campaign)
        planted_ns = squat(STAYS_S)
        code = campaign.wait()
    session = profiler.open(next(results.glob("run_*")))
    found = judged(session.rows(), planted_ns, session.root)
    return {"exit_code": code, "seconds": round(time.monotonic() - begun_s, 1), **found}


def _logs(results: Path, index: int) -> list[Path]:
    return [
        *results.glob(f"run_*/*_{index:03d}/training.log"),
        *results.glob(f"run_*/*_{index:03d}_parallel/training.log"),
    ]


def wait_for(condition: Callable[[], bool], campaign: subprocess.Popen[bytes]) -> None:
    while not condition():
        if campaign.poll() is not None:
            raise SystemExit(f"the campaign ended early with {campaign.returncode}")
        time.sleep(0.02)


def squat(seconds: float) -> tuple[int, int]:
    """A stranger for so long; from when to when it was there (CLOCK_MONOTONIC, ns)."""
    from_ns = time.monotonic_ns()
    with subprocess.Popen(STRANGER) as stranger:
        time.sleep(seconds)
        stranger.kill()
    return from_ns, time.monotonic_ns()


def judged(rows: Sequence[dict[str, Any]], planted_ns: tuple[int, int], root: Path) -> dict[str, Any]:
    """Verdicts beside the truth: a run is squatted if its window overlaps the stranger's time by more than a tick."""
    from_ns, to_ns = planted_ns
    tick_ns = 100_000_000
    squatted = [
        row["index"]
        for row in rows
        if row["window_start_ns"] is not None
        and min(row["window_end_ns"], to_ns) - max(row["window_start_ns"], from_ns) > tick_ns
    ]
    others = [row for row in rows if row["index"] not in squatted]
    return {
        "runs": len(rows),
        "pairs": sum(row["mode"] == "parallel" for row in rows),
        "valid": sum(bool(row["valid"]) for row in rows),
        "attempts_repeated": sum((row["attempt"] or 1) > 1 for row in rows),
        "stranger_s": round((to_ns - from_ns) / 1e9, 3),
        "squatted": squatted,
        "not_safe": [row["index"] for row in rows if not row["safe"]],
        "evidence": {row["index"]: row["evidence"] for row in rows if not row["safe"]},
        "reasons_of_the_others": dict(Counter(name for row in others for name in _reasons(row))),
        "gate_waited_s": {
            row["index"]: round(row["gate_wait_s"], 2) for row in rows if (row["gate_wait_s"] or 0) > 0.5
        },
        "duration_s": _spread([row["duration_s"] for row in rows if row["duration_s"] is not None]),
        "summary_safe_is_the_rest": _lines(root / "summary_safe.csv")
        == [
            line
            for line in _lines(root / "summary.csv")
            if int(line["experiment_id"].split("_parallel")[0][-3:]) not in squatted
        ],
    }


def _reasons(row: dict[str, Any]) -> list[str]:
    return ["not run"] if row["reasons"] is None else list(row["reasons"])


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"min": round(ordered[0], 3), "median": round(ordered[len(ordered) // 2], 3), "max": round(ordered[-1], 3)}


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return [{name: value for name, value in line.items() if value} for line in csv.DictReader(stream)]


def as_planted(found: dict[str, Any]) -> bool:
    """Whether the verdicts say what was planted, and nothing else."""
    return (
        found["exit_code"] == 0
        and found["valid"] >= 0.95 * found["runs"]
        and found["not_safe"] == found["squatted"] != []
        and not found["reasons_of_the_others"]
        and found["summary_safe_is_the_rest"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--runs", type=int, help="only the first so many items of the config, one run each")
    parser.add_argument("--squatted", type=int, default=130, help="the run with the stranger")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    config = options.config if options.runs is None else first_runs(options.config, options.runs, folder)
    found = replay(config, options.squatted, folder, nvml.build(nvml.default_cache()))
    what = {"what": "a stranger on the GPU during one run of a campaign", "config": config.name, "settings": SETTINGS}
    print(json.dumps({**what, **found, "as_planted": as_planted(found)}, indent=1))
    return 0 if as_planted(found) else 1


if __name__ == "__main__":
    sys.exit(main())
