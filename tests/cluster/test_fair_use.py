"""Beside somebody else: a campaign begins with what is free, waits for the rest, and leaves what it needs no more."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import profiler
from tests import campaigns
from tests.campaigns import quick
from tests.cluster.nodes import environment, free_port, node
from tests.fakes.nvml import FakeNvml

pytestmark = [pytest.mark.ray, pytest.mark.cluster]

SOMEBODY = """
import sys, time
from cluster.loopback import stay_on_loopback
stay_on_loopback(sys.argv[1])
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")

@ray.remote(num_gpus=1, num_cpus=1)
class Holder:
    def ready(self):
        return time.time()

began = time.time()
holder = Holder.remote()
ray.get(holder.ready.remote())
print("holds", time.time() - began, flush=True)
sys.stdin.read()
"""


@contextmanager
def somebody(address: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A driver of somebody else, who wants one GPU and keeps it until the block ends."""
    job = subprocess.Popen(
        [sys.executable, "-c", SOMEBODY, address], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield job
    finally:
        job.communicate(timeout=60)


@contextmanager
def two_gpus(folder: Path, gpus: FakeNvml) -> Iterator[tuple[str, dict[str, str]]]:
    """A head with these two GPUs and four CPUs: its address, and the environment of who works with it."""
    port = free_port()
    with TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as ray_folder:
        env = environment(
            folder, PROFILER_RAY_PORT=str(port), PROFILER_RAY_TMP=ray_folder, RAY_AUTH_MODE="token",
            PROFILER_RAY_OPTIONS="--num-cpus=4 --num-gpus=2", PROFILER_REPOS=str(campaigns.REPOS), **gpus.env,
        )  # fmt: skip
        with node("head", env=env, log=folder / "log"):
            yield f"127.0.0.1:{port}", env


def await_a_record(results: Path, campaign: subprocess.Popen[str]) -> None:
    """Until the campaign has written its first row."""
    until = time.monotonic() + 120
    while not list(results.glob("run_*/dataset/runs/*.parquet")):
        assert time.monotonic() < until and campaign.poll() is None
        time.sleep(0.1)


def test_it_begins_with_what_is_free_and_takes_the_rest_when_it_comes(tmp_path: Path, fake_nvml_library: Path) -> None:
    two = FakeNvml(tmp_path / "two.state", fake_nvml_library, gpus=2)
    runs = [quick(epochs=1, epoch_seconds=5.0, seed=seed) for seed in range(1, 7)]
    path = campaigns.config(tmp_path, runs, cooling={"seconds": 0}, isolation="gpu")
    with two_gpus(tmp_path, two) as (address, env):
        with somebody(address, env) as first:
            assert first.stdout is not None and first.stdout.readline().startswith("holds")
            campaign = subprocess.Popen(
                campaigns.command("run", path, "--results", tmp_path / "results", "--address", address),
                env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert campaign.stderr is not None
            said = []
            while not any("other Ray jobs hold them" in line for line in said):
                said.append(campaign.stderr.readline())
                assert said[-1], "".join(said)
            await_a_record(tmp_path / "results", campaign)
        _, rest = campaign.communicate(timeout=250)
    assert campaign.returncode == 0, "".join(said) + rest
    rows = sorted(profiler.open(next((tmp_path / "results").glob("run_*"))).rows(), key=lambda row: row["started_at"])
    assert all(row["verdict"] == "valid" for row in rows)
    assert len({row["gpu_uuid"] for row in rows}) == 2
    assert rows[0]["gpu_uuid"] == rows[1]["gpu_uuid"] or rows[0]["ended_at"] > rows[1]["started_at"]


def test_a_gpu_that_no_run_needs_any_more_is_for_others_at_once(tmp_path: Path, fake_nvml_library: Path) -> None:
    two = FakeNvml(tmp_path / "two.state", fake_nvml_library, gpus=2)
    two.set(1, name="NVIDIA A100-SXM4-80GB")
    kinds = ((90.0, "h100"), (0.1, "A100"))
    runs = [{**quick(epochs=1, epoch_seconds=seconds), "gpu_model": kind} for seconds, kind in kinds]
    path = campaigns.config(tmp_path, runs, cooling={"seconds": 0}, isolation="gpu")
    with two_gpus(tmp_path, two) as (address, env):
        campaign = subprocess.Popen(
            campaigns.command("run", path, "--results", tmp_path / "results", "--address", address),
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        await_a_record(tmp_path / "results", campaign)
        with somebody(address, env) as other:
            assert other.stdout is not None and other.stdout.readline().startswith("holds")
            assert campaign.poll() is None, "the first run still trains on the other GPU"
        campaign.terminate()
        campaign.wait(60)
    cut, done = profiler.open(next((tmp_path / "results").glob("run_*"))).attempts()
    assert (cut["index"], cut["is_final"], cut["reasons"][0]) == (1, False, "interrupted")
    assert (done["index"], done["gpu_name"]) == (2, "NVIDIA A100-SXM4-80GB")
