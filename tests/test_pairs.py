"""Pairs: each way in which a background fails to load the device has its own verdict. Real processes, no Ray."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from profiler import spool
from profiler.colocation import memory_mib
from profiler.config import Cooling
from profiler.energy.attribution import Role
from profiler.memory import MemoryHistory
from profiler.process.find import find_keepers
from profiler.process.tiers import probe
from profiler.store.layout import SessionFolder
from profiler.store.rows import complete_run
from profiler.workloads import load_catalog
from tests.attempts import local_node
from tests.campaigns import REPOS, pair, quick
from tests.fakes.gpu_player import GpuPlayer, Part
from tests.fakes.nvml import FakeNvml
from tests.process.harness import wait_until
from tests.worlds import WITHOUT_NAMESPACES, in_a_world

pytestmark = pytest.mark.slow

FRONT = {"epochs": 3, "epoch_seconds": 0.8, "marker": "front"}
# behaviour and shape of the background -> verdict, reasons
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, list[str]]] = {
    "works": ({"epochs": 10, "epoch_seconds": 0.05}, {"min_busy_share": 0.05}, "valid", []),
    "works in one warm process": (
        {"epochs": 10, "epoch_seconds": 0.05},
        {"mode": "reuse", "min_busy_share": 0.05},
        "valid",
        [],
    ),
    "is killed in mid-run": (
        {"behaviour": "killed_once", "epochs": 6, "epoch_seconds": 0.25},  # in the middle of the foreground's 2.4 s
        {},
        "failed",
        ["background_failed"],
    ),
    "exits with 3 every time": (
        {"behaviour": "exit_3", "epochs": 4, "epoch_seconds": 0.1},
        {},
        "failed",
        ["background_failed"],
    ),
    "runs out of memory": (
        {"behaviour": "oom", "epochs": 4, "epoch_seconds": 0.1},
        {},
        "failed",
        ["background_failed", "background_oom"],
    ),
    "runs out of memory and writes no event of it": (
        {"behaviour": "oom_in_its_log", "epochs": 4, "epoch_seconds": 0.1},
        {},
        "failed",
        ["background_failed", "background_oom"],
    ),
    "uses another value than asked": (
        {"behaviour": "wrong_rate", "epochs": 100, "epoch_seconds": 0.1},
        {"min_busy_share": 0},
        "failed",
        ["background_failed"],
    ),
    "never becomes ready": (
        {"behaviour": "never_ready"},
        {"startup_timeout_seconds": 1},
        "failed",
        ["background_failed"],
    ),
    "ends soon and takes long to start": (
        {"behaviour": "slow_start", "epochs": 2, "epoch_seconds": 0.1},
        {},
        "contaminated",
        ["background_idle"],
    ),
    "only waits": ({"behaviour": "good", "epochs": 100, "epoch_seconds": 0.1}, {}, "contaminated", ["background_idle"]),
    "only waits, and may": (
        {"behaviour": "good", "epochs": 100, "epoch_seconds": 0.1},
        {"min_busy_share": 0},
        "valid",
        [],
    ),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """One attempt of every case, without a GPU."""
    folder = tmp_path_factory.mktemp("pairs")
    found = {}
    with local_node(folder / "results") as node:
        for number, (case, (values, more, _, _)) in enumerate(CASES.items()):
            item = pair(FRONT, {"behaviour": "work", **values, "marker": str(folder / f"once-{number}")})
            item["background"].update(more)
            found[case] = node.attempt(item)
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_background_that_does_not_load_the_device_is_told(rows: dict[str, dict[str, Any]], case: str) -> None:
    _, _, verdict, reasons = CASES[case]
    row = rows[case]
    seen = [reason for reason in row["reasons"] if reason.startswith("background")]
    assert (row["verdict"], seen) == (verdict, reasons), row["evidence"]
    assert row["safe"] == (not reasons)


def test_a_warm_process_has_no_start_up_gaps(rows: dict[str, dict[str, Any]]) -> None:
    loop, reuse = rows["works"], rows["works in one warm process"]
    assert loop["background_starts"] >= 2 and reuse["background_starts"] == 1
    assert reuse["background_trainings"] >= 2
    assert reuse["background_gap_s"] <= loop["background_gap_s"]
    assert loop["background_busy_method"] == "events+cpu_time"


def test_every_step_has_its_time(rows: dict[str, dict[str, Any]]) -> None:
    steps = rows["works"]["steps"]
    assert list(steps) == ["gate", "background", "readiness", "training", "stopping"]
    assert steps["training"] >= 2.4
    assert list(rows["works"]["steps_at"]) == list(steps)
    assert "training" not in rows["never becomes ready"]["steps"]


def test_the_progress_tells_how_long_the_background_is_waited_for(tmp_path: Path) -> None:
    told = []
    with local_node(tmp_path) as node:
        for more in ({"startup_timeout_seconds": 7}, {"startup_timeout_seconds": 7, "startup_wait_seconds": 0.1}):
            item = pair({"epochs": 1}, {"epochs": 9})
            item["background"].update(more)
            told += [message["seconds"] for message in node.messages(item) if message.get("step") == "readiness"]
    assert told == [7, 0.1]


def test_on_a_gpu_the_shares_are_what_was_planted(tmp_path: Path, fake_nvml_here: FakeNvml) -> None:
    front = {"epochs": 4, "epoch_seconds": 1.0, "marker": "front"}
    item = pair(front, {"epochs": 100, "epoch_seconds": 0.1, "marker": "back"})
    with (
        GpuPlayer(fake_nvml_here, {"front": Part(60, 300.0), "back": Part(40, 200.0, 500.0)}) as player,
        local_node(tmp_path) as node,
    ):
        row = node.attempt(item)
        window = row["boundary_start_ns"], row["boundary_end_ns"]
        truth = [player.energy_j(marker, *window) for marker in ("front", "back")]
    assert (row["verdict"], row["gpu_attribution_method"]) == ("valid", "time_slice"), row["evidence"]
    duration_s = row["duration_s"]
    parts = [row[f"gpu_energy_{part}_j"] for part in ("foreground", "background", "idle", "other")]
    assert abs(sum(parts) - row["gpu_energy_j"]) < 0.001
    assert row["gpu_idle_power_w"] == pytest.approx(70, abs=1)
    assert row["training_s"] == pytest.approx(4.0, abs=1.0)
    assert row["gpu_energy_training_j"] == pytest.approx(570 * row["training_s"], rel=0.05)
    assert parts[2] == pytest.approx(70 * duration_s, rel=0.02)
    assert parts[:2] == pytest.approx(truth, rel=0.1)
    assert row["background_busy_method"] == "events+gpu_utilisation"
    assert (row["gpu_memory_foreground_mib"], row["gpu_memory_background_mib"]) == (700, 500)
    assert row["mps_active_thread_percent"] is None
    stored = complete_run(row)["null_reasons"]
    assert {stored[f"{who}mps_active_thread_percent"] for who in ("", "background_")} == {"not_mps"}


IN_CGROUPS = """
import json, sys
from pathlib import Path
from tests.attempts import local_node
from tests.campaigns import pair
from tests.fakes.gpu_player import GpuPlayer, Part
from tests.fakes.nvml import FakeNvml
folder, library = Path(sys.argv[1]), Path(sys.argv[2])
nvml = FakeNvml(folder / "here.state", library)
front, back = {"epochs": 4, "epoch_seconds": 1.0}, {"epochs": 90, "epoch_seconds": 0.1}
item = pair({**front, "marker": "front"}, {**back, "marker": "back"})
parts = {"front": Part(60, 300.0), "back": Part(40, 200.0, 500.0)}
with nvml.attached(), GpuPlayer(nvml, parts), local_node(folder) as node:
    row = node.attempt(item)
