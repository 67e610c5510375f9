"""Every reason that a verdict can have is planted by real processes and virtual hardware, here or in a file named here.

Nothing stored is edited: what is judged is what was measured.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Thread

import pytest

from profiler.journal import Journal
from profiler.reasons import REASONS
from profiler.store.layout import SessionFolder
from profiler.store.read import open_session
from profiler.workloads import load_catalog
from tests.attempts import LocalNode, local_node
from tests.campaigns import REPOS, config, quick
from tests.fakes import nvml
from tests.fakes.nvml import FakeNvml
from tests.worlds import in_a_world

pytestmark = pytest.mark.slow

ELSEWHERE = {
    "test_campaign.py": (
        "exit", "signal", "timeout", "oom", "not_finished", "metric_missing", "metric_out_of_range",
        "parameter_not_applied", "background_failed",
    ),
    "test_conditions_planted.py": (
        "foreign_gpu_process", "memory_not_idle", "throttled", "cpu_contention", "suspended", "clock_stepped",
    ),
    "test_pairs.py": ("background_idle", "background_oom", "gpu_not_used", "warm_start"),
    "test_mps.py": ("mps_not_used",),
    "faults/records.py": ("interrupted",),
    "legacy/test_import.py": ("conditions_unknown", "imported", "imported_failure"),
    "legacy/test_damaged.py": ("imported_unproven",),
}  # fmt: skip
HERE = (
    "start_failed", "data_missing", "effective_unknown", "too_short", "no_energy_source", "sampler_gap",
    "counter_integral_gap", "uncontained", "node_rebooted",
)  # fmt: skip
NOBODY_CAN_ASK = ("estimate_used",)
"""A reason of the contract that no config leads to: nothing here is ever estimated."""


def test_no_reason_is_left_out() -> None:
    assert sorted([*HERE, *NOBODY_CAN_ASK, *(name for names in ELSEWHERE.values() for name in names)]) == sorted(
        REASONS
    )
    for file, names in ELSEWHERE.items():
        text = (Path(__file__).parents[1] / file).read_text()
        assert [name for name in names if f'"{name}"' not in text] == [], file


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalNode]:
    """A node without a GPU, and without the counters of a CPU."""
    (tmp_path / "sys").mkdir()
    monkeypatch.setenv("PROFILER_SYSFS_ROOT", str(tmp_path / "sys"))
    with local_node(tmp_path / "results") as node:
        yield node


def test_a_program_that_is_not_there(bare: LocalNode) -> None:
    model = load_catalog([REPOS]).resolve("quick", "quick")
    row = bare.attempt(
        quick(), foreground=model.model_copy(update={"command": ("/nowhere/train", "{hyperparameters}")})
    )
    assert (row["verdict"], row["reasons"][0]) == ("failed", "start_failed")
    assert "No such file" in row["evidence"]["start_failed"]


def test_data_that_is_not_there(bare: LocalNode) -> None:
    row = bare.attempt(quick(behaviour="no_data"))
    assert (row["verdict"], row["reasons"][0]) == ("failed", "data_missing")
    assert row["evidence"]["data_missing"] == "the trainer says: no such folder: digits; exit code 1"


def test_a_trainer_that_does_not_tell_its_values_on_a_machine_without_sensors(bare: LocalNode) -> None:
    row = bare.attempt(quick(behaviour="silent"))
    assert (row["verdict"], row["reasons"]) == ("valid", ["no_energy_source", "effective_unknown"])
    assert row["hyperparameters"] is None
    assert row["evidence"]["effective_unknown"] == "no config event"


def test_a_run_of_too_few_updates_of_the_counter(tmp_path: Path, fake_nvml_here: FakeNvml) -> None:
    """The limit of five updates, half a second, is tested on a virtual clock: no process is sure to be so quick."""
    with local_node(tmp_path / "results") as node:
        row = node.attempt(quick(epochs=1, epoch_seconds=0.1), thresholds={"too_short": 300, "cpu_contention": 1e6})
    assert (row["verdict"], row["reasons"]) == ("valid", ["too_short"])
    assert row["gpu_energy_j"] > 0


def test_a_hole_in_the_trace_of_a_gpu_without_a_counter(tmp_path: Path, fake_nvml_here: FakeNvml) -> None:
    for call in ("nvmlDeviceGetTotalEnergyConsumption", "field:83", "nvmlDeviceGetSamples"):
        fake_nvml_here.fail(call, nvml.NOT_SUPPORTED)
    blinded: list[tuple[int, int]] = []
    with local_node(tmp_path) as node:
        with in_training(tmp_path, lambda: blinded.append(blind(fake_nvml_here, 1.5))):
            row = node.attempt(quick(epochs=1, epoch_seconds=4.0))
        trace = [sample for sample in node.actor.sampler.rows(0)[0] if sample.scope == "gpu"]
    assert (row["verdict"], row["reasons"]) == ("contaminated", ["sampler_gap", "no_energy_source"]), row["evidence"]
    assert (row["gpu_energy_j"], row["null_reasons"]["gpu_energy_j"]) == (None, "trace_gap")
    (gap,) = [entry for entry in row["observations"] if entry["reason"] == "sampler_gap"]
    ((from_ns, until_ns),) = blinded
    assert gap["start_ns"] <= from_ns < until_ns <= gap["end_ns"]
    known_ns = [sample.t_mono_ns for sample in trace if sample.power_w is not None]
    assert (gap["start_ns"], gap["end_ns"]) in pairwise(known_ns), "however late the readings on either side came"
    assert gap["evidence"].startswith(f"{(gap['end_ns'] - gap['start_ns']) / 1e9:.1f} s without a power reading")


def test_power_that_the_sensor_does_not_see(tmp_path: Path, fake_nvml_here: FakeNvml) -> None:
    """The power is high for the first half of each of the sensor's 100 ms, and it looks at the last 25 of them only.
    Begun at any moment, the bursts would show it their true mean in one case of seventy."""
    fake_nvml_here.set(instant_window_ns=25_000_000)
    fake_nvml_here.fail("nvmlDeviceGetSamples", nvml.NOT_SUPPORTED)
    fake_nvml_here.bursts(600.0, 100.0, 0.1, in_step=True)
    with local_node(tmp_path / "results") as node:
        row = node.attempt(quick(epochs=1, epoch_seconds=10.2))
    assert (row["verdict"], row["reasons"]) == ("valid", ["counter_integral_gap"]), row["evidence"]
    assert row["gpu_energy_j"] == pytest.approx(350 * row["duration_s"], rel=0.02)


@contextmanager
def in_training(results: Path, what: Callable[[], object]) -> Iterator[None]:
    """`what` is done half a second after the run's trainer has said a word."""

    def wait() -> None:
        says_something(results)
        time.sleep(0.5)
        what()

    thread = Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def says_something(results: Path, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not any(log.stat().st_size for log in results.glob("run_*/*/training.log")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def blind(gpu: FakeNvml, seconds: float) -> tuple[int, int]:
    """Soon the GPU tells no power for a while: from when to when (CLOCK_MONOTONIC, ns)."""
    from_ns = time.monotonic_ns() + 200_000_000
    until_ns = from_ns + round(seconds * 1e9)
    for call in ("field:186", "field:185", "nvmlDeviceGetPowerUsage"):
        gpu.fail(call, nvml.UNKNOWN, from_ns=from_ns, until_ns=until_ns)
    return from_ns, until_ns


UNCONTAINED = """
import json, sys
from pathlib import Path
from tests.attempts import local_node
from tests.campaigns import quick
with local_node(Path(sys.argv[1])) as node:
    row = node.attempt(quick(), allow_uncontained=True, thresholds={"cpu_contention": 1e6})
print(json.dumps([row["verdict"], row["reasons"], row["containment"]]))
"""


def test_nothing_here_can_contain(tmp_path: Path) -> None:
    world = "mount -t tmpfs none /sys/fs/cgroup && exec setpriv --bounding-set -all --inh-caps -all"
    program = in_a_world(world, sys.executable, "-c", UNCONTAINED, tmp_path, PROFILER_SYSFS_ROOT=str(tmp_path))
    verdict, reasons, containment = json.loads(program.communicate(timeout=120)[0])
    assert (verdict, reasons, containment) == ("contaminated", ["uncontained", "no_energy_source"], "subreaper")


def test_a_machine_that_was_booted_anew(tmp_path: Path) -> None:
    """The campaign runs under another boot id than this machine's and is killed; it is resumed outside."""
    (tmp_path / "boot_id").write_text("00000000-0000-4000-8000-000000000001\n")
    path = config(tmp_path, [quick(epochs=1, epoch_seconds=60.0)])
    world = f"mount --bind {tmp_path / 'boot_id'} /proc/sys/kernel/random/boot_id && exec"
    with in_a_world(world, sys.executable, "-m", "tests.local_driver", path, tmp_path / "results") as campaign:
        says_something(tmp_path / "results")
        campaign.kill()
    folder = SessionFolder(next((tmp_path / "results").glob("run_*")))
    assert open_session(folder.root).attempts() == []
    Journal.reopen(folder, load_catalog([REPOS]), retry_failed=False, allow_changed=False)
    (row,) = open_session(folder.root).attempts()
    assert (row["verdict"], row["reasons"]) == ("failed", ["interrupted", "node_rebooted"])
    assert "was 00000000-0000-4000-8000-000000000001" in row["evidence"]["node_rebooted"]
