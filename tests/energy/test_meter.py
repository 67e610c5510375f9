"""Windows in a plain process, on a fake powercap tree that draws a known power. Real readers, real threads, seconds."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from profiler.energy.meter import Meter, Window, meter, visible_gpus
from profiler.energy.sources import SYSFS_VARIABLE, Sources, discover
from profiler.errors import UsageError
from tests.fakes import powercap
from tests.process.harness import wait_until

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


def shown_j(sysfs: Path, zone: powercap.Zone) -> float:
    """What a zone's counter has counted since it began to play, however late its player is."""
    shown_uj = int((sysfs / "class" / "powercap" / zone.folder / "energy_uj").read_text())
    return (shown_uj - zone.value_uj(0.0)) % (powercap.RAW_STEPS * zone.unit_nj // 1000) / 1e6


class Witness:
    """Reads the counters on both sides of either end of a window: what the window says must lie between."""

    def __init__(self, sysfs: Path, zones: Sequence[powercap.Zone] = ZONES) -> None:
        self._sysfs, self._zones = sysfs, zones
        self._looks: list[tuple[int, dict[str, float]]] = []

    @contextmanager
    def beside(self, window: Window) -> Iterator[Window]:
        self._look()
        with window:
            self._look()
            yield window
            self._look()
        self._look()

    def _look(self) -> None:
        self._looks.append((time.monotonic_ns(), {zone.name: shown_j(self._sysfs, zone) for zone in self._zones}))

    def confirms(self, joules: float, *names: str) -> bool:
        """Whether the counters of these zones moved by so much together, to 2 %. For the time between its reads and its
        ends the window takes off what the zones draw."""
        (from_ns, before), (t0_ns, first), (t1_ns, last), (until_ns, after) = self._looks
        watts = sum(zone.watts for zone in self._zones if zone.name in names)
        unsure_j = 0.02 * watts * (t1_ns - t0_ns) / 1e9
        taken_off_j = watts * (t0_ns - from_ns + until_ns - t1_ns) / 1e9
        inside_j, around_j = (sum(b[name] - a[name] for name in names) for a, b in ((first, last), (before, after)))
        return inside_j - taken_off_j - unsure_j <= joules <= around_j + unsure_j


def test_nested_windows_share_a_sampler_and_each_has_its_energy(sysfs: Path) -> None:
    around, within = Witness(sysfs), Witness(sysfs)
    with Meter(sysfs=sysfs, rate_hz=20.0) as instruments, around.beside(instruments.window("outer")) as outer:
        time.sleep(0.3)
        with within.beside(instruments.window("inner")) as inner:
            time.sleep(0.5)
    for window, witness in ((outer, around), (inner, within)):
        assert witness.confirms(window.cpu_package_energy_j, "package-0")
        assert witness.confirms(window.dram_energy_j, "dram")
        assert window.samples == pytest.approx(20 * window.duration_s, abs=2)
        assert window.null_reasons["gpu_energy_j"]
    assert outer.duration_s > inner.duration_s >= 0.5
    assert outer.start_ns < inner.start_ns < inner.end_ns <= outer.end_ns


def test_a_wrap_in_the_window_costs_nothing(tmp_path: Path) -> None:
    zone = powercap.Zone("intel-rapl:0", "package-0", WATTS)
    near = powercap.Zone("intel-rapl:0", "package-0", WATTS, zone.max_energy_range_uj - 30_000_000)
    powercap.build(tmp_path, [near])
    witness, energy = Witness(tmp_path, [near]), tmp_path / "class/powercap/intel-rapl:0/energy_uj"
    # The counter begins to move in the window, and the window ends after the wrap, however long either takes.
    with (
        discover(tmp_path, probe_s=0, gpus=False) as found,
        Meter(sources=found) as instruments,
        ExitStack() as played,
        witness.beside(instruments.window()) as window,
    ):
        played.enter_context(powercap.Player(tmp_path, [near]))
        wait_until(lambda: int(energy.read_text()) < near.start_uj // 2)
        time.sleep(0.2)
    assert witness.confirms(window.cpu_package_energy_j, "package-0")
    assert "1 wraps" in window.energy_sources["cpu_package_energy_j"]


def test_windows_in_threads_do_not_disturb_each_other(sysfs: Path) -> None:
    confirmed: list[bool] = []

    def work(instruments: Meter, seconds: float) -> None:
        witness = Witness(sysfs)
        with witness.beside(instruments.window()) as window:
            time.sleep(seconds)
        confirmed.append(witness.confirms(window.cpu_package_energy_j, "package-0"))

    with Meter(sysfs=sysfs) as instruments:
        threads = [threading.Thread(target=work, args=(instruments, 0.3 + 0.1 * i)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert confirmed == [True] * 4


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
    witness = Witness(sysfs)
    with witness.beside(meter("epoch 1", rate_hz=12.5)) as outer, meter("step", rate_hz=12.5) as inner:
        time.sleep(0.3)
        assert threading.active_count() <= threads_before + 1
    assert witness.confirms(outer.cpu_package_energy_j, "package-0")
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
        zones = [powercap.Zone(f"intel-rapl:{n}", f"package-{n}", 40.0, 1_000_000 + n * 7_000_000_000) for n in (0, 1)]
        witness = Witness(tmp_path, zones)
        behind_s: list[float] = []
        with Meter(sysfs=tmp_path) as instruments, witness.beside(instruments.window()) as window:
            for _ in range(200):
                shown = [shown_j(tmp_path, zone) for zone in zones]
                behind_s.append(time.monotonic() - max(shown) / 40.0)
                time.sleep(0.005)
        player.terminate()
        assert player.wait(10) == 0
    assert witness.confirms(window.cpu_package_energy_j, "package-0", "package-1")
    # A player is late now and then, but not more and more.
    assert min(behind_s[:100]) == pytest.approx(min(behind_s[100:]), abs=0.02)
