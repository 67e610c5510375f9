"""Every model at reduced size in one campaign on this machine's CPUs: `make models`; many minutes on two cores."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from profiler.workloads import load_catalog
from tests.campaigns import config, run_json

ROOT = Path(__file__).parents[2]
# The preset leaves out the two deepest networks; here they train for half their time.
LONG = {"resnet110": 100, "resnet1202": 100}


@pytest.mark.models
@pytest.mark.ray
@pytest.mark.timeout(3600)
def test_the_default_campaign_is_valid_at_reduced_size_and_so_are_the_two_deepest_networks(tmp_path: Path) -> None:
    preset = yaml.safe_load((ROOT / "configs" / "default.yaml").read_text())
    items: list[dict[str, Any]] = list(preset["experiments"])
    items += [
        {"repo": "pytorch_resnet_cifar10", "model": model, "hyperparameters": {"epochs": epochs}}
        for model, epochs in LONG.items()
    ]
    file = config(tmp_path, items, size="reduced", max_retries=0, cooling={"seconds": 0})
    session = run_json("run", file, "--results", tmp_path / "results", timeout_s=3500)["path"]
    runs = run_json("show", session, timeout_s=120)["runs"]
    known = {(spec.repo, spec.name) for spec in load_catalog().models()}
    assert {(run["repo"], run["model"]) for run in runs} == known and len(runs) == len(known) == 17
    for run in runs:
        name = f"{run['repo']}/{run['model']}"
        assert run["valid"], f"{name}: {run['evidence']}"
        asked = {key: value for key, value in run["requested_hyperparameters"].items() if value is not None}
        assert run["hyperparameters"].items() >= asked.items(), name
        assert (
            run["data_source"] and run["data_hash"] and not run["data_source"].startswith(("CIFAR", "MNIST", "Market"))
        )
