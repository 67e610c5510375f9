"""The MPS daemon of a pair, with a stand-in for NVIDIA's program: started, asked, ended, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from profiler.config import Cooling
from profiler.errors import CannotRunError
from profiler.mps import CONTROL, MpsServer, check_mps, mps_server
from profiler.workloads import load_catalog
from tests.attempts import local_node
from tests.campaigns import REPOS, pair
from tests.fakes.gpu_player import GpuPlayer, Part, quick_marker
from tests.fakes.nvml import NOT_SUPPORTED, FakeNvml

PROGRAM = Path(__file__).parent / "fakes" / "mps_control.py"


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in under the program's own name, first in PATH."""
    script = tmp_path / "bin" / CONTROL
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -S {PROGRAM} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(server: MpsServer) -> list[int]:
    return [int((server.folder / "daemon").read_text()), *server.server_pids()]


def test_it_serves_one_gpu_and_is_gone_afterwards(control: None, tmp_path: Path) -> None:
    with mps_server("GPU-1", os.environ, {"session": "s", "run": "r"}, (), tmp_path / "logs") as server:
        seen = pids(server)
        assert len(seen) == 2 and all(map(alive, seen))
        assert (server.folder / "seen").read_text() == "GPU-1"
        assert len(str(server.folder)) < 80
        folder = server.folder
    assert not any(map(alive, seen))
    assert not folder.exists()


def test_it_is_ended_with_the_run_that_fails(control: None, tmp_path: Path) -> None:
    seen: list[int] = []

    def run() -> None:
        with mps_server("GPU-1", os.environ, {}, (), tmp_path / "logs") as server:
            seen.extend(pids(server))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert not any(map(alive, seen))


def test_a_killed_owner_leaves_no_daemon(control: None, tmp_path: Path) -> None:
    source = (
        "import os, pathlib, time\n"
        "from profiler.mps import mps_server\n"
        f"with mps_server('GPU-1', os.environ, {{}}, (), pathlib.Path({str(tmp_path / 'logs')!r})) as server:\n"
        "    print((server.folder / 'daemon').read_text().strip(), *server.server_pids(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    seen = [int(word) for word in owner.stdout.readline().split()]
    assert len(seen) == 2 and all(map(alive, seen))
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    deadline = time.monotonic() + 10
    while any(map(alive, seen)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, seen))


