"""The figures that Prometheus gets: counted right, and to be had from the node's endpoint while a campaign runs."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cluster.execution import power_event
from tests import campaigns
from tests.cluster.nodes import environment, free_port, node
from tests.fakes.nvml import FakeNvml


def test_devices_of_several_hosts_are_told_apart() -> None:
    power_w = {("one", "package-0"): 40.0, ("two", "package-0"): 50.0, ("two", "GPU-2"): 300.0}
    event = power_event(power_w, {"one": 0.001, "two": 0.002})
    assert event["watts"] == {"one package-0": 40.0, "two package-0": 50.0, "GPU-2": 300.0}
    assert ("two", "package-0", 50.0) in event["devices"]


def scraped(port: int) -> dict[str, float]:
    """What the endpoint shows of ours, by name and labels that matter."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        if line.startswith("ray_profiler_"):
            name, _, rest = line.partition("{")
            labels = dict(part.split("=", 1) for part in rest.rpartition("}")[0].split(",") if "=" in part)
            key = labels.get("state") or labels.get("device") or ""
            found[name.removeprefix("ray_profiler_") + " " + key.strip('"')] = float(line.rpartition(" ")[2])
    return found


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(find_spec("aiohttp") is None, reason="Ray's agents need ray[default]")
def test_the_endpoint_of_the_node_shows_them(tmp_path: Path, fake_nvml: FakeNvml) -> None:
    fake_nvml.power(300.0)
    port, metrics = free_port(), free_port()
    path = campaigns.config(tmp_path, [campaigns.quick(epochs=60, epoch_seconds=1.0)], cooling={"seconds": 0})
    with TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as ray_folder:
        options = f"--num-cpus=2 --metrics-export-port={metrics}"
        env = environment(
            tmp_path, PROFILER_RAY_PORT=str(port), PROFILER_RAY_TMP=ray_folder, PROFILER_RAY_OPTIONS=options,
            PROFILER_REPOS=str(campaigns.REPOS), RAY_metrics_report_interval_ms="1000", **fake_nvml.env,
        )  # fmt: skip
        with node("head", env=env, log=tmp_path / "log"):
            campaign = subprocess.Popen(
                campaigns.command("run", path, "--results", tmp_path / "results", "--address", f"127.0.0.1:{port}"),
                env={**env, "RAY_AUTH_MODE": "token"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            try:
                seen: dict[str, float] = {}
                until = time.monotonic() + 150
                while f"power_watts {fake_nvml.gpus[0].uuid}" not in seen or seen.get("runs active") != 1:
                    assert campaign.poll() is None and time.monotonic() < until, seen
                    time.sleep(0.5)
                    seen = scraped(metrics)
            finally:
                campaign.terminate()
                said = campaign.communicate(timeout=60)[1]
    assert seen[f"power_watts {fake_nvml.gpus[0].uuid}"] == pytest.approx(300.0, abs=1.0), said
    assert (seen["runs pending"], seen["runs valid"], seen["quarantines "]) == (0, 0, 0)
    assert 0 <= seen["sampler_lateness_seconds "] < 10
