"""The journal after kills at unlucky moments: no Ray, no processes, only what they leave on disk."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from profiler import spool
from profiler.config import load
from profiler.driver_lock import driver_lock, driver_of, drivers_here
from profiler.errors import SessionError
from profiler.host import boot_id
from profiler.journal import Journal
from profiler.planner import PlannedRun, make_plan
from profiler.record import interrupted_row
from profiler.store.layout import SessionFolder, create_session
from profiler.store.read import open_session
from profiler.store.write import write_run
from profiler.verdict import Finding, judge
from profiler.workloads import Catalog, load_catalog
from tests.campaigns import REPOS, pair, quick


@pytest.fixture
def catalog() -> Catalog:
    return load_catalog([REPOS])


@pytest.fixture
def folder(tmp_path: Path) -> SessionFolder:
    return create_session(tmp_path, lambda: datetime(2026, 1, 1, tzinfo=UTC))


def created(folder: SessionFolder, catalog: Catalog) -> Journal:
    campaign = load({"name": "test", "seed": 1, "mode": "default", "experiments": [quick()]}, catalog=catalog)
    return Journal.create(folder, make_plan(campaign, catalog), catalog)


def reopened(folder: SessionFolder, catalog: Catalog, *, allow_changed: bool = False) -> Journal:
    journal, _ = Journal.reopen(folder, catalog, retry_failed=False, allow_changed=allow_changed)
    return journal


def start(folder: SessionFolder, journal: Journal, boot: str = boot_id()) -> None:
    pending = journal.pending()[0]
    journal.started(pending.run, folder.run_id(1), pending.attempt, "node", boot)


def release(folder: SessionFolder, attempt: int) -> None:
    released = folder.released(folder.run_id(1), attempt)
    released.parent.mkdir(parents=True, exist_ok=True)
    released.touch()


def test_a_session_that_was_killed_before_its_plan_says_so(folder: SessionFolder, catalog: Catalog) -> None:
    with pytest.raises(SessionError, match="nothing of it was started"):
        reopened(folder, catalog)


@pytest.mark.parametrize("change", [shutil.copytree, shutil.move])
def test_a_session_under_another_name_is_not_gone_on_with(
    folder: SessionFolder, catalog: Catalog, change: Callable[[Path, Path], Any]
) -> None:
    """Its runs are stored under the old name: under the new one they would all be done, and counted, again."""
    created(folder, catalog)
    renamed = SessionFolder(folder.root.parent / "backup")
    change(folder.root, renamed.root)
    before = sorted(path.name for path in renamed.root.rglob("*"))
    with pytest.raises(SessionError, match=f"rename the folder to {folder.session_id} "):
        reopened(renamed, catalog)
    assert sorted(path.name for path in renamed.root.rglob("*")) == before
    elsewhere = SessionFolder(folder.root.parent / "elsewhere" / folder.session_id)
    shutil.copytree(renamed.root, elsewhere.root)
    assert len(reopened(elsewhere, catalog).pending()) == 1


def test_the_log_stays_with_the_attempt_that_wrote_it(folder: SessionFolder, catalog: Catalog) -> None:
    journal = created(folder, catalog)
    experiment = journal.pending()[0].run.experiment_id
    start(folder, journal)
    release(folder, 1)
    log = folder.training_log(experiment)
    log.parent.mkdir()
    log.write_text("of the first")  # killed in its training
    journal = reopened(folder, catalog)
    start(folder, journal)
    release(folder, 2)  # killed before it touched a file
    journal = reopened(folder, catalog)
    assert journal.pending()[0].attempt == 3
    assert (folder.attempt_folder(experiment, 1) / "training.log").read_text() == "of the first"
    assert [path.name for path in folder.attempt_folder(experiment, 2).iterdir()] == ["experiment.json"]
    rows = open_session(folder.root).attempts()
    assert [(row["attempt"], row["is_final"], row["reasons"]) for row in rows] == [
        (1, False, ["interrupted"]),
        (2, False, ["interrupted"]),
    ]
    assert all(row["plan_digest"] for row in rows)


def test_an_attempt_whose_trainer_never_began_is_none(folder: SessionFolder, catalog: Catalog) -> None:
    journal = created(folder, catalog)
    for _ in range(3):
        start(folder, journal)
        journal = reopened(folder, catalog)
        assert journal.pending()[0].attempt == 1
    assert open_session(folder.root).attempts() == []
    start(folder, journal)
    release(folder, 1)
    assert reopened(folder, catalog).pending()[0].attempt == 2


def test_a_lost_attempt_keeps_the_moment_at_which_its_trainer_was_let_go(
    folder: SessionFolder, catalog: Catalog
) -> None:
    start(folder, created(folder, catalog))
    release(folder, 1)
    let_go = datetime.fromtimestamp(folder.released(folder.run_id(1), 1).stat().st_mtime, UTC)
    reopened(folder, catalog)
    (row,) = open_session(folder.root).attempts()
    assert abs(row["started_at"] - let_go) < timedelta(milliseconds=1)
    assert (row["ended_at"], row["null_reasons"]["ended_at"]) == (None, "interrupted")
    assert "started_at" not in row["null_reasons"]


def test_of_two_final_attempts_only_the_later_stays_final(folder: SessionFolder, catalog: Catalog) -> None:
    """A driver that repeats a failed run is killed after it wrote the new row, before it wrote the old one anew."""
    start(folder, created(folder, catalog))
    release(folder, 1)
    reopened(folder, catalog)
    (lost,) = open_session(folder.root).attempts()
    for attempt in (1, 2):
        write_run(folder, {**lost, "attempt": attempt, "is_final": True})
    assert list(reopened(folder, catalog).pending()) == []
    attempts = open_session(folder.root).attempts()
    assert [(row["attempt"], row["is_final"]) for row in attempts] == [(1, False), (2, True)]


def result(folder: SessionFolder, run: PlannedRun, attempt: int, *reasons: str) -> dict[str, Any]:
    """What a node keeps of an attempt that ended with these reasons."""
    verdict = judge([Finding(reason, "seen") for reason in reasons])
    row = interrupted_row(run, folder.session_id, folder.run_id(1), attempt, 1, verdict, Finding("interrupted", ""))
    said = {"reasons": list(verdict.reasons), "verdict": verdict.verdict, "valid": verdict.valid, "safe": verdict.safe}
    return {"row": row | said, "processes": [], "retry_may_help": False}


@pytest.mark.parametrize(("reasons", "next_attempts"), [((), []), (("interrupted",), [2])])
def test_what_a_node_kept_of_an_attempt_is_not_executed_again(
    folder: SessionFolder, catalog: Catalog, reasons: Sequence[str], next_attempts: list[int]
) -> None:
    journal = created(folder, catalog)
    (pending,) = journal.pending()
    journal.started(pending.run, folder.run_id(1), 1, "node", boot_id(), elsewhere=True)
    journal = reopened(folder, catalog)
    journal.take_kept(result(folder, pending.run, 1, *reasons))
    assert [one.attempt for one in journal.settle()] == next_attempts
    (row,) = open_session(folder.root).attempts()
    assert (row["is_final"], row["valid"], row["reasons"]) == (not reasons, not reasons, list(reasons))


def test_a_result_that_comes_after_its_attempt_was_given_up_is_dropped(folder: SessionFolder, catalog: Catalog) -> None:
    journal = created(folder, catalog)
    run = journal.pending()[0].run
    start(folder, journal)
    journal.lost(run, folder.run_id(1), 1, Finding("interrupted", "node gone"), again="its node was lost")
    spool.keep(folder, result(folder, run, 1))
    journal.started(run, folder.run_id(1), 2, "node", boot_id())
    spool.keep(folder, result(folder, run, 2))
    assert [row["attempt"] for row in journal.take_all_kept()] == [2]
    attempts = open_session(folder.root).attempts()
    assert [(row["attempt"], row["is_final"], row["valid"]) for row in attempts] == [(1, False, False), (2, True, True)]
    assert list(spool.kept(folder)) == []


def test_an_attempt_of_a_machine_that_cannot_be_asked_counts(folder: SessionFolder, catalog: Catalog) -> None:
    start(folder, created(folder, catalog), boot="another")
    assert reopened(folder, catalog).pending()[0].attempt == 2


def test_a_second_driver_is_refused_with_the_name_of_the_first(folder: SessionFolder) -> None:
    with (
        driver_lock(folder),
        pytest.raises(SessionError, match=r"already driven by process \d+ on "),
        driver_lock(folder),
    ):
        pass
    with driver_lock(folder):
        pass


def test_who_drives_a_session_is_seen_without_taking_its_lock(folder: SessionFolder) -> None:
    me = {"pid": os.getpid(), "session": str(folder.root)}
    assert driver_of(folder) is None and not (folder.root / ".lock").exists()
    with driver_lock(folder):
        before = (folder.root / ".lock").read_bytes()
        assert driver_of(folder) == {"pid": os.getpid(), "host": socket.gethostname()}
        assert me in drivers_here()
        assert (folder.root / ".lock").read_bytes() == before
    assert driver_of(folder) is None
    assert me not in drivers_here()


def test_the_stored_plan_is_read_back_whole(folder: SessionFolder, catalog: Catalog) -> None:
    before = created(folder, catalog).pending()
    assert reopened(folder, catalog).pending() == before


def test_a_pair_is_read_back_whole(folder: SessionFolder, catalog: Catalog) -> None:
    item = pair({"epochs": 2}, {"epochs": 3}, cooling={"seconds": 0.5}, timeout_seconds=7)
    campaign = load({"name": "test", "seed": 1, "mode": "parallel", "experiments": [item]}, catalog=catalog)
    before = Journal.create(folder, make_plan(campaign, catalog), catalog).pending()
    assert before[0].run.background is not None
    assert reopened(folder, catalog).pending() == before


def test_a_changed_config_is_refused_unless_told_and_then_the_stored_plan_stands(
    folder: SessionFolder, catalog: Catalog
) -> None:
    before = created(folder, catalog).pending()
    text = folder.campaign_yaml.read_text()
    folder.campaign_yaml.write_text(text.replace("max_retries: 2", "max_retries: 3"))
    with pytest.raises(SessionError, match="its config or a workload manifest has changed"):
        reopened(folder, catalog)
    assert [item.run for item in reopened(folder, catalog, allow_changed=True).pending()] == [i.run for i in before]


def test_a_changed_manifest_is_refused_and_an_unconcerned_one_is_not(
    folder: SessionFolder, catalog: Catalog, tmp_path: Path
) -> None:
    created(folder, catalog)
    for name, text in (("quick", "quick"), ("other", "other")):
        shutil.copytree(REPOS / "quick", tmp_path / "repos" / name)
        manifest = tmp_path / "repos" / name / "workload.yaml"
        manifest.write_text(re.sub(r"^repo: \S+", f"repo: {text}", manifest.read_text(), flags=re.M))
    reopened(folder, load_catalog([tmp_path / "repos"]))
    manifest = tmp_path / "repos" / "quick" / "workload.yaml"
    manifest.write_text(manifest.read_text().replace("default: 1", "default: 2", 1))
    with pytest.raises(SessionError, match="has changed"):
        reopened(folder, load_catalog([tmp_path / "repos"]))


def test_history_that_grew_meanwhile_changes_nothing(folder: SessionFolder, catalog: Catalog, tmp_path: Path) -> None:
    """Planned anew, the plan would avoid what the history has run since."""
    history = tmp_path / "summary.csv"
    history.write_text("experiment_id,repository,model,training_success,hyperparam_epochs\n")
    campaign = load(
        {
            "name": "test", "seed": 1, "mode": "mutation", "historical_csvs": [str(history)],
            "experiments": [{"repo": "quick", "model": "quick", "mutate": ["epochs"], "runs_per_config": 2}],
        },
        catalog=catalog,
    )  # fmt: skip
    before = Journal.create(folder, make_plan(campaign, catalog), catalog).pending()
    values = [item.run.hyperparameters["epochs"] for item in before]
    history.write_text(history.read_text() + "".join(f"x,quick,quick,True,{value}\n" for value in values))
    assert [run.hyperparameters["epochs"] for run in make_plan(campaign, catalog)] != values
    assert reopened(folder, catalog).pending() == before


def test_a_node_that_was_booted_anew_is_told_with_the_lost_attempt(
    folder: SessionFolder, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(folder, created(folder, catalog))
    monkeypatch.setattr("profiler.host.boot_id", lambda: "another-boot")
    reopened(folder, catalog)
    (row,) = open_session(folder.root).attempts()
    assert row["reasons"] == ["interrupted", "node_rebooted"]
    assert "another-boot" in row["evidence"]["node_rebooted"]


def test_a_session_of_which_nothing_was_started_is_removed(folder: SessionFolder, catalog: Catalog) -> None:
    journal = created(folder, catalog)
    journal.discard_unless_started()
    assert not folder.root.exists()


def test_a_session_with_a_started_attempt_is_kept(folder: SessionFolder, catalog: Catalog) -> None:
    journal = created(folder, catalog)
    start(folder, journal)
    journal.discard_unless_started()
    assert open_session(folder.root).planned()


CHECKOUT = """
checkout:
  files: [main.py]
  command: ["{python}", main.py, "{hyperparameters}"]
  flags: {epochs: --epochs}
  metrics: {accuracy: {pattern: 'accuracy=([0-9.]+)'}}
  completion_pattern: done
"""


def test_what_a_manifest_says_of_a_checkout_is_part_of_what_must_not_change(
    folder: SessionFolder, tmp_path: Path
) -> None:
    manifest = tmp_path / "repos" / "quick" / "workload.yaml"
    shutil.copytree(REPOS / "quick", manifest.parent)
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "main.py").touch()
    plain = manifest.read_text()
    manifest.write_text(plain + CHECKOUT)
    catalog = load_catalog([tmp_path / "repos"])
    item = {"repo": "quick", "model": "quick", "mode": "default", "checkout": str(tmp_path / "clone")}
    campaign = load({"name": "test", "seed": 1, "mode": "default", "experiments": [item]}, catalog=catalog)
    Journal.create(folder, make_plan(campaign, catalog), catalog)
    reopened(folder, load_catalog([tmp_path / "repos"]))
    manifest.write_text(plain + CHECKOUT.replace("--epochs", "--total-epochs"))
    with pytest.raises(SessionError, match="manifest has changed"):
        reopened(folder, load_catalog([tmp_path / "repos"]))
