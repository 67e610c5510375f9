"""The gate: on virtual GPUs through real nvidia-ml-py, with real processes, and under a clock of its own."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from profiler.energy.counters import Reading
from profiler.energy.nvml import Nvml, NvmlDevice, open_nvml
from profiler.gate import (
    GateProblem,
    check_boot,
    check_disk,
    check_gpu,
    check_sources,
    wait_until_clear,
)
from tests.fakes import nvml as fake
from tests.fakes.nvml import FakeNvml
from tests.process.harness import wait_until

IDLE_MIB = 4.0


@pytest.fixture
def device(fake_nvml_here: FakeNvml) -> NvmlDevice:
    nvml = open_nvml()
    assert isinstance(nvml, Nvml)
    return nvml.devices[0]


def kinds(problems: list[GateProblem]) -> list[str]:
    return [problem.kind for problem in problems]


def test_an_idle_gpu_is_clear(device: NvmlDevice):
    assert check_gpu(device, (), IDLE_MIB, 64, 60) == []


def test_a_stranger_is_named_with_pid_user_command_and_memory(fake_nvml_here: FakeNvml, device: NvmlDevice):
    with subprocess.Popen(["sleep", "61"]) as squatter:
        wait_until(Path(f"/proc/{squatter.pid}/cmdline").read_bytes)  # empty while the kernel still sets it up
        fake_nvml_here.add_process(squatter.pid, 5500.0)
        problems = check_gpu(device, (), IDLE_MIB, 64)
        squatter.kill()
    assert kinds(problems) == ["foreign_process", "memory_not_idle"]
    stranger, memory = problems
    assert stranger.pid == squatter.pid and stranger.memory_mib == 5500
    assert stranger.user == pwd.getpwuid(os.getuid()).pw_name and stranger.command == "sleep 61"
    assert stranger.device == device.uuid
    for text in (str(squatter.pid), "sleep 61", "5500 MiB", str(stranger.user)):
        assert text in stranger.detail
    assert memory.memory_mib == 5504 and f"held by {squatter.pid}" in memory.detail


def test_a_process_outside_of_this_proc_is_named_by_its_pid(fake_nvml_here: FakeNvml, device: NvmlDevice):
    fake_nvml_here.add_process(4_190_001, None)
    (stranger,) = check_gpu(device, (), IDLE_MIB, 64)
    assert (stranger.pid, stranger.user, stranger.command, stranger.memory_mib) == (4_190_001, None, "", None)
    assert "not visible" in stranger.detail and "unknown memory" in stranger.detail


def test_own_processes_and_their_memory_do_not_count(fake_nvml_here: FakeNvml, device: NvmlDevice):
    fake_nvml_here.add_process(os.getpid(), 3000.0)
    assert check_gpu(device, {os.getpid()}, IDLE_MIB, 64) == []
    fake_nvml_here.set(memory_used_mib=3100.0)
    (problem,) = check_gpu(device, {os.getpid()}, IDLE_MIB, 64)
    assert problem.kind == "memory_not_idle" and "no process that the driver shows" in problem.detail


def test_memory_margin_and_temperature_limit(fake_nvml_here: FakeNvml, device: NvmlDevice):
    fake_nvml_here.set(memory_used_mib=68.0, temp_c=60)
    assert check_gpu(device, (), IDLE_MIB, 64, 60) == []
    fake_nvml_here.set(memory_used_mib=69.0, temp_c=61)
    assert kinds(check_gpu(device, (), IDLE_MIB, 64, 60)) == ["memory_not_idle", "temperature"]
    assert check_gpu(device, (), None, 64, None) == []


def test_a_lost_gpu_is_the_only_problem(fake_nvml_here: FakeNvml, device: NvmlDevice):
    fake_nvml_here.lose()
    assert kinds(check_gpu(device, (), IDLE_MIB, 64, 60)) == ["gpu_lost"]


def test_what_cannot_be_read_now_is_a_problem_and_what_never_can_is_not(fake_nvml_here: FakeNvml, device: NvmlDevice):
    fake_nvml_here.fail("nvmlDeviceGetComputeRunningProcesses", fake.UNKNOWN)
    (problem,) = check_gpu(device, (), IDLE_MIB, 64)
    assert problem.kind == "gpu_unreadable" and "processes" in problem.detail
    fake_nvml_here.heal()
    fake_nvml_here.fail("nvmlDeviceGetComputeRunningProcesses", fake.NOT_SUPPORTED)
    fake_nvml_here.fail("nvmlDeviceGetMemoryInfo", fake.NO_PERMISSION)
    assert check_gpu(device, (), IDLE_MIB, 64) == []


def test_waits_until_a_real_squatter_is_gone(fake_nvml_here: FakeNvml, device: NvmlDevice):
    fake_nvml_here.set(reap_dead_processes=1)
    looks: list[set[int]] = []
    with subprocess.Popen(["sleep", "60"]) as squatter:
        fake_nvml_here.add_process(squatter.pid, 5500.0)

        def on_wait(waited_s: float, problems: Sequence[GateProblem]) -> None:
            looks.append({problem.pid for problem in problems if problem.pid})
            if len(looks) == 2:
                squatter.kill()
                squatter.wait()

        began = time.monotonic()
        result = wait_until_clear([lambda: check_gpu(device, (), IDLE_MIB, 64)], 30, on_wait=on_wait)
        squatter.kill()
    assert result.clear and result.problems == () and 0 < result.waited_s <= time.monotonic() - began
    assert looks == [{squatter.pid}] * 2, "clear at the first look without it"


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def test_gives_up_after_the_bound_with_the_last_problems():
    clock = Clock()
    problem = GateProblem("temperature", "hot")
    told: list[float] = []
    result = wait_until_clear([lambda: [problem]], 10, clock, clock.sleep, lambda waited, _: told.append(waited))
    assert (result.clear, result.problems) == (False, (problem,))
    assert result.waited_s == pytest.approx(10)
    assert told[0] == 0 and told == sorted(told) and len(told) < 12


def test_no_wait_looks_once_and_clear_waits_nothing():
    clock = Clock()
    looks: list[int] = []
    problem = GateProblem("temperature", "hot")
    assert not wait_until_clear([lambda: looks.append(1) or [problem]], 0, clock, clock.sleep).clear
    assert looks == [1]
    assert wait_until_clear([list, tuple], 300, clock, clock.sleep).waited_s == 0.0
    assert clock.now == 100.0


@pytest.mark.parametrize("kind", ["gpu_lost", "node_rebooted"])
def test_does_not_wait_for_what_no_waiting_mends(kind):
    clock = Clock()
    result = wait_until_clear([lambda: [GateProblem(kind, "x")]], 300, clock, clock.sleep)
    assert not result.clear and clock.now == 100.0


def test_sources_that_stopped_answering():
    now = time.monotonic_ns()
    readings = {"package-0": Reading(now, 5), "gpu-0": Reading(now, None, "nvml_gpu_lost")}
    assert check_sources(readings, ["package-0"]) == []
    problems = check_sources(readings, ["package-0", "gpu-0", "dram-0"])
    assert [p.detail for p in problems] == [
        "energy source dram-0: counter_vanished",
        "energy source gpu-0: nvml_gpu_lost",
    ]


def test_disk_space(tmp_path):
    assert check_disk(tmp_path, 0.001) == []
    (problem,) = check_disk(tmp_path, 1e12)
    assert problem.kind == "disk_space" and str(tmp_path) in problem.detail and "MiB free" in problem.detail
    (gone,) = check_disk(tmp_path / "nowhere", 1)
    assert "No such file" in gone.detail
    full = SimpleNamespace(f_bavail=10**9, f_frsize=4096, f_files=100, f_favail=0)
    (inodes,) = check_disk(tmp_path, 1, statvfs=lambda _: full)
    assert "inode" in inodes.detail


def test_reboot():
    assert check_boot("a", "a") == check_boot("", "b") == check_boot("a", "") == []
    assert kinds(check_boot("a", "b")) == ["node_rebooted"]
