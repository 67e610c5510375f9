"""Does a model learn? Trains it with true and with shuffled labels and compares.

    python -m tests.repos.learning VulBERTa/cnn MRT-OAST/default

Prints one line a run and one a model; ends with 1 if a model is not at least three standard errors better than its
control. Runs the reduced size with the manifest's defaults unless told otherwise; it writes nothing but to a temporary
folder. Minutes, so no part of the tests.
"""

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from profiler.workloads import ModelSpec, load_catalog
from tests.repos.trainings import collect, environment

NEEDED_ERRORS = 3.0


def main() -> int:
    """Compare each model that was named; 0 if all learn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="REPO/MODEL")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    catalog = load_catalog()
    specs = [catalog.resolve(*name.split("/", 1)) for name in chosen.models]
    return max(_compare(spec, chosen.seeds, chosen.threads) for spec in specs)


def _compare(spec: ModelSpec, seeds: list[int], threads: int) -> int:
    true = [_train(spec, seed, threads, shuffled=False) for seed in seeds]
    control = [_train(spec, seed, threads, shuffled=True) for seed in seeds]
    sign = 1 if spec.metrics[spec.primary_metric].direction == "maximize" else -1
    gain = sign * (statistics.mean(true) - statistics.mean(control))
    error = math.sqrt((statistics.variance(true) + statistics.variance(control)) / len(seeds))
    learns = gain > NEEDED_ERRORS * error
    verdict = "learns" if learns else "DOES NOT LEARN"
    scores = f"{statistics.mean(true):.4f}, control {statistics.mean(control):.4f}, standard error {error:.4f}"
    print(f"{spec.repo}/{spec.name}: {spec.primary_metric} {scores}: {verdict}", flush=True)
    return 0 if learns else 1


def _train(spec: ModelSpec, seed: int, threads: int, *, shuffled: bool) -> float:
    values = spec.defaults() | {"size": "reduced", "seed": seed}
    command = [*spec.argv(values, python=sys.executable), *(["--shuffle-labels"] if shuffled else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.monotonic()
        with (folder / "training.log").open("wb") as log:
            process = subprocess.run(
                command, cwd=folder, env=environment(folder, threads), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        training = collect(process.returncode, folder)
        if training.exit_code != 0:
            raise SystemExit(f"{spec.repo}/{spec.name}, seed {seed}: exit code {training.exit_code}\n{training.log}")
        value = training.metrics[spec.primary_metric]
    labels = "shuffled" if shuffled else "true"
    print(f"  seed {seed}, {labels} labels: {value:.4f} in {time.monotonic() - started:.0f} s", flush=True)
    return value


if __name__ == "__main__":
    sys.exit(main())
