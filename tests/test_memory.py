"""What trainings need of a GPU, and which pairs are proposed for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from profiler.memory import MARGIN, Estimate, MemoryHistory
from profiler.pairing import Candidate, propose
from profiler.store import write
from profiler.workloads import load_catalog
from tests.campaigns import REPOS
from tests.cli.program import profiler
from tests.report.sessions import Run, make_session, run_row

CATALOG = load_catalog([REPOS])
QUICK = CATALOG.resolve("quick", "quick")


def row(memory_mib: float | None, **more: Any) -> dict[str, Any]:
    return {
        "repo": "quick", "model": "quick", "requested_hyperparameters": QUICK.defaults(), "valid": True, "reasons": [],
        "gpu_memory_foreground_mib": memory_mib, "background_repo": None, **more,
    }  # fmt: skip


def estimate(*rows: dict[str, Any], **values: Any) -> Estimate:
    return MemoryHistory.of_rows(rows).estimate(QUICK, {**QUICK.defaults(), **values})


def test_without_history_it_is_the_manifest() -> None:
    assert estimate() == Estimate(100, "manifest")


def test_the_largest_measured_peak_counts_with_its_margin() -> None:
    found = estimate(row(700.0), row(720.0), row(None))
    assert (found.source, found.runs) == ("measured", 2)
    assert found.mib == pytest.approx(720 * (1 + MARGIN))
    assert found.text("quick") == "quick 756 MiB (measured in 2 runs)"


def test_only_values_that_can_change_memory_make_another_training() -> None:
    assert estimate(row(700.0), epochs=9, learning_rate=0.5).source == "measured"
    assert estimate(row(700.0), behaviour="oom").source == "manifest"


def test_failed_runs_are_no_measurement() -> None:
    assert estimate(row(700.0, valid=False, reasons=["exit"])).source == "manifest"


def test_one_that_ran_out_of_memory_needs_more_than_it_had() -> None:
    found = estimate(row(7000.0, valid=False, reasons=["oom"]))
    assert found == Estimate(pytest.approx(7700.0), "ran out of memory", 1)
    assert estimate(row(7000.0, valid=False, reasons=["oom"]), row(7500.0)).source == "measured"


def test_a_background_is_measured_too() -> None:
    partner = {"background_repo": "quick", "background_model": "quick", "gpu_memory_background_mib": 900.0}
    found = estimate(row(None, **partner, background_hyperparameters=QUICK.defaults()))
    assert found.mib == pytest.approx(900 * (1 + MARGIN))


def test_a_background_that_ran_out_of_memory_needs_more_than_it_had() -> None:
    partner = {"background_repo": "quick", "background_model": "quick", "gpu_memory_background_mib": 900.0}
    reasons = ["background_failed", "background_oom"]
    both = row(700.0, valid=False, reasons=reasons, **partner, background_hyperparameters=QUICK.defaults())
    assert estimate(both) == Estimate(pytest.approx(990.0), "ran out of memory", 1), "not what the foreground had"


def candidate(name: str, mib: float, uses_gpu: bool = True) -> Candidate:
    return Candidate(QUICK.model_copy(update={"name": name, "uses_gpu": uses_gpu}), Estimate(mib, "manifest"))


def test_each_model_is_in_front_once_and_partners_are_spread() -> None:
    models = [candidate(name, mib) for name, mib in (("a", 500), ("b", 1000), ("c", 2000), ("d", 3000))]
    found, alone = propose([*models, candidate("cpu", 0, uses_gpu=False)], 4000)
    assert sorted(proposal.foreground.model.name for proposal in found) == ["a", "b", "c", "d"]
    assert all(proposal.mib <= 4000 and proposal.foreground is not proposal.background for proposal in found)
    assert len({proposal.background.model.name for proposal in found}) == 4
    assert [proposal.mib for proposal in found] == sorted(proposal.mib for proposal in found)
    assert alone == []
    assert {proposal.tier for proposal in found} == {"medium", "large"}


def test_a_model_that_fits_beside_nobody_is_named_with_the_arithmetic() -> None:
    found, alone = propose([candidate("big", 7000), candidate("small", 600)], 7500)
    assert [proposal.foreground.model.name for proposal in found] == ["small"]
    assert found[0].background.model.name == "small"
    assert alone == [
        "big 7000 MiB (manifest) + small 600 MiB (manifest) = 7600 MiB > 7500 MiB: no partner fits beside it"
    ]


def test_a_model_of_unknown_need_is_named_and_in_no_pair() -> None:
    found, alone = propose([candidate("known", 600), candidate("unknown", 0), candidate("other", 500)], 7500)
    assert {model for pair in found for model in (pair.foreground.model.name, pair.background.model.name)} == {
        "known", "other",
    }  # fmt: skip
    assert alone == ["unknown: its manifest says no memory_mib, and no session of --history has measured it"]


def test_the_proposal_is_a_config_that_plans(tmp_path: Path) -> None:
    made = profiler("plan", "--pairs", "--memory-mib", "7500")
    assert made.code == 0, made.err
    assert "resnet1202 16000 MiB" in made.err
    (tmp_path / "pairs.yaml").write_text(made.out)
    planned = profiler("plan", tmp_path / "pairs.yaml", "--json").json()["runs"]
    assert len(planned) >= 10
    assert all(run["memory_mib"] <= 7500 for run in planned)
    assert len({(run["repo"], run["model"]) for run in planned}) == len(planned)


def test_what_measured_peaks_propose_plans_as_well(tmp_path: Path) -> None:
    """By its manifest densenet121 needs 3,700 MiB; a session saw it take 300."""
    model = load_catalog().resolve("Person_reID_baseline_pytorch", "densenet121")
    run = Run(repo=model.repo, model=model.name, values=model.defaults())
    folder = make_session(tmp_path, [run], traces=False)
    write.write_run(
        folder, {**run_row(folder, 1, run, run, 1, 30.0, is_final=True), "gpu_memory_foreground_mib": 300.0}
    )
    made = profiler("plan", "--pairs", "--memory-mib", "900", "--history", folder.root)
    (tmp_path / "pairs.yaml").write_text(made.out)
    planned = profiler("plan", tmp_path / "pairs.yaml", "--json").json()["runs"]
    assert [run["memory_mib"] for run in planned if run["model"] == model.name] == [315 + 500]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "needs a CONFIG, or --pairs"),
        (("--pairs", "--memory-mib", "0"), "at least 1"),
        (("--pairs", "--memory-mib", "50"), "no pair of models fits 50 MiB"),
        (("--pairs", "--memory-mib", "7500", "c.yaml"), "takes none"),
        (("--pairs", "--memory-mib", "7500", "--history", "nowhere"), "nowhere"),
        (("c.yaml", "--memory-mib", "7500"), "go with --pairs"),
    ],
)
def test_what_cannot_be_proposed_is_refused(arguments: tuple[str, ...], said: str) -> None:
    ended = profiler("plan", *arguments)
    assert ended.code == 2
    assert said in ended.err
