"""Who used the CPUs, on planted accounts of the kernel: a folder like /proc with known truth."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from profiler.cpu_use import TICKS_A_SECOND, CpuUse, contention, look
from profiler.verdict import Finding

SECOND = 1_000_000_000
OURS, STRANGER = 10, 20
CPUS = len(os.sched_getaffinity(0))


def proc(folder: Path, used_s: dict[int, float], stolen_s: float = 0.0) -> CpuUse:
    """A look at accounts in which each process has used so much, and nobody else anything."""
    folder.mkdir()
    ticks = {name: round(seconds * TICKS_A_SECOND) for name, seconds in {**used_s, 0: stolen_s}.items()}
    first, *others = sorted(os.sched_getaffinity(0))
    busy = sum(ticks[pid] for pid in used_s)
    lines = [
        f"cpu{first} {busy} 0 0 900 50 0 0 {ticks[0]} 7 7",
        *(f"cpu{cpu} 0 0 0 900 50 0 0 0 0 0" for cpu in others),
    ]
    (folder / "stat").write_text("\n".join(["cpu 1 1 1 1 1 1 1 1 1 1", *lines, "intr 5 5"]) + "\n")
    for pid in used_s:
        (folder / str(pid)).mkdir()
        rest = " ".join(["S", "1", *["0"] * 9, str(ticks[pid]), "0", "0", "0", *["0"] * 4, "77", "0"])
        (folder / str(pid) / "stat").write_text(f"{pid} (a name) {rest}\n")
    found = look(folder)
    assert found is not None
    return found


def judged(tmp_path: Path, used_s: dict[int, float], stolen_s: float = 0.0) -> Finding:
    before = proc(tmp_path / "before", dict.fromkeys(used_s, 3.0), 2.0)
    after = proc(tmp_path / "after", {pid: 3.0 + seconds for pid, seconds in used_s.items()}, 2.0 + stolen_s)
    finding = contention(before, after, (OURS,), CPUS, (0, 10 * SECOND))
    assert finding is not None
    return finding


def test_what_strangers_used_is_a_share_of_the_runs_cpus(tmp_path: Path) -> None:
    finding = judged(tmp_path, {OURS: 9.0, STRANGER: 4.0})
    assert finding.value == pytest.approx(4.0 / 10 / CPUS)
    assert finding.evidence.startswith("others used 4.00 s of CPU time in 10.00 s")
    assert finding.culprit == f"PID {STRANGER} (a name), 4.00 s"
    assert "stolen" not in finding.evidence


def test_what_the_host_of_a_virtual_machine_took_counts_too(tmp_path: Path) -> None:
    finding = judged(tmp_path, {OURS: 5.0, STRANGER: 1.0}, stolen_s=4.0)
    assert finding.value == pytest.approx(5.0 / 10 / CPUS)
    assert "4.00 s of it stolen" in finding.evidence
    assert finding.culprit == "the host of this virtual machine, 4.00 s"


def test_a_run_that_was_alone_has_nobody_beside_it(tmp_path: Path) -> None:
    finding = judged(tmp_path, {OURS: 9.0, STRANGER: 0.0})
    assert (finding.value, finding.culprit) == (0.0, "")
    assert "most of it" not in finding.evidence


def test_without_the_kernels_accounts_nothing_is_said(tmp_path: Path) -> None:
    assert look(tmp_path) is None
    assert contention(None, None, (OURS,), 1, (0, SECOND)) is None
