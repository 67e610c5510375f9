"""`ray job submit`: the campaign joins the cluster that runs the job; stopped, it leaves nothing and can be resumed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

import profiler
from tests import campaigns
from tests.cluster.nodes import RAY, environment, free_port, node
from tests.process.harness import wait_until

pytestmark = [
    pytest.mark.ray,
    pytest.mark.cluster,
    pytest.mark.skipif(find_spec("aiohttp") is None, reason="Ray's job server needs ray[default]"),
]


@dataclass
class Jobs:
    """The job server of a head, as `ray job` of a user with the token talks to it."""

    address: str
    env: dict[str, str]

    def ray_job(self, command: str, *words: object) -> subprocess.CompletedProcess[str]:
        line = [str(RAY), "job", command, "--address", self.address, *map(str, words)]
        return subprocess.run(line, env=self.env, capture_output=True, text=True, timeout=200)

    def submit(self, name: str, *words: object, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """`profiler WORDS` as the job `name`."""
        return self.ray_job("submit", "--submission-id", name, *options, "--", *campaigns.command(*words))


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """A head that was started in the background of a script, where Ctrl-C is ignored by all that comes of it."""
    dashboard = free_port()
    with TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as ray_folder:
        env = environment(
            tmp_path, PROFILER_RAY_PORT=str(free_port()), PROFILER_RAY_TMP=ray_folder, RAY_AUTH_MODE="token",
            PROFILER_RAY_OPTIONS=f"--num-cpus=2 --dashboard-port={dashboard}", PROFILER_REPOS=str(campaigns.REPOS),
        )  # fmt: skip
        with node("head", env=env, log=tmp_path / "log", in_background=True):
            yield Jobs(f"http://127.0.0.1:{dashboard}", env)


def test_a_job_joins_the_cluster_and_ends_as_the_campaign_does(tmp_path: Path, jobs: Jobs) -> None:
    path = campaigns.config(tmp_path, [campaigns.quick(seed=seed) for seed in (1, 2)], cooling={"seconds": 0})
    done = jobs.submit("whole", "run", path, "--results", tmp_path / "whole")
    assert done.returncode == 0 and "2: 2 valid" in done.stdout, done.stdout + done.stderr
    assert "pid_namespace" in done.stdout, "the table of nodes: it joined, and started no Ray of its own"
    (session,) = (tmp_path / "whole").glob("run_*")
    assert [row["verdict"] for row in profiler.open(session).rows()] == ["valid", "valid"]

    path = campaigns.config(tmp_path, [campaigns.quick(behaviour="no_metric")], max_retries=0, cooling={"seconds": 0})
    failed = jobs.submit("failed", "run", path, "--results", tmp_path / "failed")
    assert failed.returncode == 1 and "failed with exit code 1" in failed.stdout + failed.stderr


def test_a_stopped_job_leaves_nothing_and_is_gone_on_with(tmp_path: Path, jobs: Jobs) -> None:
    runs = [campaigns.quick(seed=1, epochs=1, epoch_seconds=20.0, marker=tmp_path.name)]
    path = campaigns.config(tmp_path, runs, cooling={"seconds": 0})
    options = ["--no-wait", "--runtime-env-json", '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}']
    jobs.submit("long", "run", path, "--results", tmp_path / "long", options=options)
    wait_until(lambda: bool(trainers(tmp_path.name)), 90)
    assert jobs.ray_job("stop", "long").returncode == 0
    wait_until(lambda: not trainers(tmp_path.name), 10)
    assert "everything is stopped" in jobs.ray_job("logs", "long").stdout
    (session,) = (tmp_path / "long").glob("run_*")
    gone_on = jobs.submit("on", "resume", session)
    assert gone_on.returncode == 0, gone_on.stdout + gone_on.stderr
    assert [row["attempt"] for row in profiler.open(session).rows()] == [2]


def trainers(marker: str) -> list[int]:
    """The processes that train with `marker`."""
    found = psutil.process_iter(["cmdline"])
    return [process.pid for process in found if {"--marker", marker} <= set(process.info["cmdline"] or [])]
