"""The launch files: valid where a loader can say so, and a started node that nobody else can reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
import yaml

from tests.cluster.nodes import NODE, environment, free_port, node

LAUNCH = NODE.parent


@pytest.fixture
def ray_folder() -> Iterator[str]:
    """A short path: Ray's sockets are in it."""
    with TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


def listening(process: psutil.Process) -> dict[str, set[str]]:
    """The addresses on which each program of a node listens."""
    found: dict[str, set[str]] = {}
    for one in process.children(recursive=True):
        for connection in one.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.setdefault(one.name(), set()).add(connection.laddr.ip.removeprefix("::ffff:"))
    return found


@pytest.mark.ray
def test_a_ray_of_its_own_listens_on_loopback_only(tmp_path: Path) -> None:
    look = [sys.executable, "-c", LOOK_AT_OWN]
    found = subprocess.run(look, env=environment(tmp_path), capture_output=True, text=True, timeout=120)
    assert {"raylet", "gcs_server"} <= set(found.stdout.split()[::2]), found.stderr
    assert {address.removeprefix("::ffff:") for address in found.stdout.split()[1::2]} == {"127.0.0.1"}


LOOK_AT_OWN = """
import psutil
from cluster.session import open_ray
with open_ray(None):
    for one in psutil.Process().children(recursive=True):
        for connection in one.net_connections("inet"):
            if connection.status == "LISTEN":
                print(one.name().replace(" ", "_"), connection.laddr.ip)
"""


@pytest.mark.ray
def test_a_worker_that_waits_for_the_next_pair_is_kept(tmp_path: Path) -> None:
    look = [sys.executable, "-c", TWO_TASKS_APART]
    found = subprocess.run(look, env=environment(tmp_path), capture_output=True, text=True, timeout=120)
    first, second = found.stdout.split() or [found.stderr, ""]
    assert int(first) == int(second)


TWO_TASKS_APART = """
import os, time
import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from cluster.session import open_ray

@ray.remote
def attempt():
    return ray.get(background.remote())

@ray.remote(num_cpus=1)
def background():
    return os.getpid()

with open_ray(None):
    cpus = ray.cluster_resources()["CPU"]
    group = placement_group([{"CPU": cpus}])
    ray.get(group.ready())
    inside = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    attempt = attempt.options(num_cpus=cpus - 1, scheduling_strategy=inside)
    print(ray.get(attempt.remote()), flush=True)
    time.sleep(4)
    print(ray.get(attempt.remote()), flush=True)
"""


@pytest.mark.ray
def test_what_ray_says_of_workers_that_end_is_not_printed(tmp_path: Path) -> None:
    """As when Ctrl-C reaches them too while a campaign starts."""
    line = [sys.executable, "-c", WORKER_THAT_DIES]
    found = subprocess.run(line, env=environment(tmp_path), capture_output=True, text=True, timeout=120)
    assert (found.stdout, found.stderr) == ("died\n", "")


WORKER_THAT_DIES = """
import os, signal, time
import ray
from cluster.session import open_ray

@ray.remote(max_retries=1)
def dies():
    os.kill(os.getpid(), signal.SIGKILL)

with open_ray(None):
    try:
        ray.get(dies.remote())
    except ray.exceptions.WorkerCrashedError:
        print("died", flush=True)
    time.sleep(2)  # Ray's message is on its way
"""


@pytest.mark.ray
@pytest.mark.cluster
def test_a_ray_that_does_not_come_up_in_time_is_ended_and_started_once_more(tmp_path: Path) -> None:
    """A busy machine, here a raylet that is stopped at its birth, takes longer than the 30 s that Ray allows itself."""
    line = [sys.executable, "-c", STOP_THE_FIRST_RAYLET]
    found = subprocess.run(line, env=environment(tmp_path), capture_output=True, text=True, timeout=180)
    stopped, told, answer, left = found.stdout.splitlines() or [found.stderr] * 4
    assert int(stopped) > 0
    assert "timed out during startup" in told and told.endswith("it is started once more")
    assert (answer, left) == ("42", "[]")


STOP_THE_FIRST_RAYLET = """
import signal, threading, time
import psutil
from cluster.session import open_ray

def stop_it():
    while not (found := [one for one in psutil.Process().children(recursive=True) if one.name() == "raylet"]):
        time.sleep(0.01)
    found[0].send_signal(signal.SIGSTOP)
    print(found[0].pid, flush=True)

threading.Thread(target=stop_it, daemon=True).start()
with open_ray(None, lambda event: print(event["message"], flush=True)):
    import ray
    print(ray.get(ray.remote(lambda: 42).remote()), flush=True)
print(psutil.Process().children(recursive=True), flush=True)
"""


