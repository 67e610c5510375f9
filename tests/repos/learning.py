"""Does a model learn? Trains it with true and with shuffled labels and compares.

    python -m tests.repos.learning VulBERTa/cnn MRT-OAST/default --output learning.jsonl

A model learns if three seeds with true labels are at least three standard errors better than three with shuffled ones,
if those stay at chance (they gain less than a tenth of what true labels gain over it), and if the first seed, trained
again, gives the same metric to the bit. Prints one line a training and one a model, appends each training to the output
(what is there already is not trained again) and ends with 1 if a model does not hold. Runs the reduced size with the
manifest's defaults but for --values, and writes nothing else but to a temporary folder. Minutes: no part of the tests.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from profiler.workloads import ModelSpec, load_catalog
from tests.repos.trainings import collect, environment

NEEDED_ERRORS = 3.0
# What a control may gain over chance, as a part of what true labels gain.
CONTROL_GAIN = 0.1
SEEDS = (1, 2, 3)
# The primary metric of a choice by chance on the data that come without a download: one of ten classes, one of two;
# 1.27 right files among 51 candidates. Where none is named here, what the network gives at a learning rate of 0:
# pictures of one person are alike without any learning.
CHANCE = {
    "pytorch_resnet_cifar10": 0.1,
    "examples": 0.1,
    "examples/siamese": 0.5,
    "MRT-OAST": 0.5,
    "VulBERTa": 0.5,
    "bug-localization-by-dnn-and-rvsm": 0.025,
}


@dataclass(frozen=True)
class Trained:
    """One training: `labels` is "true", "shuffled" or "true again"; `value` is the model's primary metric; `values` are
    the hyperparameters that are not the manifest's defaults."""

    repo: str
    model: str
    seed: int
    labels: str
    metric: str
    value: float
    seconds: float
    data_source: str
    threads: int
    values: dict[str, Any] = field(default_factory=dict)


def main() -> int:
    """Compare each model that was named, or all; 0 if all learn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="REPO/MODEL", help="default: all")
    parser.add_argument("--threads", type=int, default=1)
    text = "hyperparameters instead of the manifest's defaults, as in '{\"learning_rate\": 0.02}'"
    parser.add_argument("--values", type=json.loads, default={}, help=text)
    parser.add_argument("-o", "--output", type=Path, default=Path("learning.jsonl"))
    chosen = parser.parse_args()
    catalog = load_catalog()
    names = [name.split("/", 1) for name in chosen.models]
    specs = [catalog.resolve(*name) for name in names] if names else list(catalog.models())
    return max(_compare(spec, chosen.threads, chosen.values, chosen.output) for spec in specs)


def _compare(spec: ModelSpec, threads: int, chosen: dict[str, Any], output: Path) -> int:
    def values(labels: str, seeds: tuple[int, ...] = SEEDS, **other: float) -> list[float]:
        return [_trained(spec, seed, labels, threads, {**chosen, **other}, output).value for seed in seeds]

    true, again, control = values("true"), values("true again", SEEDS[:1]), values("shuffled")
    sign = 1 if spec.metrics[spec.primary_metric].direction == "maximize" else -1
    chance = CHANCE.get(f"{spec.repo}/{spec.name}", CHANCE.get(spec.repo))
    if chance is None:
        chance = statistics.mean(values("true", learning_rate=0.0))
    gain = sign * (statistics.mean(true) - statistics.mean(control))
    error = math.sqrt((statistics.variance(true) + statistics.variance(control)) / len(SEEDS))
    faults = [
        *(["not better than its control"] if gain <= NEEDED_ERRORS * error else []),
        *(["another metric for the same seed"] if again[0] != true[0] else []),
        *_control_faults(sign, chance, statistics.mean(true), statistics.mean(control)),
    ]
    scores = f"{statistics.mean(true):.4f}, control {statistics.mean(control):.4f}, standard error {error:.4f}"
    verdict = "; ".join(faults).upper() or "learns"
    print(f"{spec.repo}/{spec.name}: {spec.primary_metric} {scores}, chance {chance:.3g}: {verdict}", flush=True)
    return 1 if faults else 0


def _control_faults(sign: int, chance: float, true: float, control: float) -> list[str]:
    return ["control above chance"] if sign * (control - chance) > CONTROL_GAIN * sign * (true - chance) else []


def _trained(spec: ModelSpec, seed: int, labels: str, threads: int, values: dict[str, Any], output: Path) -> Trained:
    for line in output.read_text().splitlines() if output.exists() else []:
        found = Trained(**json.loads(line))
        known = (found.repo, found.model, found.seed, found.labels, found.values)
        if known == (spec.repo, spec.name, seed, labels, values):
            return found
    trained = _train(spec, seed, labels, threads, values)
    with output.open("a") as file:
        file.write(json.dumps(asdict(trained)) + "\n")
    print(f"  seed {seed}, {labels} labels: {trained.value:.4f} in {trained.seconds:.0f} s", flush=True)
    return trained


def _train(spec: ModelSpec, seed: int, labels: str, threads: int, values: dict[str, Any]) -> Trained:
    whole = spec.defaults() | {"size": "reduced", "seed": seed} | values
    command = [*spec.argv(whole, python=sys.executable), *(["--shuffle-labels"] if labels == "shuffled" else [])]
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
    metric = spec.primary_metric
    seconds = round(time.monotonic() - started, 1)
    source = training.event("config")["data_source"]
    value = training.metrics[metric]
    return Trained(spec.repo, spec.name, seed, labels, metric, value, seconds, source, threads, values)


if __name__ == "__main__":
    sys.exit(main())
