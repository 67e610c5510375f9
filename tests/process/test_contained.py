"""How runs end: exact statuses, everything ended with them, and a true report. Real processes throughout."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.process.harness import Place, state_and_start, wait_until

pytestmark = pytest.mark.slow


def text(place: Place) -> str:
    return (place.folder / "out").read_text()


@pytest.fixture(autouse=True)
def nothing_left(place: Place) -> object:
    """Each test starts with an empty output file and must leave no process, whatever it did."""
    (place.folder / "out").write_text("")
    yield
    assert place.survivors(seconds=0) == set()


@pytest.mark.parametrize(
    ("how", "code", "number"),
    [
        ("0", 0, None),
        ("3", 3, None),
        ("127", 127, None),
        ("255", 255, None),
        ("abort", None, signal.SIGABRT),
        ("segv", None, signal.SIGSEGV),
        ("kill", None, signal.SIGKILL),
        ("term", None, signal.SIGTERM),
        ("memory", 1, None),
    ],
)
def test_status_is_exact(place: Place, how: str, code: int | None, number: int | None) -> None:
    report = place.ended(place.trainer("die", how))
    assert (report["exit_code"], report["signal"], report["why"]) == (code, number, "exited")
    assert report["left_behind"] == 0 and report["error"] is None
    assert not list(place.folder.glob("core*"))


@pytest.mark.parametrize(("how", "code", "number"), [("3", 3, None), ("kill", None, signal.SIGKILL)])
def test_status_in_every_tier(place: Place, tier: str, how: str, code: int | None, number: int | None) -> None:
    report = place.ended(place.trainer("die", how), tier=tier)
    assert (report["exit_code"], report["signal"], report["why"]) == (code, number, "exited")


@pytest.mark.parametrize("count", [0, 1, 20])
def test_counts_and_ends_what_a_trainer_leaves_behind(place: Place, tier: str, count: int) -> None:
    report = place.ended(place.trainer("daemons", count, 7), tier=tier)
    assert (report["exit_code"], report["left_behind"]) == (7, count)
    assert place.survivors(seconds=0.2) == set()


def test_a_helper_that_ends_by_itself_is_not_left_behind(place: Place) -> None:
    """It gets a moment for that, which a busy machine may use up: one time of several is enough to show it."""
    tries = (place.ended(["sh", "-c", "sleep 0.02 & exit 0"])["left_behind"] for _ in range(10))
    assert 0 in tries


def test_a_trainer_finds_a_plain_world(place: Place) -> None:
    report = place.ended(place.trainer("facts"), env={"ONLY": "this"}, cwd=str(place.folder / "tmp"))
    assert report["exit_code"] == 0
    facts = json.loads(text(place))
    assert facts["parent"] == 1 and facts["processes"] == [1, facts["pid"]]
    assert facts["session_leader"] and facts["stdin"] == "/dev/null"
    assert facts["descriptors"] == [0, 1, 2]
    assert facts["cwd"] == str(place.folder / "tmp") and facts["environment"]["ONLY"] == "this"
    assert set(facts["environment"]) - {"LC_CTYPE"} == {"ONLY", *place.environment}
    assert facts["uid"] == place.uid and facts["core_limit"] == 0 and facts["shm"] == []
    if place.uid != 0:
        assert int(facts["capabilities"], 16) == 0


def test_signals_are_default_whatever_the_owner_had(place: Place) -> None:
    program = f"""
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1])
for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)
from pathlib import Path
from profiler.process.command import Command
from profiler.process.launch import start
command = Command(("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"), {{}}, Path("/"), Path("{place.folder}/out"))
with start(command) as p:
    p.release()
    assert p.wait(60).exit_code == 0