names = ("containment", "verdict", "reasons", "gpu_attribution_method", "background_busy_method")
memory = ("gpu_memory_foreground_mib", "gpu_memory_background_mib")
print(json.dumps([row[name] for name in (*names, *memory)]))
"""


def test_partners_in_cgroups_are_told_apart_and_no_strangers(tmp_path: Path, fake_nvml_library: Path) -> None:
    cgroup = next(tier for tier in probe() if tier.name == "cgroup")
    if not cgroup.available:
        pytest.skip(cgroup.reason)
    program = in_a_world(WITHOUT_NAMESPACES, sys.executable, "-c", IN_CGROUPS, tmp_path, fake_nvml_library)
    how, memory_mib = (found := json.loads(program.communicate(timeout=120)[0]))[:5], found[5:]
    assert how == ["cgroup", "valid", [], "time_slice", "events+gpu_utilisation"]
    assert memory_mib == [700, 500]


def test_an_interrupted_attempt_ends_both_partners_and_keeps_its_energy(
    tmp_path: Path, fake_nvml_here: FakeNvml
) -> None:
    """SIGINT comes to this process as Ray sends it to that of a cancelled task."""
    front = {"epochs": 60, "epoch_seconds": 1.0, "marker": "cut-front"}
    item = pair(front, {"epochs": 100, "epoch_seconds": 0.1, "marker": "cut-back"})

    def interrupt_after_its_first_epoch() -> None:
        events = lambda: (path.read_text() for path in tmp_path.glob("run_*/*/events.jsonl"))  # noqa: E731
        wait_until(lambda: any('"epoch"' in text for text in events()), 60)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    told = []
    with (
        GpuPlayer(fake_nvml_here, {"cut-front": Part(60, 300.0), "cut-back": Part(40, 200.0)}) as player,
        local_node(tmp_path) as node,
    ):
        threading.Thread(target=interrupt_after_its_first_epoch, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            for message in node.messages(item):
                told.append(message)
        session = SessionFolder(next(tmp_path.glob("run_*")))
        assert not [keeper for keeper in find_keepers() if keeper.labels.get("key") == session.key]
        (row,) = (message["row"] for message in told if message["kind"] == "result")
        window = row["boundary_start_ns"], row["boundary_end_ns"]
        truth = [player.energy_j(marker, *window) for marker in ("cut-front", "cut-back")]
    assert (row["verdict"], row["reasons"][0]) == ("failed", "interrupted"), row["evidence"]
    assert 1 <= row["duration_s"] < 60
    assert row["started_at"] < row["ended_at"] and row["background_ended_at"] is not None
    parts = [row[f"gpu_energy_{part}_j"] for part in ("foreground", "background")]
    assert parts == pytest.approx(truth, rel=0.2)
    assert [one["row"]["run_id"] for one in spool.kept(session)] == [row["run_id"]]


def test_what_a_background_had_when_it_ran_out_of_memory_is_learnt(tmp_path: Path, fake_nvml_here: FakeNvml) -> None:
    item = pair(FRONT, {"behaviour": "oom_at_start", "marker": "oom-back"})
    with GpuPlayer(fake_nvml_here, {"oom-back": Part(60, 300.0, 900.0)}), local_node(tmp_path) as node:
        row = node.attempt(item)
    assert (row["verdict"], row["reasons"]) == ("failed", ["background_failed", "background_oom"]), row["evidence"]
    assert row["gpu_memory_background_mib"] == 900
    quick_model = load_catalog([REPOS]).resolve("quick", "quick")
    estimate = MemoryHistory.of_rows([row]).estimate(quick_model, row["background_hyperparameters"])
    assert (estimate.mib, estimate.source) == (pytest.approx(990), "ran out of memory")


@pytest.mark.parametrize("off_gpu", ["foreground", "background"])
def test_a_partner_that_uses_no_gpu_has_none_of_its_energy(
    off_gpu: str, tmp_path: Path, fake_nvml_here: FakeNvml
) -> None:
    """Such as bug-localization-by-dnn-and-rvsm; the other's part is known all the same."""
    front = {"epochs": 3, "epoch_seconds": 1.0, "marker": "off-fore"}
    back = {"behaviour": "work", "epochs": 100, "epoch_seconds": 0.1, "marker": "off-back"}
    on = {"foreground": "background", "background": "foreground"}[off_gpu]
    model = load_catalog([REPOS]).resolve("quick", "quick").model_copy(update={"uses_gpu": False})
    marker = f"off-{on.removesuffix('ground')}"
    with GpuPlayer(fake_nvml_here, {marker: Part(60, 300.0)}) as player, local_node(tmp_path) as node:
        row = node.attempt(pair(front, back), **{off_gpu: model})
        truth = player.energy_j(marker, row["boundary_start_ns"], row["boundary_end_ns"])
    # Its Python's own start is not shown on this GPU, and a power of the whole window is.
    assert row[f"gpu_energy_{off_gpu}_j"] == pytest.approx(0, abs=1), row["null_reasons"]
    assert row[f"gpu_energy_{on}_j"] == pytest.approx(truth, rel=0.1)
    if off_gpu == "background":
        assert complete_run(row)["null_reasons"]["gpu_memory_background_mib"] == "background_uses_no_gpu"


