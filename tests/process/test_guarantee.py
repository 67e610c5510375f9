"""Nothing survives, whoever dies first; and whoever is left to read it gets a true report."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.process.harness import SOON_S, Owner, Place, wait_until

pytestmark = pytest.mark.fault


def training(place: Place, tier: str | None = "pid_namespace", **order: object) -> Owner:
    """An owner whose nasty trainer has all its daemons out."""
    (place.folder / "out").write_text("")
    owner = place.owner(place.trainer("nasty"), tier=tier, **order)
    owner.ask("release")
    wait_until(lambda: "up" in (place.folder / "out").read_text())
    return owner


def gone_soon(place: Place, owner: Owner, but: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    wait_until(lambda: not place.survivors([owner.namespace], 0, but), SOON_S)
    assert place.survivors([owner.namespace], 1.0, but) == set()


def test_owner_killed(place: Place, tier: str) -> None:
    with training(place, tier) as owner:
        owner.kill()
        gone_soon(place, owner)


@pytest.mark.parametrize("part", ["pid", "guard_pid"])
def test_half_of_the_keeper_killed(place: Place, tier: str, part: str) -> None:
    with training(place, tier) as owner:
        begun = time.monotonic_ns()
        os.kill(owner.started[part], signal.SIGKILL)
        report = owner.ask("wait 60")
        gone_soon(place, owner, {owner.process.pid})
    assert report["why"] == "keeper_killed" and report["t1_ns"] > begun
    assert report["exit_code"] is None


@pytest.mark.parametrize("part", ["pid", "guard_pid"])
def test_a_keeper_told_to_end_ends_the_run(place: Place, part: str) -> None:
    with training(place) as owner:
        os.kill(owner.started[part], signal.SIGTERM)
        report = owner.ask("wait 60")
        gone_soon(place, owner, {owner.process.pid})
    assert report["why"] == "keeper_killed" and "signal 15" in report["error"]


def test_both_halves_killed(place: Place) -> None:
    with training(place) as owner:
        for part in ("guard_pid", "pid"):
            os.kill(owner.started[part], signal.SIGKILL)
        assert owner.ask("wait 60")["why"] == "keeper_killed"
        gone_soon(place, owner, {owner.process.pid})


def test_watched_process_killed(place: Place, tier: str) -> None:
    watched = place.popen("sleep", "300")
    with training(place, tier, watch_pids=[watched.pid]) as owner:
        watched.kill()
        report = owner.ask("wait 60")
        gone_soon(place, owner, {owner.process.pid})
    watched.wait()
    assert (report["why"], report["signal"]) == ("owner_gone", signal.SIGKILL)


def test_trainer_killed_from_outside(place: Place) -> None:
    with place.owner(["sh", "-c", f"sleep 300.{place.mark} & exec sleep 300.{place.mark}"]) as owner:
        owner.ask("release")
        wait_until(lambda: owner.ask("poll") is None and len(place.survivors([owner.namespace], 0)) >= 5)
        found = place.survivors([owner.namespace], 0) - {owner.process.pid, owner.started["pid"]}
        os.kill(min(found - {owner.started["guard_pid"]}), signal.SIGKILL)
        report = owner.ask("wait 60")
    assert (report["why"], report["signal"], report["left_behind"]) == ("exited", signal.SIGKILL, 1)


def test_owner_killed_before_release(place: Place) -> None:
    with place.owner(place.trainer("nasty")) as owner:
        owner.kill()
        gone_soon(place, owner)


def test_a_fork_of_the_owner_does_not_keep_the_run(place: Place) -> None:
    """Neither one without exec, as multiprocessing makes, nor a child program that was given every descriptor."""
    with training(place) as owner:
        children = {owner.ask("fork"), owner.ask("child")}
        owner.kill()
        wait_until(lambda: not place.survivors([owner.namespace], 0, children), SOON_S)
        assert children <= place.survivors(seconds=0)
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        gone_soon(place, owner)


def test_a_stopped_keeper_answers_a_stop(place: Place) -> None:
    with training(place) as owner:
        for part in ("guard_pid", "pid"):
            os.kill(owner.started[part], signal.SIGSTOP)
        report = owner.ask("stop 0")
        gone_soon(place, owner, {owner.process.pid})
    assert (report["why"], report["signal"]) == ("stopped", signal.SIGKILL)


def test_owner_gone_during_the_grace(place: Place) -> None:
    with training(place) as owner:
        owner.say("stop 60")
        time.sleep(0.1)
        owner.kill()
        gone_soon(place, owner)


def test_a_run_with_everything_is_killed_in_rows(place: Place) -> None:
    """Ten quick rounds, each a little later in the run; the whole matrix is tests/faults/keeper_matrix.py."""
    for index in range(10):
        with place.owner(place.trainer("nasty")) as owner:
            owner.ask("release")
            time.sleep(0.02 * index)
            owner.kill()
    wait_until(lambda: not place.survivors(seconds=0), SOON_S)
    assert place.survivors(seconds=1.0) == set()
