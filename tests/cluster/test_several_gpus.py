"""One run on several GPUs: who may ask for it, how it is started, and the energy of each of its devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from profiler import config
from profiler.errors import CannotRunError
from profiler.planner import make_plan
from profiler.preflight import check_campaign
from profiler.trainer import TrainerFiles, TrainerJob, trainer_command
from profiler.workloads import load_catalog
from tests import campaigns
from tests.campaigns import pair, quick
from tests.fakes.nvml import FakeNvml

RESNET = {"repo": "pytorch_resnet_cifar10", "model": "resnet20", "mode": "default", "size": "reduced"}


def checked(item: dict[str, Any]) -> None:
    catalog = load_catalog([campaigns.REPOS, *load_catalog_folders()])
    campaign = config.load({"name": "t", "seed": 1, "experiments": [item]}, catalog=catalog)
    check_campaign(make_plan(campaign, catalog), catalog)


def load_catalog_folders() -> list[Path]:
    return [Path(__file__).parents[2] / "repos"]


def test_who_may_ask_for_several() -> None:
    checked({**RESNET, "gpus": 2})
    checked({**quick(), "gpus": 1})
    with pytest.raises(CannotRunError, match=r"quick/quick does not say `multi_gpu: torchrun` in its manifest"):
        checked({**quick(), "gpus": 2})
    with pytest.raises(CannotRunError, match="a run beside a background has one GPU"):
        checked(pair({}, {}, gpus=2))


def test_torchrun_starts_it_once_for_each_gpu_and_nothing_listens_for_them(tmp_path: Path) -> None:
    model = load_catalog(load_catalog_folders()).resolve("pytorch_resnet_cifar10", "resnet20")
    files = TrainerFiles(tmp_path / "work", tmp_path / "events", tmp_path / "log")
    job = TrainerJob(model, model.defaults(), 9, None, None, "GPU-a", more_gpus=("GPU-b",))
    command = trainer_command(job, files, run_id="r", labels={}, environment={"HOME": "/"})
    words = list(command.argv)
    assert words[1:5] == ["-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2"]
    assert words[5:8] == [
        "--rdzv-backend=c10d", "--rdzv-conf=store_type=file", f"--rdzv-endpoint={tmp_path / 'work' / 'rendezvous'}",
    ]  # fmt: skip
    assert words[8].endswith("pytorch_resnet_cifar10/train.py")
    assert command.env["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert command.env["OMP_NUM_THREADS"] == "4"
    assert (command.env["NCCL_SOCKET_IFNAME"], command.env["GLOO_SOCKET_IFNAME"]) == ("lo", "lo")
    alone = trainer_command(
        TrainerJob(model, model.defaults(), 9, None, None, "GPU-a"), files, run_id="r", labels={}, environment={}
    )
    assert "torch.distributed.run" not in alone.argv
    assert (alone.env["CUDA_VISIBLE_DEVICES"], alone.env["OMP_NUM_THREADS"]) == ("GPU-a", "9")


@pytest.mark.ray
@pytest.mark.train
@pytest.mark.cluster
def test_two_processes_train_and_each_gpu_has_its_own_energy(tmp_path: Path, fake_nvml_library: Path) -> None:
    two = FakeNvml(tmp_path / "two.state", fake_nvml_library, gpus=2)
    two.power(300.0, gpu=0)
    two.power(100.0, gpu=1)
    items = [{**RESNET, "hyperparameters": {"epochs": 2}, "gpus": 2}, {**quick(epoch_seconds=0.5), "gpus": 1}]
    path = campaigns.config(tmp_path, items, cooling={"seconds": 0})
    env = {"PROFILER_REPOS": f"{campaigns.REPOS}:{load_catalog_folders()[0]}", **two.env}
    row, single = campaigns.run_json("run", path, "--results", tmp_path / "results", timeout_s=280, **env)["runs"]
    assert row["verdict"] == "valid", row["evidence"]
    uuids = [gpu.uuid for gpu in two.gpus]
    assert sorted(row["gpu_uuids"]) == sorted(uuids)
    assert row["gpu_uuid"] == row["gpu_uuids"][0]
    energies = row["gpu_energy_by_device_j"]
    for uuid, watts in zip(uuids, (300.0, 100.0), strict=True):
        assert energies[uuid] == pytest.approx(watts * row["duration_s"], rel=0.05)
    assert row["gpu_energy_j"] == pytest.approx(sum(energies.values()), abs=1e-6)
    assert row["gpu_energy_integral_j"] == pytest.approx(400.0 * row["duration_s"], rel=0.03)
    assert (row["gpu_energy_foreground_j"], row["null_reasons"]["gpu_energy_foreground_j"]) == (None, "several_gpus")
    assert row["metrics"]["test_accuracy"] >= 0
    log = (tmp_path / "results" / row["session_id"] / row["experiment_id"] / "training.log").read_text()
    assert log.count("Config: ") == 1 and "processes=2" in log
    assert (len(single["gpu_uuids"]), list(single["gpu_energy_by_device_j"])) == (1, [single["gpu_uuid"]])