def test_a_background_that_trains_on_the_cpu_is_not_beside_it(tmp_path: Path, fake_nvml_here: FakeNvml) -> None:
    item = pair(FRONT, {"behaviour": "work", "epochs": 100, "epoch_seconds": 0.2, "marker": "hidden"})
    with GpuPlayer(fake_nvml_here, {"front": Part(60, 300.0)}), local_node(tmp_path) as node:
        row = node.attempt(item, cooling=Cooling(until="idle", max_seconds=20))
    assert (row["verdict"], row["reasons"]) == ("contaminated", ["background_idle"])
    assert "none of its processes was seen on the GPU" in row["evidence"]["background_idle"]
    assert (row["cooling_end"], row["cooling_idle_proven"]) == ("idle", True)
    assert 2.9 < row["cooling_s"] < 8
    assert list(row["steps"])[:2] == ["gate", "settling"]


@pytest.mark.parametrize("paired", [False, True])
def test_a_trainer_that_falls_back_to_the_cpu_is_told(paired: bool, tmp_path: Path, fake_nvml_here: FakeNvml) -> None:
    front = {"epochs": 4, "epoch_seconds": 1.0, "marker": "hidden"}
    back = {"behaviour": "work", "epochs": 100, "epoch_seconds": 0.2, "marker": "back"}
    item = pair(front, back) if paired else quick(**front)
    limits = {"cpu_contention": 1e6, "gpu_not_used": 2.0}
    with GpuPlayer(fake_nvml_here, {"back": Part(60, 300.0)}), local_node(tmp_path) as node:
        row = node.attempt(item, thresholds=limits)
        assert (row["verdict"], row["reasons"]) == ("contaminated", ["gpu_not_used"]), row["evidence"]
    with GpuPlayer(fake_nvml_here, {"hidden": Part(50, 200.0), "back": Part(50, 300.0)}), local_node(tmp_path) as node:
        row = node.attempt(item, thresholds=limits)
        assert (row["verdict"], row["reasons"]) == ("valid", []), row["evidence"]