"""
    place.run(program)
    blocked, ignored = (int(mask, 16) for mask in text(place).split()[1::2])
    reserved = 1 << 31 | 1 << 32  # signals 32 and 33 belong to the C library, which lets nobody change them
    assert (blocked & ~reserved, ignored & ~reserved) == (0, 0)


def test_stamps_enclose_the_trainer(place: Place) -> None:
    stamp = "import time; print(time.monotonic_ns(), flush=True)"
    with place.owner([place.python, "-S", "-c", f"{stamp}; time.sleep(0.2); {stamp}"]) as owner:
        time.sleep(0.2)  # not released yet
        before_ns = time.monotonic_ns()
        owner.ask("release")
        wait_until(lambda: state_and_start(owner.started["pid"])[0] in "ZX")  # ended, and nobody has asked yet
        after_ns = time.monotonic_ns()
        report = owner.ask("wait")
    begun_ns, ended_ns = map(int, text(place).split())
    assert before_ns < report["t0_ns"] < begun_ns < ended_ns < report["t1_ns"] < after_ns


def test_cpu_time_is_that_of_the_whole_tree(place: Place) -> None:
    burn = """
import os, time
for _ in range(2):
    os.fork()
while time.process_time() < 0.1:
    pass
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
print(time.process_time(), flush=True)
"""
    report = place.ended([place.python, "-S", "-c", burn])
    told = [float(line) for line in text(place).split()]
    assert len(told) == 4 and min(told) >= 0.1
    assert sum(told) <= report["cpu_s"] < sum(told) + 0.3, "their ends have no part in what they say"
    assert 5 < report["max_rss_mib"] < 100


def test_the_trainer_waits_for_release(place: Place) -> None:
    with place.owner(["sh", "-c", "echo ran"]) as owner:
        time.sleep(0.1)
        assert owner.ask("poll") is None and text(place) == ""
        owner.ask("release")
        assert owner.ask("wait")["exit_code"] == 0
        assert text(place) == "ran\n"


def test_stopped_before_release_never_ran(place: Place) -> None:
    with place.owner(["sh", "-c", "echo ran"]) as owner:
        report = owner.ask("stop")
    assert report["why"] == "stopped" and report["t0_ns"] is None and report["exit_code"] is None
    assert text(place) == ""


@pytest.mark.parametrize(
    ("argv", "cwd", "words"),
    [
        (["/nonexistent/trainer"], "/", ["cannot start '/nonexistent/trainer'", "No such file"]),
        (["/etc/passwd"], "/", ["cannot start '/etc/passwd'", "Permission denied"]),
        (["true"], "/nonexistent", ["cannot enter the working directory '/nonexistent'", "No such file"]),
    ],
)
def test_a_trainer_that_cannot_start_is_no_exit(
    place: Place, tier: str, argv: list[str], cwd: str, words: list[str]
) -> None:
    report = place.ended(argv, cwd=cwd, tier=tier)
    assert (report["why"], report["exit_code"], report["signal"]) == ("start_failed", None, None)
    assert all(word in report["error"] for word in words)


def test_stop_gives_the_grace_to_save(place: Place, tier: str) -> None:
    target = place.folder / "tmp" / "saved"
    with place.owner(place.trainer("saver", target, 0.3), tier=tier) as owner:
        owner.ask("release")
        wait_until(lambda: "up" in text(place))
        report = owner.ask("stop 5")
    assert target.read_text() == "saved"
    assert (report["why"], report["exit_code"], report["left_behind"]) == ("stopped", 0, 0)


def test_a_saving_trainer_keeps_its_helper(place: Place, tier: str) -> None:
    target = place.folder / "tmp" / "saved"
    with place.owner(place.trainer("saver", target, 0.2, "helper"), tier=tier) as owner:
        owner.ask("release")
        wait_until(lambda: "up" in text(place))
        owner.ask("stop 5")
    assert target.read_text() == "saved"


def test_stop_reaches_the_trainer_behind_a_shell(place: Place, tier: str) -> None:
    target = place.folder / "tmp" / "saved-behind-shell"
    command = " ".join(place.trainer("saver", target, 0.2)) + "; true"
    with place.owner(["sh", "-c", command], tier=tier) as owner:
        owner.ask("release")
        wait_until(lambda: "up" in text(place))
        report = owner.ask("stop 5")
    assert target.read_text() == "saved"
    assert report["signal"] == signal.SIGTERM and report["left_behind"] == 0


def test_without_a_handler_it_ends_at_once(place: Place, tier: str) -> None:
    with place.owner(["sh", "-c", "echo up; exec sleep 60"], tier=tier) as owner:
        owner.ask("release")
        wait_until(lambda: "up" in text(place))
        begun_ns = time.monotonic_ns()
        report = owner.ask("stop 30")
    assert report["t1_ns"] - begun_ns < 3e9, "long before the grace is over"
    assert (report["why"], report["signal"]) == ("stopped", signal.SIGTERM)


def test_ignored_term_is_killed_when_the_grace_is_over(place: Place, tier: str) -> None:
    with place.owner(place.trainer("ignore"), tier=tier) as owner:
        owner.ask("release")
        wait_until(lambda: "up" in text(place))
        begun = time.monotonic()
        report = owner.ask("stop 0.3")
        assert 0.3 <= time.monotonic() - begun < 1.5
    assert (report["why"], report["signal"]) == ("stopped", signal.SIGKILL)


def test_stop_zero_kills_at_once(place: Place) -> None:
    with place.owner(place.trainer("nasty")) as owner:
        owner.ask("release")
        wait_until(lambda: "up" in text(place))
        begun = time.monotonic()
        report = owner.ask("stop 0")
        assert time.monotonic() - begun < 1
    assert report["signal"] == signal.SIGKILL and report["left_behind"] >= 5


def test_timeout_ends_the_whole_tree(place: Place, tier: str) -> None:
    report = place.ended(place.trainer("nasty"), timeout_s=3.0, grace_s=0.2, tier=tier)
    assert text(place) == "up\n", "all of it was there"
    assert (report["why"], report["signal"]) == ("timeout", signal.SIGKILL)
    assert 3.19 <= (report["t1_ns"] - report["t0_ns"]) / 1e9 < 4.0
    assert report["left_behind"] >= 4


def test_a_timeout_of_months_is_one(place: Place) -> None:
    report = place.ended(place.trainer("litter", f"litter-{place.mark}"), timeout_s=3e6)
    assert (report["why"], report["exit_code"]) == ("exited", 0)


def test_shared_memory_goes_with_the_run(place: Place) -> None:
    name = f"litter-{place.mark}"
    assert place.ended(place.trainer("litter", name))["exit_code"] == 0
    assert text(place).split() == ["up", "5"]
    with place.owner(place.trainer("litter", name, "hold")) as owner:
        owner.ask("release")
        wait_until(lambda: text(place).count("up") == 2)
        os.kill(owner.started["guard_pid"], signal.SIGKILL)
        owner.ask("wait")
    assert not [segment for segment in place.shared_memory() if name in segment.name]


def test_output_is_appended_and_stderr_goes_along(place: Place) -> None:
    (place.folder / "out").write_text("before\n")
    place.ended(["sh", "-c", "echo out; echo err >&2"])
    assert text(place) == "before\nout\nerr\n"


def test_inherited_output_and_arguments_byte_for_byte(place: Place) -> None:
    program = """
