"""The virtual NVML itself: real nvidia-ml-py, Ray and the command line see what the state file says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from tests.fakes import nvml as fake
from tests.fakes.nvml import Era, FakeNvml, Segment

CHILD = """
import json, pynvml as n
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(1)
fields = n.nvmlDeviceGetFieldValues(h, [186, 185, 83, 82])
print(json.dumps({
    "count": n.nvmlDeviceGetCount(),
    "same": n.nvmlDeviceGetName(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(h))),
    "power": [fields[0].value.uiVal, fields[1].value.uiVal, n.nvmlDeviceGetPowerUsage(h)],
    "codes": [f.nvmlReturn for f in fields],
    "memory": [getattr(n.nvmlDeviceGetMemoryInfo(h, v), "used") >> 20 for v in (None, n.nvmlMemory_v2)],
    "temperature": [n.nvmlDeviceGetTemperature(h, 0), n.nvmlDeviceGetTemperatureV(h, 0)],
    "pids": [p.pid for p in n.nvmlDeviceGetComputeRunningProcesses(h)],
    "bus": n.nvmlDeviceGetPciInfo(h).bus,
}))
"""


def test_compiles_without_a_warning(tmp_path):
    if fake.compiler() is None:
        pytest.skip("no C compiler")
    assert (fake.build(tmp_path, fake.WARNINGS) / "libnvidia-ml.so.1").is_file()


def test_real_nvidia_ml_py_in_a_child(fake_nvml_library, tmp_path):
    gpus = FakeNvml(tmp_path / "state", fake_nvml_library, gpus=2, watts=300)
    gpus.add_process(77, 100.0, gpu=1)
    seen = gpus.run(CHILD)
    assert seen["count"] == 2 and seen["same"] == "NVIDIA H100 80GB HBM3"
    assert seen["power"] == [300_000] * 3 and seen["codes"] == [0, 0, 0, 3]
    assert seen["memory"] == [584, 104] and seen["temperature"] == [35, 35]
    assert seen["pids"] == [77] and seen["bus"] == 2


def test_ray_detects_the_gpus_with_its_own_binding(fake_nvml_library, tmp_path):
    gpus = FakeNvml(tmp_path / "state", fake_nvml_library, gpus=2)
    source = (
        "import json\n"
        "from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager as M\n"
        "print(json.dumps([M.get_current_node_num_accelerators(), M.get_current_node_accelerator_type()]))\n"
    )
    assert gpus.run(source) == [2, "H100"]


def test_a_running_child_sees_every_change(fake_nvml: FakeNvml):
    source = (
        "import sys, pynvml as n\n"
        "n.nvmlInit(); h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "for line in sys.stdin: print(n.nvmlDeviceGetTemperature(h, 0), flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", source],
        env={**os.environ, **fake_nvml.env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None and child.stdout is not None
    with child:
        for temp_c in range(30, 60):
            fake_nvml.set(temp_c=temp_c)
            child.stdin.write("\n")
            child.stdin.flush()
            assert int(child.stdout.readline()) == temp_c
        child.stdin.close()


def test_counter_steps_every_100_ms(fake_nvml_here: FakeNvml):
    import pynvml as n

    n.nvmlInit()
    handle = n.nvmlDeviceGetHandleByIndex(0)
    fake_nvml_here.power(500.0)
    end = time.monotonic_ns() + 1_050_000_000
    seen = set()
    while time.monotonic_ns() < end:
        seen.add(n.nvmlDeviceGetTotalEnergyConsumption(handle))
        time.sleep(0.01)
    assert 3 <= len(seen) <= 13
    steps = [b - a for a, b in pairwise(sorted(seen)[2:])]
    assert all((step + 1) % 50_000 <= 2 for step in steps)  # a starved reader may miss a step, never see a part of one


def test_library_and_python_agree_on_the_energy(fake_nvml_here: FakeNvml):
    """Frozen at a moment, the counter must show the closed form of exactly that moment."""
    import pynvml as n

    n.nvmlInit()
    handle = n.nvmlDeviceGetHandleByIndex(0)
    start = time.monotonic_ns() - 8_000_000_000
    fake_nvml_here.set(counter_period_ns=0)
    fake_nvml_here.play(
        [Segment(0.3, 100.0, 600.0), Segment(0.05, 600.0), Segment(0.11, 80.0)], repeat=True, start_ns=start
    )
    fake_nvml_here.play([Segment(1.0, 300.0), Segment(0.5, 300.0, 90.0)], start_ns=start + 4_000_000_000)
    for k in range(1, 79):
        at = start + k * 100_000_007
        fake_nvml_here.set(frozen_at_ns=at)
        assert n.nvmlDeviceGetTotalEnergyConsumption(handle) == int(fake_nvml_here.energy_mj(at) + 1e-6)


def test_closed_form_of_simple_profiles():
    assert Era(0, 0.0, (Segment(1, 100.0),)).energy_mj(10e9) == pytest.approx(1_000_000)
    ramp = Era(0, 5.0, (Segment(2, 0.0, 100.0), Segment(1, 50.0)))
    assert ramp.energy_mj(1e9) == pytest.approx(5 + 25_000)
    assert ramp.energy_mj(4e9) == pytest.approx(5 + 100_000 + 50_000 + 50_000)
    bursts = Era(0, 0.0, (Segment(0.1, 600.0), Segment(0.1, 100.0)), repeat=True)
    assert bursts.energy_mj(10.05e9) == pytest.approx(50 * 70_000 + 30_000)
    assert bursts.energy_mj(-5) == 0


def test_a_part_time_sensor_aliases(fake_nvml_here: FakeNvml):
    """25 ms seen of every 100 ms: bursts in step with the sensor are all or nothing, as the literature found."""
    import pynvml as n

    n.nvmlInit()
    handle = n.nvmlDeviceGetHandleByIndex(0)
    fake_nvml_here.set(instant_window_ns=25_000_000)
    grid = time.monotonic_ns() // 100_000_000 * 100_000_000 - 2_000_000_000
    fake_nvml_here.play([Segment(0.05, 600.0), Segment(0.05, 100.0)], repeat=True, start_ns=grid)
    assert n.nvmlDeviceGetFieldValues(handle, [186])[0].value.uiVal == 100_000
    assert n.nvmlDeviceGetPowerUsage(handle) == pytest.approx(350_000, abs=1)


def test_faults_begin_and_end_on_time(fake_nvml_here: FakeNvml):
    import pynvml as n

    n.nvmlInit()
    handle = n.nvmlDeviceGetHandleByIndex(0)
    now = time.monotonic_ns()
    fake_nvml_here.fail("nvmlDeviceGetPowerUsage", fake.UNKNOWN, from_ns=now, until_ns=now + 1_000_000_000)
    with pytest.raises(n.NVMLError):
        n.nvmlDeviceGetPowerUsage(handle)
    time.sleep(1 - (time.monotonic_ns() - now) / 1e9 + 0.01)
    assert n.nvmlDeviceGetPowerUsage(handle) == 70_000
    with pytest.raises(ValueError, match="has no call"):
        fake_nvml_here.fail("nvmlDeviceGetFanSpeed_typo", 3)


def test_processes_come_and_go(fake_nvml_here: FakeNvml):
    import pynvml as n

    n.nvmlInit()
    handle = n.nvmlDeviceGetHandleByIndex(0)
    now = time.monotonic_ns()
    fake_nvml_here.add_process(4_000_001, from_ns=now + 300_000_000, until_ns=now + 800_000_000)
    from_ns, until_ns = now + 300_000_000, now + 800_000_000
    looks = [(0, 0, time.monotonic_ns())]
    while looks[-1][0] < until_ns:
        before_ns, count = time.monotonic_ns(), len(n.nvmlDeviceGetComputeRunningProcesses(handle))
        looks.append((before_ns, count, time.monotonic_ns()))
        time.sleep(0.02)
    for before_ns, count, after_ns in looks[1:]:
        if from_ns <= before_ns and after_ns < until_ns:
            assert count == 1
        elif after_ns < from_ns or until_ns <= before_ns:
            assert count == 0
    fake_nvml_here.set(reap_dead_processes=1)
    with subprocess.Popen(["sleep", "30"]) as child:
        fake_nvml_here.add_process(child.pid, 300.0)
        assert [p.pid for p in n.nvmlDeviceGetComputeRunningProcesses(handle)] == [child.pid]
        child.kill()
        child.wait()
        assert n.nvmlDeviceGetComputeRunningProcesses(handle) == []
        assert n.nvmlDeviceGetMemoryInfo(handle, n.nvmlMemory_v2).used == 4 << 20


def test_reset_counter_starts_anew_and_the_power_sensor_does_not_notice(fake_nvml_here: FakeNvml):
    import pynvml as n

    n.nvmlInit()
    handle = n.nvmlDeviceGetHandleByIndex(0)
    fake_nvml_here.reset_counter()
    time.sleep(0.12)
    assert n.nvmlDeviceGetTotalEnergyConsumption(handle) < 70 * 1000
    assert n.nvmlDeviceGetPowerUsage(handle) == 70_000  # the average over the last second, the reset within it


def test_command_line_writes_a_state(tmp_path):
    if fake.compiler() is None:
        pytest.skip("no C compiler")
    state = tmp_path / "state"
    command = [sys.executable, "-m", "tests.fakes.nvml", str(state), "--gpus", "2", "--watts", "300"]
    extra = ["--process", "99:1500:1", "--cache", str(tmp_path / "cache")]
    text = subprocess.run([*command, *extra], check=True, capture_output=True, text=True).stdout
    env = dict(line.removeprefix("export ").split("=", 1) for line in text.splitlines())
    source = (
        "import json, pynvml as n; n.nvmlInit(); h = n.nvmlDeviceGetHandleByIndex(1)\n"
        "print(json.dumps([n.nvmlDeviceGetPowerUsage(h), [p.pid for p in n.nvmlDeviceGetComputeRunningProcesses(h)]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], env={**os.environ, **env}, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == [300_000, [99]]