def test_a_background_that_uses_no_gpu_by_its_manifest_is_told_by_its_cpu_time(
    tmp_path: Path, fake_nvml_here: FakeNvml
) -> None:
    background = load_catalog([REPOS]).resolve("quick", "quick").model_copy(update={"uses_gpu": False})
    item = pair(FRONT, {"behaviour": "work", "epochs": 100, "epoch_seconds": 0.2, "marker": "hidden"})
    item["background"]["min_busy_share"] = 0.05
    with GpuPlayer(fake_nvml_here, {"front": Part(60, 300.0)}), local_node(tmp_path) as node:
        row = node.attempt(item, background=background)
    assert (row["verdict"], row["reasons"]) == ("valid", []), row["evidence"]
    assert row["background_busy_method"] == "events+cpu_time"


def test_one_that_was_only_given_time_and_never_trained_is_not_beside_it(tmp_path: Path) -> None:
    item = pair(
        {"epochs": 2, "epoch_seconds": 0.5}, {"behaviour": "work", "epoch_seconds": 60.0}
    )  # before its first step
    item["background"]["startup_wait_seconds"] = 1
    with local_node(tmp_path) as node:
        row = node.attempt(item)
    assert (row["verdict"], row["reasons"][:1]) == ("contaminated", ["background_idle"])
    assert "events 0.00" in row["evidence"]["background_idle"]


