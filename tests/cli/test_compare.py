"""`profiler compare` in a process of its own: sessions, measurements, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.program import profiler
from tests.cli.sessions import CONTAMINATED, make_session

pytestmark = pytest.mark.slow


def session(folder: Path, joules_a_run: float) -> Path:
    """Four runs of 1, 2, 3, 4 times these joules, each with a learning rate of its own; the third is contaminated."""
    attempts = {
        n: {
            "gpu_energy_j": joules_a_run * n,
            "gpu_name": "GPU X",
            "hyperparameters": {"epochs": 2, "learning_rate": n / 100},
            **(CONTAMINATED if n == 3 else {}),
        }
        for n in range(1, 5)
    }
    return make_session(folder, attempts, planned=4).root


def test_two_sessions_as_a_table(tmp_path: Path) -> None:
    a, b = session(tmp_path / "a", 100.0), session(tmp_path / "b", 110.0)
    ended = profiler("compare", a, b)
    assert ended.code == 0, ended.err
    assert f"A  {a}: 3 of 4 runs used (1 not safe)" in ended.out
    line = next(line for line in ended.out.splitlines() if line.startswith("gpu_energy_j"))
    assert line.split()[1:4] == ["233.33", "256.67", "23.333"]  # of runs 1, 2 and 4
    assert "paired t, 3 pairs" in line
    assert "no_rapl_zones in every run" in ended.out


def test_a_side_without_runs_of_a_model_has_no_device(tmp_path: Path) -> None:
    run = {"gpu_energy_j": 1.0, "gpu_name": "GPU X"}
    a = make_session(tmp_path / "a", {1: {**run, "model": "only_in_a"}}, planned=1).root
    b = make_session(tmp_path / "b", {1: {**run, "model": "only_in_b"}}, planned=1).root
    out = profiler("compare", a, b).out
    assert "only_in_a solo, GPU X: 1 and 0 runs" in out
    assert "only_in_b solo, GPU X: 0 and 1 runs" in out


def test_two_sessions_as_json_with_and_without_contaminated_runs(tmp_path: Path) -> None:
    a, b = session(tmp_path / "a", 100.0), session(tmp_path / "b", 110.0)
    document = profiler("compare", a, b, "--json", "--all").json()
    assert document["a"] == {"name": str(a), "runs": 4, "used": 4, "excluded": {}}
    assert document["safe_only"] is False
    energy = next(found for found in document["groups"][0]["outcomes"] if found["outcome"] == "gpu_energy_j")
    assert (energy["pairs"], energy["difference"]) == (4, 25.0)


@pytest.mark.slow
def test_two_measurements(tmp_path: Path) -> None:
    for name, seconds in (("a", 0.01), ("b", 0.05)):
        ended = profiler("measure", "--json", "--repeat", "3", "--", "sleep", str(seconds))
        (tmp_path / f"{name}.json").write_text(ended.out)
    document = profiler("compare", tmp_path / "a.json", tmp_path / "b.json", "--json").json()
    duration = next(found for found in document["groups"][0]["outcomes"] if found["outcome"] == "duration_s")
    assert (duration["a_runs"], duration["b_runs"], duration["method"]) == (3, 3, "Welch t")
    assert duration["difference"] > 0.01


def test_what_is_not_there_or_not_of_one_kind(tmp_path: Path) -> None:
    there = session(tmp_path / "a", 100.0)
    ended = profiler("compare", there, tmp_path / "nothing")
    assert (ended.code, ended.out) == (2, "")
    assert "no session at" in ended.err
    (tmp_path / "m.json").write_text("{}")
    ended = profiler("compare", there, tmp_path / "m.json", "--json")
    assert ended.code == 2
    assert "name two of one kind" in ended.json()["errors"][0]["message"]


def test_a_session_without_a_finished_run(tmp_path: Path) -> None:
    empty = make_session(tmp_path / "empty", {}, planned=2).root
    ended = profiler("compare", empty, empty)
    assert ended.code == 0
    assert "nothing judged: A: none of 2 runs can be used: 2 not run" in ended.out
    assert "note: A and B are the same" in ended.out