@pytest.mark.ray
@pytest.mark.cluster
def test_a_head_without_an_address_is_for_this_machine_and_its_token(tmp_path: Path, ray_folder: str) -> None:
    port = str(free_port())
    env = environment(
        tmp_path, PROFILER_RAY_PORT=port, PROFILER_RAY_TMP=ray_folder, PROFILER_RAY_OPTIONS="--num-cpus=1"
    )
    with node("head", env=env, log=tmp_path / "log") as process:
        heard = listening(process)
        assert {"gcs_server", "raylet"} <= set(heard)
        assert set().union(*heard.values()) == {"127.0.0.1"}
        look = [sys.executable, "-c", ASK, f"127.0.0.1:{port}"]
        answers = {
            name: subprocess.run(look, env={**env, **change}, capture_output=True, text=True, timeout=120)
            for name, change in {
                "with the token": {"RAY_AUTH_MODE": "token"},
                "without one": {"RAY_AUTH_MODE": "disabled"},
                "with another": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64},
            }.items()
        }
    assert answers["with the token"].stdout.strip() == "1.0 1", answers["with the token"].stderr
    for name in ("without one", "with another"):
        assert answers[name].returncode != 0
        assert "nauthenticated" in answers[name].stderr or "uthentication" in answers[name].stderr, answers[name].stderr


ASK = """
import sys
from cluster.session import open_ray
from profiler.errors import CannotRunError
try:
    with open_ray(sys.argv[1]) as session:
        import ray
        print(ray.cluster_resources()["energy_slot"], len(session.nodes()))
except CannotRunError as error:
    sys.exit(str(error))
"""


@pytest.mark.ray
@pytest.mark.cluster
def test_tasks_of_a_slurm_allocation_make_one_cluster(tmp_path: Path, ray_folder: str) -> None:
    """Two tasks with the variables that srun sets, on this machine's own address."""
    import ray.util

    here = ray.util.get_node_ip_address()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\n[ \"$1 $2 $3\" = 'show hostnames pair[1-2]' ] && printf '{here}\\nother\\n'\n")
    scontrol.chmod(0o755)
    job = str(os.getpid())
    port = 20000 + int(job) % 10000
    common = {
        "PATH": f"{scontrol.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": job, "SLURM_JOB_NODELIST": "pair[1-2]",
        "SLURM_NTASKS_PER_NODE": "1", "SLURMD_NODENAME": here, "PROFILER_RAY_OPTIONS": "--num-cpus=1",
    }  # fmt: skip
    first = environment(tmp_path, **common, SLURM_PROCID="0", PROFILER_RAY_TMP=ray_folder)
    with (
        node("slurm", env=first, log=tmp_path / "first"),
        node("slurm", env={**first, "SLURM_PROCID": "1"}, log=tmp_path / "second"),
    ):
        found = subprocess.run(
            [sys.executable, "-c", ASK, f"{here}:{port}"], env={**first, "RAY_AUTH_MODE": "token"},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert found.stdout.strip() == "2.0 2", found.stderr


@pytest.mark.parametrize(
    ("arguments", "change", "says"),
    [
        (("head",), {"HOME": "/nowhere"}, "no token in /nowhere/.ray/auth_token"),
        (("head",), {"RAY": "no-such-ray"}, "no program no-such-ray"),
        (("worker", "10.0.0.1"), {}, "worker takes the head's address and its own"),
        (("head", "a", "b"), {}, "at most one address"),
        (("slurm",), {}, "not in a task of srun"),
        ((), {}, "node.sh worker HEAD ADDRESS"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, arguments: tuple[str, ...], change: dict[str, str], says: str) -> None:
    env = environment(tmp_path) | change
    result = subprocess.run([str(NODE), *arguments], env=env, capture_output=True, text=True, timeout=20)
    assert result.returncode == 2
    assert says in result.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    units = sorted(LAUNCH.glob("*.service"))
    assert len(units) == 2
    result = subprocess.run(["systemd-analyze", "verify", *map(str, units)], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    broken = tmp_path / "broken.service"
    broken.write_text(units[0].read_text().replace("KillMode=control-group", "KillMode=everything"))
    assert subprocess.run(["systemd-analyze", "verify", str(broken)], capture_output=True, timeout=60).stderr


@pytest.mark.ray
def test_ray_takes_the_on_premise_cluster() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    raw: dict[str, Any] = yaml.safe_load((LAUNCH / "on_premise.yaml").read_text())
    prepared = prepare_config(raw)
    validate_config(prepared)
    assert prepared["max_workers"] == len(raw["provider"]["worker_ips"])
    commands = " ".join([*raw["head_start_ray_commands"], *raw["worker_start_ray_commands"]])
    assert "node.sh head" in commands and "node.sh worker" in commands


def test_scripts_are_programs_that_bash_understands() -> None:
    for script in (NODE, LAUNCH / "profiler.sbatch"):
        assert subprocess.run(["bash", "-n", str(script)], timeout=20).returncode == 0
    assert os.access(NODE, os.X_OK)
