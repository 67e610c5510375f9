"""The governor is set, restored on every way out, and by the next start after a SIGKILL. On a fake sysfs tree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from profiler.errors import CannotRunError
from profiler.governor import held_governor, restore_leftover


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    for number, governor in enumerate(("powersave", "ondemand")):
        policy = tmp_path / "sys/devices/system/cpu/cpufreq" / f"policy{number}"
        policy.mkdir(parents=True)
        (policy / "scaling_governor").write_text(governor)
        (policy / "scaling_available_governors").write_text("performance powersave ondemand\n")
    return tmp_path / "sys"


def governors(sysfs: Path) -> list[str]:
    return [path.read_text() for path in sorted(sysfs.rglob("scaling_governor"))]


def silent(event: dict[str, Any]) -> None:
    raise AssertionError(event)


def test_set_and_restored(sysfs: Path, tmp_path: Path) -> None:
    journal = tmp_path / "state" / "governor.json"
    with held_governor("performance", optional=False, warn=silent, sysfs=sysfs, journal=journal):
        assert governors(sysfs) == ["performance", "performance"]
        assert journal.exists()
    assert governors(sysfs) == ["powersave", "ondemand"]
    assert not journal.exists()


def test_restored_after_an_exception(sysfs: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        held_governor("performance", optional=False, warn=silent, sysfs=sysfs, journal=tmp_path / "j.json"),
    ):
        raise ZeroDivisionError
    assert governors(sysfs) == ["powersave", "ondemand"]


def test_unknown_governor_changes_nothing(sysfs: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(CannotRunError, match="schedutil"),
        held_governor("schedutil", optional=False, warn=silent, sysfs=sysfs, journal=tmp_path / "j.json"),
    ):
        pass
    assert governors(sysfs) == ["powersave", "ondemand"]


def test_without_cpufreq_it_is_refused_or_told(tmp_path: Path) -> None:
    empty = tmp_path / "sys"
    with (
        pytest.raises(CannotRunError, match="no cpufreq"),
        held_governor("performance", optional=False, warn=silent, sysfs=empty, journal=tmp_path / "j"),
    ):
        pass
    told: list[dict[str, Any]] = []
    with held_governor("performance", optional=True, warn=told.append, sysfs=empty, journal=tmp_path / "j"):
        pass
    assert "no cpufreq" in told[0]["message"]


def test_restored_by_the_next_start_after_sigkill(sysfs: Path, tmp_path: Path) -> None:
    journal = tmp_path / "state" / "governor.json"
    program = (
        "import sys, time; from pathlib import Path; from profiler.governor import held_governor\n"
        "with held_governor('performance', optional=False, warn=print,"
        " sysfs=Path(sys.argv[1]), journal=Path(sys.argv[2])):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(sysfs), str(journal)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    assert not restore_leftover(journal)
    with (
        pytest.raises(CannotRunError, match="another campaign"),
        held_governor("powersave", optional=False, warn=silent, sysfs=sysfs, journal=journal),
    ):
        pass
    assert governors(sysfs) == ["performance", "performance"]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert governors(sysfs) == ["performance", "performance"]
    assert restore_leftover(journal)
    assert governors(sysfs) == ["powersave", "ondemand"]


def test_a_damaged_journal_does_not_stop_the_start(sysfs: Path, tmp_path: Path) -> None:
    journal = tmp_path / "governor.json"
    journal.write_text("{")
    with held_governor(None, optional=False, warn=silent, sysfs=sysfs, journal=journal):
        pass
    assert not journal.exists()