def test_the_memory_of_processes_that_follow_each_other_is_not_added_up() -> None:
    second = 1_000_000_000
    stays = [(1, 0, 4, 700.0), (2, 5, 9, 900.0), (3, 6, 8, 50.0)]
    rows = [
        {"pid": pid, "gpu_uuid": "GPU-0", "memory_mib": mib, "first_seen_ns": t0 * second, "last_seen_ns": t1 * second}
        for pid, t0, t1, mib in stays
    ]
    whose: dict[int, Role] = {1: "background", 2: "background", 3: "background"}
    assert memory_mib(rows, whose, "background") == 950
    assert memory_mib(rows, whose, "foreground") is None
    assert memory_mib([{**rows[0], "memory_mib": None}, *rows[1:]], whose, "background") is None


def test_a_run_that_begins_on_a_warm_gpu_says_so(tmp_path: Path, fake_nvml_here: FakeNvml) -> None:
    """Three runs: at the mark, three degrees above it (within the limit) and ten above it."""
    item = {"repo": "quick", "model": "quick", "hyperparameters": {"epochs": 1}}
    rows = []
    with local_node(tmp_path) as node:
        for temp_c in (35, 38, 45):
            fake_nvml_here.set(temp_c=temp_c)
            time.sleep(1.2)  # the trace of the second before a run is what its beginning is judged by
            rows.append(node.attempt(item, cooling=Cooling(until="idle", max_seconds=8 if temp_c == 35 else 1)))
    assert ["warm_start" in row["reasons"] for row in rows] == [False, False, True]
    assert all(row["verdict"] == "valid" and row["safe"] for row in rows), [row["evidence"] for row in rows]
    assert rows[2]["evidence"]["warm_start"] == "45 degrees C before the run, 35 before the first one on this GPU"
    assert rows[1]["cooling_end"] == "max_seconds"


def test_two_trainers_of_one_repository_have_no_file_in_common(tmp_path: Path) -> None:
    """Both write into their working and temporary directories; what they open is looked up while they run."""
    item = pair({**FRONT, "epochs": 2}, {"epochs": 100, "epoch_seconds": 0.1, "marker": "beside"})
    opened: dict[str, set[str]] = {}
    with local_node(tmp_path) as node:
        for message in node.messages(item):
            if message["kind"] == "result":
                logs = message["row"]["background_log_directory"]
                front = next(tmp_path.glob("run_*/*/training.log")).read_text()
                back = (Path(logs) / "training_1.log").read_text()
                opened = {"front": _places(front), "back": _places(back)}
    assert len(opened["front"]) == len(opened["back"]) == 3
    assert not opened["front"] & opened["back"]


def _places(log: str) -> set[str]:
    """Working directory, temporary directory and event file that a quick trainer prints."""
    line = next(line for line in log.splitlines() if line.startswith("places "))
    return set(line.split()[1:])
