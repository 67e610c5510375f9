"""The journal after kills at unlucky moments: no Ray, no processes, only what they leave on disk."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from profiler.config import load
from profiler.errors import SessionError
from profiler.journal import Journal
from profiler.planner import make_plan
from profiler.store.layout import SessionFolder, create_session
from profiler.store.read import open_session
from profiler.workloads import Catalog, load_catalog
from tests.campaigns import REPOS, quick


@pytest.fixture
def catalog() -> Catalog:
    return load_catalog([REPOS])


@pytest.fixture
def folder(tmp_path: Path) -> SessionFolder:
    return create_session(tmp_path, lambda: datetime(2026, 1, 1, tzinfo=UTC))


def created(folder: SessionFolder, catalog: Catalog) -> Journal:
    campaign = load({"name": "test", "seed": 1, "mode": "default", "experiments": [quick()]}, catalog=catalog)
    return Journal.create(folder, make_plan(campaign, catalog))


def reopened(folder: SessionFolder, catalog: Catalog) -> Journal:
    journal, _ = Journal.reopen(folder, catalog, retry_failed=False, allow_changed=False)
    return journal


def start(folder: SessionFolder, journal: Journal) -> None:
    pending = journal.pending()[0]
    journal.started(pending.run, folder.run_id(1), pending.attempt, "node", "boot")


def test_a_session_that_was_killed_before_its_plan_says_so(folder: SessionFolder, catalog: Catalog) -> None:
    with pytest.raises(SessionError, match="nothing of it was started"):
        reopened(folder, catalog)


def test_the_log_stays_with_the_attempt_that_wrote_it(folder: SessionFolder, catalog: Catalog) -> None:
    journal = created(folder, catalog)
    experiment = journal.pending()[0].run.experiment_id
    start(folder, journal)
    log = folder.training_log(experiment)
    log.parent.mkdir()
    log.write_text("of the first")  # killed in its training
    journal = reopened(folder, catalog)
    start(folder, journal)  # killed before it touched a file
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


def test_a_second_driver_is_refused_with_the_name_of_the_first(folder: SessionFolder) -> None:
    with (
        Journal.lock(folder),
        pytest.raises(SessionError, match=r"already driven by process \d+ on "),
        Journal.lock(folder),
    ):
        pass
    with Journal.lock(folder):
        pass