import os, sys
from pathlib import Path
from profiler.process.command import Command
from profiler.process.launch import start
odd = os.fsdecode(b"\\xff\\n\\xc3\\xa9 '")
argv, env = ("sh", "-c", 'printf %s "$1" "$ODD"', "sh", odd), {"ODD": odd, "PATH": os.environ["PATH"]}
with start(Command(argv, env, Path("/"))) as p:
    p.release()
    assert p.wait(60).exit_code == 0
"""
    with place.popen(place.python, "-S", "-c", program, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.buffer.read() == b"\xff\n\xc3\xa9 '" * 2  # type: ignore[attr-defined]


def test_an_owner_without_standard_descriptors(place: Place) -> None:
    program = f"""
import os
os.closerange(0, 3)
from pathlib import Path
from profiler.process.command import Command
from profiler.process.launch import start
with start(Command(("sh", "-c", "echo ran"), {{}}, Path("/"), Path("{place.folder}/out"))) as p:
    p.release()
    code = p.wait(60).exit_code
os._exit(code)
"""
    place.run(program)
    assert text(place) == "ran\n"


def test_output_to_a_standard_descriptor(place: Place) -> None:
    program = """
from pathlib import Path
from profiler.process.command import Command
from profiler.process.launch import start
with start(Command(("sh", "-c", "echo out; echo err >&2"), {}, Path("/"), stdout=1)) as p:
    p.release()
    p.wait(60)
