"""Sensor passports: on virtual sensors of the known classes the measured passport is the truth."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from profiler.energy.calibration import STRETCH_S, STRETCHES
from profiler.energy.passport import LoadStep, Move, Passport, counter_period_s, load, passport, placed, save, watch
from tests.cli.program import profiler
from tests.fakes.nvml import FakeNvml, Segment
from tests.fakes.virtual import SECOND, Profile, VirtualGpu, VirtualTime
from tests.process.harness import wait_until

MS = 1_000_000


def measured(
    update_ms: float,
    window_ms: float,
    seed: int = 0,
    watts: tuple[float, float] = (80.0, 500.0),
    noise: float = 1.0,
    holds: Sequence[float] | None = None,
    late: float = 0.0,
    start_ns: int | None = None,
    phase_ns: int | None = None,
) -> Passport:
    """A virtual GPU whose load goes on and off about every 1.4 s, watched as a real one; `late` of the looks come up to
    60 ms late."""
    rng = Random(seed)
    clock = VirtualTime(start_ns=start_ns or rng.randrange(SECOND, 10**13))
    holds = holds or [STRETCH_S] * STRETCHES
    began_ns = clock.now_ns
    # No board draws the same for two moments: a watt of noise every 10 ms.
    levels = [watts[i % 2] + noise * rng.random() for i, hold in enumerate(holds) for _ in range(100)]
    profile = Profile(tuple(levels), tuple(hold / 100 for hold in holds for _ in range(100)), began_ns)
    steps, t_ns = [], began_ns
    for i, hold in enumerate(holds):
        steps.append(LoadStep(t_ns, i % 2 == 1))
        t_ns += round(hold * SECOND)
    gpu = VirtualGpu(
        profile,
        clock,
        window_s=window_ms / 1e3,
        update_s=update_ms / 1e3,
        phase_ns=rng.randrange(100 * MS) if phase_ns is None else phase_ns,
        call_ns=50_000,
    )

    def sleep(seconds: float) -> None:
        clock.pass_s(seconds + (0.06 * rng.random() if rng.random() < late else 0.0))

    moved, kind = watch(gpu, lambda: clock.now_ns >= t_ns, clock.monotonic_ns, sleep)
    counter_s = counter_period_s(gpu.energy_counter(), 2.0, clock.monotonic_ns)
    return passport(gpu, "580.1", moved, kind, steps, counter_s)


@pytest.mark.slow
@pytest.mark.parametrize(("update_ms", "window_ms"), [(100, 25), (100, 100), (100, 1000), (20, 10)])
def test_the_passport_is_the_truth(update_ms: int, window_ms: int) -> None:
    found = measured(update_ms, window_ms)
    assert found.null_reasons == {}
    assert found.update_period_s == pytest.approx(update_ms / 1e3, rel=0.05)
    assert found.window_s == pytest.approx(window_ms / 1e3, rel=0.15, abs=0.003)
    assert found.delay_s == pytest.approx(0.0, abs=0.005 + 0.02 * window_ms / 1e3)
    assert found.counter_period_s == pytest.approx(0.1, rel=0.05)
    assert (found.power_kind, found.steps) == ("instant", 16)


@pytest.mark.slow
@pytest.mark.parametrize(("update_ms", "window_ms", "told"), [(100, 25, 6), (20, 10, 6)])
def test_on_a_busy_machine_it_is_the_truth_or_nothing(update_ms: int, window_ms: int, told: int) -> None:
    """Looks that come late leave out half of the time; the updates among them are where the regular ones have them."""
    windows = [measured(update_ms, window_ms, seed, late=0.03).window_s for seed in range(6)]
    known = [window_s for window_s in windows if window_s is not None]
    assert len(known) >= told
    assert known == pytest.approx([window_ms / 1e3] * len(known), rel=0.2, abs=0.003)


def test_an_unseen_update_is_placed_only_where_one_moment_is_possible() -> None:
    def move(t_ms: float, unseen_ms: float = 1.0) -> Move:
        return Move(round(t_ms * MS), 100.0, unseen_ms / 1e3)

    at = [0.0, 100.0, 200.0]
    for middle_ms, unseen_ms, expected_ms in [
        (330.0, 90.0, 300.0),  # only 300 lies between the looks
        (250.0, 97.0, 250.0),  # 200 or 300 to within the error: as it is
        (350.0, 160.0, 350.0),  # 300 and 400
        (1330.0, 90.0, 1330.0),  # too far from all that were seen
    ]:
        *_, found = placed([*map(move, at), move(middle_ms, unseen_ms)], 0.1)
        assert found.t_ns == pytest.approx(expected_ms * MS)
        assert (found.unseen_s < 0.005) == (expected_ms != middle_ms)


def test_steps_that_all_fall_between_two_updates_tell_no_window() -> None:
    """Stretches that keep step with the sensor: no update lies in the 25 ms after a step."""
    found = measured(100, 25, phase_ns=50 * MS, start_ns=10**12, holds=[1.4] * 16)
    assert found.update_period_s == pytest.approx(0.1, rel=0.05)
    assert (found.window_s, found.delay_s) == (None, None)
    assert found.null_reasons["window_s"] == "several_windows_explain_what_was_seen"


def test_a_load_that_the_power_does_not_follow_gives_no_window() -> None:
    found = measured(100, 25, watts=(80.0, 80.0), noise=0.0)
    assert (found.update_period_s, found.window_s) == (None, None)
    assert found.null_reasons["window_s"] == "power_did_not_follow_the_load"
    assert found.null_reasons["update_period_s"] == "did_not_move"


@pytest.mark.slow
def test_the_program_calibrates_and_keeps_the_passport(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    """A load whose times are known: the load program sets and tells them, the virtual GPU plays them. Its sensor sees
    all of the time, so that every step tells the window: of 25 ms in 100 a busy machine leaves too few (see above)."""
    told = tmp_path / "start"
    ahead_ns: list[int] = []

    def play_when_it_is_told() -> None:
        wait_until(told.exists, 100)
        start_ns = int(told.read_text())
        segments = [Segment(STRETCH_S, w, w + 2.0) for w in [80.0, 500.0] * (STRETCHES // 2)]
        fake_nvml.play(segments, start_ns=start_ns)
        ahead_ns.append(start_ns - time.monotonic_ns())

    player = threading.Thread(target=play_when_it_is_told)
    player.start()
    program = (
        "import os, sys, time\nt = time.monotonic_ns() + 3 * 10**9\n"
        f"with open('{told}.new', 'w') as file:\n    file.write(str(t))\nos.rename('{told}.new', '{told}')\n"
        "for i, hold in enumerate(map(float, sys.argv[1:])):\n"
        "    print(t, i % 2)\n    t += round(hold * 1e9)\n"
        "time.sleep(max(0, t - time.monotonic_ns()) / 1e9)\n"
    )
    script = tmp_path / "load.py"
    script.write_text(program)
    environment = {**fake_nvml.env, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = f"{sys.executable} {script}"
    ended = profiler("doctor", "--calibrate", "--json", "--load", command, environment=environment, timeout_s=120)
    player.join()
    assert ended.code == 0, ended.err
    assert ahead_ns[0] > 0, "the virtual GPU knew before the load began"
    (found,) = ended.json()["passports"]
    assert found["update_period_s"] == pytest.approx(0.1, rel=0.1)
    assert found["window_s"] == pytest.approx(0.1, rel=0.15)
    kept = load(fake_nvml.gpus[0].uuid, fake_nvml.driver, tmp_path / "cache/mutation-energy-profiler/passports")
    assert kept is not None and kept.window_s == found["window_s"]
    shown = profiler("measure", "--json", "--", "sleep", "0.3", environment=environment).json()
    assert shown["energy_sources"]["gpu_sensor"] == kept.text()


def test_without_a_gpu_there_is_nothing_to_calibrate(tmp_path: Path) -> None:
    ended = profiler("doctor", "--calibrate", environment={"FAKE_NVML_STATE": str(tmp_path / "none")})
    assert (ended.code, "no GPU to calibrate" in ended.err) == (3, True)


@pytest.mark.slow
def test_it_is_kept_by_device_and_driver(tmp_path: Path) -> None:
    found = measured(20, 10)
    path = save(found, tmp_path / "passports")
    assert json.loads(path.read_text())["gpu_uuid"] == "GPU-0"
    assert load("GPU-0", "580.1", tmp_path / "passports") == found
    assert load("GPU-0", "590.2", tmp_path / "passports") is None
    path.write_text("{")
    assert load("GPU-0", "580.1", tmp_path / "passports") is None
    assert "(driver 580.1): update 20 ms, window " in found.text()
