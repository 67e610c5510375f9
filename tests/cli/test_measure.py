"""``profiler measure``: real commands, contained and measured; the figures against virtual hardware of known truth."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import profiler as public
from profiler.energy.account import FIGURES
from profiler.errors import UsageError
from profiler.measurement import MeasurementInterruptedError, measure_command
from tests.cli.program import profiler
from tests.fakes.nvml import FakeNvml
from tests.fakes.powercap import Player, Zone, build

pytestmark = pytest.mark.slow

SECOND = 1_000_000_000
SLEEPER = "47.{}"  # a length of sleep that nobody else uses: it is looked for by its argument


def sleepers(mark: str) -> list[int]:
    """PIDs of the processes `sleep <mark>`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if argv[:2] == [b"sleep", mark.encode()]:
                found.append(int(entry.name))
    return found


def count_becomes(mark: str, count: int, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while len(sleepers(mark)) != count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


STAMP = "read up idle < /proc/uptime; echo $up"  # CLOCK_BOOTTIME in s, cut off after 10 ms
CUT_S = 0.01


def monotonic_s(stamp: str) -> float:
    """What `STAMP` told, as CLOCK_MONOTONIC."""
    return float(stamp) - (time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic())


def test_sleep_2_takes_2_seconds_and_20_samples(tmp_path: Path) -> None:
    """And as much more as the command itself tells: it says when it begins and when it ends, to 10 ms."""
    command = f"{STAMP}; sleep 2; {STAMP}"
    started_s = time.monotonic()
    ended = profiler("measure", "--json", "--", "sh", "-c", command, environment={"PROFILER_SYSFS_ROOT": str(tmp_path)})
    over_s = time.monotonic()
    assert ended.code == 0
    document = ended.json()
    assert document["exit_code"] == 0
    begun_s, ended_s = map(monotonic_s, ended.err.split())
    assert started_s <= document["t0_ns"] / 1e9 <= begun_s + CUT_S
    assert ended_s <= document["t1_ns"] / 1e9 <= over_s
    assert document["duration_s"] == (document["t1_ns"] - document["t0_ns"]) / 1e9 >= 2
    assert abs(document["samples"] - 10 * document["duration_s"]) <= 1
    assert document["containment"] in ("pid_namespace", "cgroup")
    for column in FIGURES:
        assert document[column] is not None or document["null_reasons"][column]
        assert document[column] != 0
    assert document["null_reasons"]["cpu_package_energy_j"] == "no_rapl_zones"


def test_the_window_is_the_commands_own_and_no_longer() -> None:
    """A machine that is busy lets a command begin late, or its end be seen late, now and then: not five times of five.
    What is there each time is the measurement's own."""
    ended = profiler("measure", "--json", "--repeat", "5", "--", "sh", "-c", f"{STAMP}; {STAMP}")
    told = [monotonic_s(line) for line in ended.err.splitlines() if re.fullmatch(r"\d+\.\d\d", line)]
    windows = [(one["t0_ns"] / 1e9, one["t1_ns"] / 1e9) for one in ended.json()["repetitions"]]
    early_s = [begun_s - t0_s for begun_s, (t0_s, _) in zip(told[::2], windows, strict=True)]
    late_s = [t1_s - ended_s for ended_s, (_, t1_s) in zip(told[1::2], windows, strict=True)]
    assert -CUT_S <= min(early_s) <= 0.1
    assert 0 <= min(late_s) <= 0.1


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["false"], 1),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["no-such-command-here"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_it_ends_with_the_commands_own_code(command: list[str], code: int) -> None:
    ended = profiler("measure", "--json", "--", *command)
    assert ended.code == code
    assert ended.json()["exit_code"] == code
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("name", ["no-such-command-here", ""])
def test_a_command_that_cannot_be_started_is_named(name: str) -> None:
    ended = profiler("measure", "--", name)
    assert ended.code == 127
    assert f"cannot start '{name}': " in ended.err
    document = profiler("measure", "--json", "--", name).json()
    assert document["duration_s"] is None
    assert document["null_reasons"]["duration_s"] == "start_failed"


def test_the_commands_output_passes_through() -> None:
    ended = profiler("measure", "--", "sh", "-c", "echo out; echo err >&2")
    assert ended.out.startswith("out\n")
    assert ended.err == "err\n"


def test_json_stands_alone_on_stdout() -> None:
    ended = profiler("measure", "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert ended.code == 3
    assert ended.json()["exit_code"] == 3
    assert sorted(ended.err.split()) == ["err", "out"]


def test_the_command_gets_environment_and_folder(tmp_path: Path) -> None:
    ended = profiler("measure", "--", "sh", "-c", 'echo "$MARK"; pwd', cwd=tmp_path, environment={"MARK": "a b  c"})
    assert ended.out.startswith(f"a b  c\n{tmp_path}\n")


def test_a_daemon_that_the_command_leaves_is_ended_and_counted() -> None:
    mark = SLEEPER.format(os.getpid())
    ended = profiler("measure", "--json", "--", "sh", "-c", f"setsid sh -c 'trap \"\" TERM; sleep {mark}' & sleep 0.3")
    document = ended.json()
    assert ended.code == 0
    assert document["left_behind"] >= 1
    assert document["duration_s"] < 3
    assert count_becomes(mark, 0)


@contextmanager
def measuring(*line: str) -> Iterator[subprocess.Popen[str]]:
    """A measurement in work: a command that has said "up" and goes on."""
    process = subprocess.Popen(
        [sys.executable, "-m", "profiler", "measure", *line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_ends_everything(number: int) -> None:
    mark = SLEEPER.format(os.getpid())
    with measuring("--", "sh", "-c", f"setsid sleep {mark} & echo up; sleep {mark}") as process:
        assert count_becomes(mark, 2)
        process.send_signal(number)
        code = process.wait(timeout=30)
        assert count_becomes(mark, 0)
        assert code == (130 if number != signal.SIGKILL else -9)
        if number != signal.SIGKILL:
            assert process.stderr is not None
            assert "interrupted" in process.stderr.read()


def interrupted_after(lines: int, *arguments: str) -> tuple[dict[str, Any], str]:
    """The JSON and the rest of stderr of a measurement that gets a SIGINT after so many lines of its command."""
    process = subprocess.Popen(
        [sys.executable, "-m", "profiler", "measure", "--json", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for _ in range(lines):
        assert process.stderr.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    document = json.loads(out)
    assert [error["message"] for error in document["errors"]] == ["interrupted"]
    return document, err


def test_an_interrupted_measurement_tells_what_was_measured_until_then() -> None:
    script = 'trap "exit 5" TERM; echo up >&2; while :; do sleep 0.05; done'
    document, err = interrupted_after(1, "--", "sh", "-c", script)
    assert err == ""
    assert (document["exit_code"], document["why"], document["signal"]) == (5, "stopped", None)
    assert 0 < document["duration_s"] < 20


def test_interrupted_repetitions_are_those_that_had_ended(tmp_path: Path) -> None:
    count = tmp_path / "count"
    script = f"echo x >> {count}; echo up >&2; test $(wc -l < {count}) -lt 3 || sleep 30"
    document, _ = interrupted_after(3, "--repeat", "9", "--", "sh", "-c", script)
    assert [one["exit_code"] for one in document["repetitions"]] == [0, 0]
    assert document["statistics"]["duration_s"]["n"] == 2
    count.unlink()
    document, _ = interrupted_after(
        3, "--repeat", "9", "--vs", "sh -c 'echo up >&2; sleep 1'", "--", "sh", "-c", script
    )
    assert len(document["repetitions"]) == len(document["versus"]["repetitions"]) == 1
    nothing, _ = interrupted_after(1, "--repeat", "2", "--", "sh", "-c", "echo up >&2; sleep 30")
    assert set(nothing) == {"errors"}


def test_a_script_gets_what_was_measured_with_the_interrupt() -> None:
    threading.Timer(1.5, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt) as caught:
        measure_command(["sleep", "30"])
    assert isinstance(caught.value, MeasurementInterruptedError)
    assert 0 < caught.value.result.duration_s < 20
    assert caught.value.result.signal == signal.SIGTERM


def test_gpu_energy_is_the_counters(fake_nvml: FakeNvml) -> None:
    fake_nvml.power(300.0)
    ended = profiler("measure", "--json", "--", "sleep", "2", environment=fake_nvml.env)
    document = ended.json()
    assert document["gpu_energy_j"] == pytest.approx(300 * document["duration_s"], rel=0.06)
    assert document["gpu_energy_integral_j"] == pytest.approx(300 * document["duration_s"], rel=0.02)
    assert document["gpu_power_mean_w"] == pytest.approx(300, rel=0.01)
    assert document["gpu_uuids"] == [fake_nvml.gpus[0].uuid]
    assert "nvml" in document["energy_sources"]["gpu_energy_j"]
    assert "gpu_energy_j" not in document["null_reasons"]


def test_cpu_and_dram_energy_are_the_counters(tmp_path: Path) -> None:
    zones = [
        Zone("intel-rapl:0", "package-0", watts=40.0),
        Zone("intel-rapl:1", "package-1", watts=30.0, start_uj=7_000_000_000),
        Zone("intel-rapl:0:0", "dram", watts=5.0),
    ]
    build(tmp_path, zones)
    with Player(tmp_path, zones) as player:
        ended = profiler("measure", "--json", "--", "sleep", "1", environment={"PROFILER_SYSFS_ROOT": str(tmp_path)})
        people = profiler("measure", "--", "sleep", "0.5", environment={"PROFILER_SYSFS_ROOT": str(tmp_path)})
    document = ended.json()
    t0_ns, t1_ns = document["t0_ns"], document["t1_ns"]
    # A read at either end is behind by as much as the player is. So are the two of which the power outside is made: it
    # is taken off for the time between read and edge, and they are ten updates, 10 ms, apart or more.
    behind_s = player.late_s(t0_ns - SECOND, t0_ns), player.late_s(t1_ns, t1_ns + SECOND)
    for column, watts in (("cpu_package_energy_j", 70), ("dram_energy_j", 5)):
        gaps_ms = re.findall(r"([\d.]+) ms (?:before the start|after the end)", document["energy_sources"][column])
        late_s = sum(s * (1 + float(gap_ms) / 10) for s, gap_ms in zip(behind_s, gaps_ms, strict=True))
        true_j = watts * document["duration_s"]
        assert document[column] == pytest.approx(true_j, abs=0.02 * true_j + late_s * watts)
    assert document["cpu_energy_total_j"] == document["cpu_package_energy_j"] + document["dram_energy_j"]
    assert re.search(
        r"^CPU package +\d\d(\.\d+)? J ± \S+ J \(powercap counter package-0, package-1\)$", people.out, re.MULTILINE
    )


def test_several_gpus_are_added_up_and_can_be_chosen(tmp_path: Path, fake_nvml_library: Path) -> None:
    fake = FakeNvml(tmp_path / "two.state", fake_nvml_library, gpus=2, watts=100.0)
    both = profiler("measure", "--json", "--", "sleep", "1", environment=fake.env).json()
    assert both["gpu_power_mean_w"] == pytest.approx(200, rel=0.01)
    one = profiler("measure", "--json", "--", "sleep", "1", environment={**fake.env, "CUDA_VISIBLE_DEVICES": "1"})
    assert one.json()["gpu_uuids"] == [fake.gpus[1].uuid]
    assert one.json()["gpu_power_mean_w"] == pytest.approx(100, rel=0.01)
    none = profiler("measure", "--json", "--", "true", environment={**fake.env, "CUDA_VISIBLE_DEVICES": ""}).json()
    assert none["gpu_energy_j"] is None
    assert none["null_reasons"]["gpu_energy_j"] == "no_gpu_used"


def test_energy_above_idle_is_that_of_the_command_alone(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    """The command itself lets the virtual GPU draw 250 W; before it there are 80 W."""
    fake_nvml.power(80.0)
    mark = tmp_path / "mark"

    def work_when_it_runs() -> None:
        while not mark.exists():
            time.sleep(0.005)
        fake_nvml.power(250.0)

    worker = threading.Thread(target=work_when_it_runs)
    worker.start()
    ended = profiler(
        "measure", "--json", "--idle-seconds", "2", "--", "sh", "-c", f"touch {mark}; sleep 2",
        environment=fake_nvml.env,
    )  # fmt: skip
    worker.join(timeout=30)
    document = ended.json()
    true_j = (fake_nvml.energy_mj(document["t1_ns"]) - fake_nvml.energy_mj(document["t0_ns"])) / 1000
    assert document["gpu_idle_power_w"] == pytest.approx(80, rel=0.01)
    assert document["gpu_energy_net_j"] == pytest.approx(true_j - 80 * document["duration_s"], rel=0.1)
    assert document["uncertainty_j"]["gpu_energy_net_j"] >= document["uncertainty_j"]["gpu_energy_j"]
    assert "gpu_idle_power_w" not in document["null_reasons"]


def test_energy_above_idle_needs_a_gpu_that_rests_and_a_time_to_see_it(fake_nvml: FakeNvml) -> None:
    too_short = profiler("measure", "--idle-seconds", "0.3", "--", "true", environment=fake_nvml.env)
    assert re.search(r"^  above idle +not known: no_idle_samples$", too_short.out, re.MULTILINE)
    fake_nvml.set(util_percent=70)
    busy = profiler("measure", "--json", "--idle-seconds", "1.5", "--", "true", environment=fake_nvml.env).json()
    assert (busy["gpu_energy_net_j"], busy["gpu_idle_power_w"]) == (None, None)
    assert busy["null_reasons"]["gpu_energy_net_j"] == busy["null_reasons"]["gpu_idle_power_w"] == "not_idle"


def test_repetitions_share_one_look_at_the_resting_machine(fake_nvml: FakeNvml) -> None:
    fake_nvml.power(80.0)
    line = ("measure", "--repeat", "2", "--idle-seconds", "1.5", "--", "sleep", "0.5")
    ended = profiler(*line, environment=fake_nvml.env)
    assert re.search(r"^  above idle .*n = 2\)$\n +idle 80\.0 ± \S+ W before all of them", ended.out, re.MULTILINE)


def test_doctor_shows_the_gpu(fake_nvml: FakeNvml) -> None:
    document = profiler("doctor", "--json", environment=fake_nvml.env).json()
    assert document["gpus"][0]["name"] == fake_nvml.gpus[0].name
    assert [source["scope"] for source in document["sources"] if source["available"]] == ["gpu"]
    assert "energy is measured for: GPU" in profiler("doctor", environment=fake_nvml.env).out


def test_it_works_in_python_too() -> None:
    measured = public.measure(["sh", "-c", "exit 3"], stdout=2)
    assert (measured.status, measured.why) == (3, "exited")
    assert measured.to_json()["null_reasons"]
    with pytest.raises(UsageError):
        public.measure([])
    with pytest.raises(UsageError):
        public.measure("sleep 2")


def test_a_time_out_is_told() -> None:
    for command, how in (
        (["sleep", "9"], "by signal 15"),
        (["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"], "with exit code 7"),
    ):
        ended = profiler("measure", "--timeout", "0.3", "--", *command)
        assert f"ended        at the time-out, {how}, contained" in ended.out


def test_a_time_out_ends_it(tmp_path: Path) -> None:
    """The command writes down ten times a second that it still lives, and at last that it was told to end."""
    log = tmp_path / "log"
    alive = f"trap '{STAMP} TERM; exit 7' TERM; while :; do {STAMP}; sleep 0.1; done"
    measured = public.measure(["sh", "-c", alive], timeout_s=1.0, stdout=log)
    over_ns = time.monotonic_ns()
    *stamps, told, term = log.read_text().split()
    assert (measured.why, term) == ("timeout", "TERM")
    begun_s, told_s = monotonic_s(stamps[0]), monotonic_s(told)
    assert measured.t0_ns is not None and measured.t1_ns is not None
    t0_s, t1_s = measured.t0_ns / 1e9, measured.t1_ns / 1e9
    assert t0_s <= begun_s + CUT_S
    assert t0_s + 1.0 <= told_s + CUT_S and told_s <= t1_s <= min(told_s + 0.3, over_ns / 1e9)
    assert measured.duration_s == (measured.t1_ns - measured.t0_ns) / 1e9
    assert public.measure(["sleep", "30"], timeout_s=0.3).status == 128 + signal.SIGTERM


def test_a_file_takes_the_output(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert public.measure(["echo", "hi"], stdout=log).status == 0
    assert log.read_text() == "hi\n"


def test_a_block_is_measured_without_ray() -> None:
    before_ns = time.monotonic_ns()
    with public.meter("nap") as window:
        begun_ns = time.monotonic_ns()
        time.sleep(0.3)
        ended_ns = time.monotonic_ns()
    after_ns = time.monotonic_ns()
    assert before_ns <= window.start_ns <= begun_ns and ended_ns <= window.end_ns <= after_ns
    assert window.duration_s == (window.end_ns - window.start_ns) / 1e9
    assert window.gpu_energy_j is not None or window.null_reasons["gpu_energy_j"]