"""
    assert place.run(program) == "out\nerr\n"


def test_a_suspended_trainer_can_be_stopped(place: Place) -> None:
    with place.owner(["sh", "-c", "echo up; kill -STOP $$; sleep 60"]) as owner:
        owner.ask("release")
        wait_until(lambda: "up" in text(place))
        time.sleep(0.1)
        begun = time.monotonic()
        report = owner.ask("stop 20")
    assert report["signal"] == signal.SIGTERM and time.monotonic() - begun < 10


def test_an_interrupted_stop_kills_at_once(place: Place) -> None:
    program = f"""
import signal, time
from pathlib import Path
from profiler.process.command import Command
from profiler.process.launch import start
p = start(Command(({place.python!r}, "-S", "{place.trainers}/ignore.py"), {{}}, Path("/"), Path("{place.folder}/out")))
p.release()
while "up" not in Path("{place.folder}/out").read_text():
    time.sleep(0.01)
signal.setitimer(signal.ITIMER_REAL, 0.2)
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    p.stop(60)
except KeyboardInterrupt:
    begun = time.monotonic()
    print(p.stop(60).signal, time.monotonic() - begun < 1)
"""
    assert place.run(program).split() == ["9", "True"]


def test_a_stop_right_after_release_reaches_the_trainer(place: Place) -> None:
    """TERM may find a fork that has not loaded its program: it must not get lost."""
    program = """
import time
from pathlib import Path
from profiler.process.command import Command
from profiler.process.launch import start
for index in range(15):
    p = start(Command(("sleep", "60"), {}, Path("/")))
    p.release()
    time.sleep(index * 0.0003)
    begun = time.monotonic()
    report = p.stop(20)
    print(report.signal, time.monotonic() - begun < 5)
"""
    answers = place.run(program).split()
    assert set(answers[1::2]) == {"True"} and set(answers[::2]) <= {"15", "None"}


@pytest.mark.parametrize(
    ("order", "word"),
    [
        ({"argv": []}, "empty"),
        ({"argv": ["a\0b"]}, "NUL"),
        ({"argv": ["true"], "env": {"A=B": "c"}}, "'='"),
        ({"argv": ["true"], "stdout": "/nonexistent/log"}, "/nonexistent/log"),
        ({"argv": ["true"], "watch_pids": [4194303]}, "already gone"),
    ],
)
def test_bad_commands_are_refused_by_name(place: Place, order: dict[str, object], word: str) -> None:
    with place.owner(**order) as owner:  # type: ignore[arg-type]
        assert owner.started["error"] == "CannotRunError" and word in owner.started["message"]


def test_hundred_runs_leak_no_descriptor(place: Place) -> None:
    program = """
import os
from pathlib import Path
from profiler.process.command import Command
from profiler.process.launch import start
def count(): return len(os.listdir("/proc/self/fd"))
before = count()
for index in range(30):
    with start(Command(("true",), {}, Path("/"), Path(os.devnull))) as p:
        if index % 3: p.release()
        if index % 3 == 1: p.wait()
print(count() - before)
"""
    assert place.run(program).strip() == "0"


def test_work_directory_of_the_keeper_pins_nothing(place: Place) -> None:
    with place.owner(["sleep", "60"]) as owner:
        assert Path(f"/proc/{owner.started['pid']}/cwd").readlink() == Path("/")
    wait_until(lambda: place.survivors(seconds=0) == set())  # its owner was killed, nobody waited for the end
