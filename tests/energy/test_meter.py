"""Windows in a plain process, on a fake powercap tree that draws a known power. Real readers, real threads, seconds."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from profiler.energy.meter import Meter, meter, visible_gpus
from profiler.energy.sources import SYSFS_VARIABLE, Sources
from profiler.errors import UsageError
from tests.fakes import powercap

WATTS = 40.0
ZONES = (
    powercap.Zone("intel-rapl:0", "package-0", WATTS, 5_000_000_000),
    powercap.Zone("intel-rapl:0:0", "dram", 10.0, 7_000_000_000, powercap.SERVER_DRAM_UNIT_NJ),
)


@pytest.fixture
def sysfs(tmp_path: Path) -> Iterator[Path]:
    powercap.build(tmp_path, ZONES)
    with powercap.Player(tmp_path, ZONES):
        yield tmp_path


def test_nested_windows_share_a_sampler_and_each_has_its_energy(sysfs: Path) -> None:
    with Meter(sysfs=sysfs, rate_hz=20.0) as instruments, instruments.window("outer") as outer:
        time.sleep(0.3)
        with instruments.window("inner") as inner:
            time.sleep(0.5)
    for window in (outer, inner):
        assert window.cpu_package_energy_j == pytest.approx(WATTS * window.duration_s, rel=0.1)
        assert window.dram_energy_j == pytest.approx(10.0 * window.duration_s, rel=0.1)
        assert window.samples == pytest.approx(20 * window.duration_s, abs=2)
        assert window.null_reasons["gpu_energy_j"]
    assert outer.duration_s > inner.duration_s >= 0.5
    assert outer.start_ns < inner.start_ns < inner.end_ns <= outer.end_ns


def test_a_wrap_in_the_window_costs_nothing(tmp_path: Path) -> None:
    zone = powercap.Zone("intel-rapl:0", "package-0", WATTS)
    near = powercap.Zone("intel-rapl:0", "package-0", WATTS, zone.max_energy_range_uj - 30_000_000)
    powercap.build(tmp_path, [near])
    with powercap.Player(tmp_path, [near]), Meter(sysfs=tmp_path) as instruments, instruments.window() as window:
        time.sleep(1.0)
    assert window.cpu_package_energy_j == pytest.approx(WATTS * window.duration_s, rel=0.1)
    assert "1 wraps" in window.energy_sources["cpu_package_energy_j"]


def test_windows_in_threads_do_not_disturb_each_other(sysfs: Path) -> None:
    seen: list[float] = []

    def work(instruments: Meter, seconds: float) -> None:
        with instruments.window() as window:
            time.sleep(seconds)
        assert window.cpu_package_energy_j is not None
        seen.append(window.cpu_package_energy_j / window.duration_s)

    with Meter(sysfs=sysfs) as instruments:
        threads = [threading.Thread(target=work, args=(instruments, 0.3 + 0.1 * i)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == pytest.approx([WATTS] * 4, rel=0.15)


def test_figures_are_there_after_the_end_only(sysfs: Path) -> None:
    with Meter(sysfs=sysfs) as instruments:
        window = instruments.window("early")
        with window:
            with pytest.raises(UsageError, match="'early' has not ended"):
                _ = window.gpu_energy_j
            with pytest.raises(UsageError, match="'early' has not ended"):
                _ = window.duration_s
            assert repr(window) == "Window('early', not ended)"
        with pytest.raises(UsageError, match="used before"), window:
            pass
        with pytest.raises(AttributeError, match="no 'gpu_energy'"):
            _ = window.gpu_energy


def test_a_failed_block_still_has_its_figures(sysfs: Path) -> None:
    with Meter(sysfs=sysfs) as instruments:
        window = instruments.window()
        with pytest.raises(RuntimeError), window:
            raise RuntimeError("the training failed")
        assert window.duration_s < 1.0


def test_a_window_that_nobody_asks_holds_no_trace(sysfs: Path) -> None:
    with Meter(sysfs=sysfs) as instruments:
        with instruments.window():
            pass
        with instruments.window() as asked:
            pass
        _ = asked.samples
        gc.collect()
        assert instruments.sampler.holds == 0


def test_nested_blocks_of_a_script_share_the_process_wide_meter(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SYSFS_VARIABLE, str(sysfs))
    threads_before = threading.active_count()
    with meter("epoch 1", rate_hz=12.5) as outer, meter("step", rate_hz=12.5) as inner:
        time.sleep(0.3)
        assert threading.active_count() <= threads_before + 1
    assert outer.cpu_package_energy_j == pytest.approx(WATTS * outer.duration_s, rel=0.15)
    assert inner.label == "step"


def test_a_forked_child_gets_a_sampler_of_its_own(sysfs: Path) -> None:
    program = (
        "import os, time\n"
        "from profiler.energy.meter import meter\n"
        "with meter('parent'): pass\n"
        "if os.fork() == 0:\n"
        "    with meter('child') as window: time.sleep(0.5)\n"
        "    os._exit(0 if window.samples >= 3 and window.cpu_package_energy_j > 0 else 1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    environment = {**os.environ, SYSFS_VARIABLE: str(sysfs)}
    assert subprocess.run([sys.executable, "-c", program], env=environment, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (None, ("GPU-aa", "GPU-bb")),
        ("", ()),
        ("1", ("GPU-bb",)),
        ("GPU-a", ("GPU-aa",)),
        ("0,GPU-bb", ("GPU-aa", "GPU-bb")),
        ("7", ()),
    ],
)
def test_cuda_visible_devices_limits_the_gpus(named: str | None, expected: tuple[str, ...]) -> None:
    gpus = tuple(SimpleNamespace(index=i, uuid=uuid) for i, uuid in enumerate(("GPU-aa", "GPU-bb")))
    environ = {} if named is None else {"CUDA_VISIBLE_DEVICES": named}
    assert visible_gpus(Sources(gpus=gpus), environ) == expected  # type: ignore[arg-type]


def test_the_fake_tree_plays_from_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fakes.powercap", str(tmp_path), "--watts", "40", "--packages", "2"]
    with subprocess.Popen([*command, "--seconds", "60"], stdout=subprocess.PIPE, text=True) as player:
        assert player.stdout is not None
        assert player.stdout.readline() == "ready\n"
        with Meter(sysfs=tmp_path) as instruments, instruments.window() as window:
            time.sleep(0.5)
        player.terminate()
        assert player.wait(10) == 0
    assert window.cpu_package_energy_j == pytest.approx(80.0 * window.duration_s, rel=0.15)