def test_one_that_does_not_answer_is_refused_with_its_own_words(
    control: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MPS", "broken")
    with (
        pytest.raises(CannotRunError, match="no device for MPS"),
        mps_server("GPU-1", os.environ, {}, (), tmp_path / "logs"),
    ):
        pass


def test_a_gpu_whose_daemon_does_not_answer_keeps_the_gate_closed(
    control: None, tmp_path: Path, fake_nvml_here: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run can go to another GPU, and the campaign goes on: nothing of it was started here."""
    monkeypatch.setenv("FAKE_MPS", "broken")
    with local_node(tmp_path / "results") as node:
        *_, last = node.messages({**pair({}, {}), "sharing": "mps"})
    assert (last["kind"], last["whole_node"]) == ("gate_closed", False)
    assert "does not answer: no device for MPS" in last["problems"][0]
    assert not list(tmp_path.glob("results/.work/*")) and not list(tmp_path.rglob("background_logs"))


def test_without_the_program_the_refusal_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CannotRunError, match=CONTROL):
        check_mps()


def test_a_fraction_becomes_a_percentage(tmp_path: Path) -> None:
    server = MpsServer(tmp_path, {})
    assert server.client_environment(70.0)["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "70"
    assert server.client_environment(100.0) == {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}


def under_mps(marker: str = "mps-back", min_busy_share: float = 0.05, **more: Any) -> dict[str, Any]:
    background = {"behaviour": "work", "epochs": 100, "epoch_seconds": 0.1, "marker": marker}
    item = pair({"epochs": 2, "epoch_seconds": 1.0, "marker": "mps-front"}, background, sharing="mps", **more)
    item["background"]["min_busy_share"] = min_busy_share
    return item


@pytest.mark.slow
def test_a_pair_under_mps_is_split_by_solo_runs_or_not_at_all(
    control: None, tmp_path: Path, fake_nvml_here: FakeNvml
) -> None:
    item = under_mps(mps_active_threads="fractions")
    clients = {"mps-front": Part(0, 200.0, 500.0, "mps"), "mps-back": Part(0, 100.0, 300.0, "mps")}
    with GpuPlayer(fake_nvml_here, clients), local_node(tmp_path / "results") as node:
        row = node.attempt(item)
    assert (row["verdict"], row["sharing"]) == ("valid", "mps"), row["evidence"]
    assert row["gpu_energy_foreground_j"] is None
    assert "mps" in row["null_reasons"]["gpu_energy_foreground_j"]
    assert row["background_busy_method"] == "events+cpu_time"
    assert (row["gpu_memory_foreground_mib"], row["gpu_memory_background_mib"]) == (500, 300)
    log = next((tmp_path / "results").glob("run_*/*/training.log")).read_text()
    assert "mps /tmp/mps-" in log and "70" in log
    assert (row["mps_active_thread_percent"], row["background_mps_active_thread_percent"]) == pytest.approx((70, 30))


@pytest.mark.slow
def test_beside_a_background_without_a_gpu_all_above_idle_is_the_foregrounds(
    control: None, tmp_path: Path, fake_nvml_here: FakeNvml
) -> None:
    model = load_catalog([REPOS]).resolve("quick", "quick").model_copy(update={"uses_gpu": False})
    front = {"mps-front": Part(0, 200.0, kind="mps")}
    with GpuPlayer(fake_nvml_here, front) as player, local_node(tmp_path / "results") as node:
        row = node.attempt(under_mps("mps-cpu"), background=model)
        truth = player.energy_j("mps-front", row["boundary_start_ns"], row["boundary_end_ns"])
    assert row["gpu_energy_foreground_j"] == pytest.approx(truth, rel=0.05)
    assert (row["gpu_energy_background_j"], row["gpu_attribution_method"]) == (0, "above_idle")


class ServerAndTrainers:
    """Markers of the clients, and of the server once a client has come to it: before that there is none on the GPU."""

    def __init__(self) -> None:
        self._came = False

    def __call__(self, words: Sequence[str]) -> str | None:
        if "fake-mps-server" in words:
            return "server" if self._came else None
        self._came = self._came or quick_marker(words) == "cool-back"
        return quick_marker(words)


@pytest.mark.slow
def test_the_server_is_gone_before_the_gpu_cools(control: None, tmp_path: Path, fake_nvml_here: FakeNvml) -> None:
    """The driver shows it on the GPU as it shows a trainer, and all activity is its."""
    clients = {
        "cool-front": Part(0, 200.0, 500.0, "mps"),
        "cool-back": Part(0, 100.0, 300.0, "mps"),
        "server": Part(80, 0.0, 66.0),
    }
    item = under_mps("cool-back")
    item["foreground"]["hyperparameters"]["marker"] = "cool-front"
    with (
        GpuPlayer(fake_nvml_here, clients, marker_of=ServerAndTrainers()),
        local_node(tmp_path / "results") as node,
    ):
        row = node.attempt(item, cooling=Cooling(until="idle", max_seconds=20))
    assert (row["verdict"], row["reasons"]) == ("valid", []), row["evidence"]
    assert (row["cooling_end"], row["cooling_idle_proven"]) == ("idle", True)


@pytest.mark.slow
def test_a_background_on_the_cpu_is_not_beside_it_under_mps_either(
    control: None, tmp_path: Path, fake_nvml_here: FakeNvml
) -> None:
    item = under_mps("mps-hidden", min_busy_share=0)  # it may idle, and yet it must be there
    with GpuPlayer(fake_nvml_here, {"mps-front": Part(0, 200.0, kind="mps")}), local_node(tmp_path / "results") as node:
        row = node.attempt(item)
    assert (row["verdict"], row["reasons"]) == ("contaminated", ["background_idle"])
    assert "none of its processes was seen on the GPU" in row["evidence"]["background_idle"]


@pytest.mark.slow
def test_a_driver_that_lists_no_clients_of_mps_proves_nothing(
    control: None, tmp_path: Path, fake_nvml_here: FakeNvml
) -> None:
    fake_nvml_here.fail("nvmlDeviceGetMPSComputeRunningProcesses_v3", NOT_SUPPORTED)
    item = under_mps()
    shown = {
        "mps-front": Part(0, 200.0, kind="mps"),
        "mps-back": Part(0, 100.0, kind="mps"),
        "server": Part(90, 0.0, 0.0),
    }

    def marker_of(words: Sequence[str]) -> str | None:
        return "server" if "fake-mps-server" in words else quick_marker(words)

    limits = {"cpu_contention": 1.0, "gpu_not_used": 0.5}
    with GpuPlayer(fake_nvml_here, shown, marker_of=marker_of), local_node(tmp_path / "results") as node:
        row = node.attempt(item, thresholds=limits)
    assert (row["verdict"], row["background_busy_method"]) == ("valid", "events+cpu_time"), row["evidence"]


@pytest.mark.slow
def test_a_pair_that_never_came_to_its_mps_server_is_told(
    control: None, tmp_path: Path, fake_nvml_here: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MPS", "no_server")
    item = under_mps()
    clients = {"mps-front": Part(0, 200.0, kind="mps"), "mps-back": Part(0, 100.0, kind="mps")}
    with GpuPlayer(fake_nvml_here, clients), local_node(tmp_path / "results") as node:
        row = node.attempt(item)
    assert (row["verdict"], row["reasons"]) == ("contaminated", ["mps_not_used"]), row["evidence"]
