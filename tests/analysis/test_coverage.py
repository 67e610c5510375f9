"""Coverage: what counts, what is missing, and a config that fills exactly the holes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from profiler.analysis.coverage import GroupCoverage, Wanted, cover
from profiler.analysis.history import find_sessions, read_past
from profiler.analysis.hole_config import MARK, hole_config
from profiler.config import load
from profiler.errors import SessionError
from profiler.planner import make_plan
from profiler.store import write
from profiler.store.collection import open_results
from profiler.store.layout import SessionFolder, create_session
from profiler.store.ledger import Ledger
from profiler.workloads import Catalog, load_catalog
from tests import campaigns
from tests.campaigns import REPOS

DEFAULTS = {"epochs": 2, "learning_rate": 0.1, "seed": 1, "epoch_seconds": 0.05, "behaviour": "good", "marker": "quick"}
NAMES = ("epochs", "learning_rate", "seed")
BACKGROUND = {"repo": "quick", "model": "quick", "hyperparameters": {**DEFAULTS, "epochs": 7}, "mode": "loop"}

Run = tuple[Mapping[str, Any], Mapping[str, Any]]
"""What a run changes in the defaults, and what its row says otherwise than a valid, safe one."""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog([REPOS])


def session(
    results: Path,
    runs: Sequence[Run],
    *,
    parallel: bool = False,
    keep: Mapping[str, Any] | None = None,
    how: Mapping[str, Any] | None = None,
    campaign: str = "",
) -> Path:
    """A session of the quick model; values in `keep` are changed without being mutated. `how`: what else is planned of
    each run; `campaign`: further lines of its config."""
    folder = create_session(results, lambda: datetime(2026, 1, 2, tzinfo=UTC))
    base = {**DEFAULTS, **(keep or {})}
    planned = [_planned(n, base, changed, parallel) | dict(how or {}) for n, (changed, _) in enumerate(runs, start=1)]
    write.write_campaign(folder, f"name: test\ngovernor: performance\n{campaign}experiments: []\n")
    write.write_plan(folder, {"seed": 1, "runs": planned})
    for plan, (_, row) in zip(planned, runs, strict=True):
        if row.get("verdict") != "not run":
            write.write_run(folder, {**_row(folder, plan), **row})
    return folder.root


def _planned(index: int, base: Mapping[str, Any], changed: Mapping[str, Any], parallel: bool) -> dict[str, Any]:
    mode = "mutation" if changed else "default"
    return {
        "index": index,
        "experiment_id": f"quick_quick_{index:03d}",
        "repo": "quick",
        "model": "quick",
        "mode": "parallel" if parallel else mode,
        "foreground_mode": mode,
        "hyperparameters": {**base, **changed},
        "mutated": list(changed),
        "background": BACKGROUND if parallel else None,
        "max_retries": 3,
        "cooling": {"seconds": 0},
    }


def _row(folder: SessionFolder, plan: Mapping[str, Any]) -> dict[str, Any]:
    names = ("index", "experiment_id", "repo", "model", "mode", "foreground_mode", "hyperparameters", "mutated")
    return {
        **{name: plan[name] for name in names},
        "run_id": folder.run_id(plan["index"]),
        "session_id": folder.session_id,
        "attempt": 1,
        "is_final": True,
        "requested_hyperparameters": plan["hyperparameters"],
        "duration_s": 5.0 * plan["hyperparameters"]["epochs"],
        "gpu_energy_j": 500.0 * plan["hyperparameters"]["epochs"],
        "verdict": "valid",
        "valid": True,
        "safe": True,
    }


def one(results: Path, catalog: Catalog, **wanted: Any) -> GroupCoverage:
    (only,) = cover(read_past(find_sessions([results]), catalog), catalog, Wanted(**wanted))
    return only


def counts(group: GroupCoverage) -> dict[str, int]:
    return {parameter.name: len(parameter.values) for parameter in group.parameters}


FAILED = {"verdict": "failed", "valid": False, "safe": False}
DIRTY = {"verdict": "contaminated", "safe": False}


def test_distinct_values_of_valid_runs_count(tmp_path: Path, catalog: Catalog) -> None:
    session(
        tmp_path,
        [
            ({"learning_rate": 0.2}, {}),
            ({"learning_rate": 0.2}, {}),
            ({"learning_rate": 0.3}, DIRTY),
            ({"learning_rate": 0.4}, FAILED),
            ({"epochs": 9, "seed": 5}, {}),
            ({"learning_rate": 0.5}, {"verdict": "not run"}),
            ({"learning_rate": 0.6}, {"hyperparameters": None}),
        ],
    )
    group = one(tmp_path, catalog)
    assert counts(group) == {"epochs": 1, "learning_rate": 2, "seed": 1}
    assert group.parameters[1].values == (0.2, 0.3)
    assert group.default_runs == 0
    assert group.missing_runs == 1 + 4 + 3 + 4
    assert counts(one(tmp_path, catalog, safe=True)) == {"epochs": 1, "learning_rate": 1, "seed": 1}
    assert counts(one(tmp_path, catalog, alone=True)) == {"epochs": 0, "learning_rate": 2, "seed": 0}
    past = read_past(find_sessions([tmp_path]), catalog)
    assert list(past.not_run.values()) == [1]
    assert past.left_out == {"nobody reported the values they used": 1}


def test_what_is_left_to_the_trainer_is_its_default(tmp_path: Path) -> None:
    """bug-localization's batch size is null by default, and its trainer tells which it then took."""
    catalog = load_catalog()
    spec = catalog.resolve("bug-localization-by-dnn-and-rvsm", "default")
    names = {"repo": spec.repo, "model": spec.name}
    told = {**names, "hyperparameters": {**spec.defaults(), "batch_size": 200}}
    asked = {**names, "requested_hyperparameters": spec.defaults(), "mutated": []}
    folder = SessionFolder(session(tmp_path, [({}, {**told, **asked})]))
    write.write_plan(folder, {"seed": 1, "runs": [{**_planned(1, spec.defaults(), {}, False), **names}]})
    group = one(tmp_path, catalog)
    assert group.group.setting == () and group.default_runs == 1
    assert group.counted == 1


def test_a_session_and_its_copy_are_not_counted_as_two(tmp_path: Path, catalog: Catalog) -> None:
    root = session(tmp_path, [({"epochs": 9}, {})])
    Ledger(root / "ledger.jsonl").append({"event": "session_created"})
    assert one(tmp_path, catalog).counted == 1
    shutil.copytree(root, tmp_path / "backup")
    for read in (lambda: find_sessions([tmp_path]), lambda: open_results(tmp_path)):
        with pytest.raises(SessionError, match=r"backup and .* are one session, of which one is a copy"):
            read()


def test_the_default_value_is_the_default_runs_matter(tmp_path: Path, catalog: Catalog) -> None:
    session(tmp_path, [({"epochs": 2, "seed": 7}, {}), ({}, {})])
    group = one(tmp_path, catalog)
    assert counts(group) == {"epochs": 0, "learning_rate": 0, "seed": 1}
    assert group.default_runs == 1


def test_a_default_run_with_other_values_is_none(tmp_path: Path, catalog: Catalog) -> None:
    session(tmp_path, [({}, {})], keep={"epochs": 3})
    assert one(tmp_path, catalog).default_runs == 0


def test_modes_and_settings_are_counted_apart(tmp_path: Path, catalog: Catalog) -> None:
    session(tmp_path, [({"seed": 5}, {})])
    session(tmp_path, [({"seed": 6}, {})], keep={"epoch_seconds": 0.5})
    session(tmp_path, [({"seed": 7}, {})], parallel=True)
    groups = cover(read_past(find_sessions([tmp_path]), catalog), catalog, Wanted())
    found = [(group.group.mode, group.group.setting_values, group.parameters[2].values) for group in groups]
    assert found == [
        ("mutation", {}, (5,)),
        ("mutation", {"epoch_seconds": 0.5}, (6,)),
        ("parallel", {}, (7,)),
    ]
    only = cover(read_past(find_sessions([tmp_path]), catalog), catalog, Wanted(modes=("parallel",)))
    assert [group.group.mode for group in only] == ["parallel"]


def test_proposals_repeat_nothing_and_stay_the_same(tmp_path: Path, catalog: Catalog) -> None:
    session(tmp_path, [({"epochs": n}, FAILED if n > 25 else {}) for n in range(3, 49)])
    group = one(tmp_path, catalog, target=25)
    epochs = group.parameters[0]
    assert len(epochs.values) == 23
    assert sorted(epochs.proposed) == [1, 49] or set(epochs.proposed) <= {1, 49, 50}
    assert len(epochs.proposed) == 2
    assert group.parameters == one(tmp_path, catalog, target=25).parameters
    for parameter in group.parameters:
        assert not set(parameter.values) & set(parameter.proposed)
        assert DEFAULTS[parameter.name] not in parameter.proposed
        assert len(set(parameter.proposed)) == len(parameter.proposed) == parameter.target - len(parameter.values)


def test_a_range_with_too_few_values_bounds_the_target(tmp_path: Path, catalog: Catalog) -> None:
    session(tmp_path, [({"epochs": n}, {}) for n in (3, 4)] + [({"epochs": n}, FAILED) for n in range(5, 51)])
    epochs = one(tmp_path, catalog, target=100).parameters[0]
    assert (epochs.possible, epochs.target, len(epochs.proposed)) == (49, 49, 47)
    assert set(epochs.proposed) | set(epochs.values) == set(range(1, 51)) - {2}


def test_estimates_come_from_past_runs(tmp_path: Path, catalog: Catalog) -> None:
    session(tmp_path, [({"epochs": n}, {}) for n in (3, 4, 5, 6, 7)] + [({}, {})])
    group = one(tmp_path, catalog, names=("epochs", "seed"))
    assert group.missing_runs == 5
    assert group.estimate.seconds == pytest.approx(5 * 2 * 5.0)  # five seeds, two epochs each, 5 s an epoch
    assert group.estimate.gpu_energy_j == pytest.approx(100.0 * 50.0)
    assert group.estimate.cpu_energy_j is None
    assert group.estimate.null_reasons == {"cpu_energy_j": "no_counted_run_with_this_energy"}


def test_without_a_past_run_nothing_is_estimated(tmp_path: Path, catalog: Catalog) -> None:
    session(tmp_path, [({"epochs": 3}, FAILED)])
    estimate = one(tmp_path, catalog).estimate
    assert (estimate.seconds, estimate.gpu_energy_j, estimate.cpu_energy_j) == (None, None, None)
    assert set(estimate.null_reasons) == {"seconds", "gpu_energy_j", "cpu_energy_j"}


def test_the_config_plans_exactly_the_holes(tmp_path: Path, catalog: Catalog) -> None:
    session(tmp_path, [({"epochs": 3}, {}), ({}, {})], keep={"epoch_seconds": 0.5})
    session(tmp_path, [({"seed": 3}, {})], parallel=True)
    sessions = find_sessions([tmp_path])
    groups = cover(read_past(sessions, catalog), catalog, Wanted(target=2))
    text = hole_config(groups, sessions, catalog, 2)
    assert text.startswith(MARK)
    document = yaml.safe_load(text)
    assert document["governor"] == "performance"
    plan = make_plan(load(document, catalog=catalog), catalog)
    wanted = set()
    for group in groups:
        base = {**DEFAULTS, **group.group.setting_values}
        vectors = [{**base, p.name: value} for p in group.parameters for value in p.proposed]
        vectors += [base] if not group.default_runs else []
        wanted |= {(group.group.mode, json.dumps(vector, sort_keys=True)) for vector in vectors}
    planned = {
        ("parallel" if run.background else "mutation", json.dumps(dict(run.hyperparameters), sort_keys=True))
        for run in plan
    }
    assert planned == wanted
    assert len(plan) == len(wanted) == sum(group.missing_runs for group in groups)
    assert all(run.max_retries == 3 and run.cooling.seconds == 0 for run in plan)
    backgrounds = {run.background.hyperparameters["epochs"] for run in plan if run.background}
    assert backgrounds == {7}


def test_the_config_shares_and_pins_gpus_as_the_past_runs_did(tmp_path: Path, catalog: Catalog) -> None:
    how = {"sharing": "mps", "mps_active_threads": "fractions", "gpu_model": "H100", "resources": {"lab": 1.0}}
    root = session(tmp_path, [({}, {})], parallel=True, how=how, campaign="isolation: gpu\n")
    groups = cover(read_past([root], catalog), catalog, Wanted(target=1))
    campaign = load(yaml.safe_load(hole_config(groups, [root], catalog, 1)), catalog=catalog)
    assert campaign.isolation == "gpu"
    pairs = [run for run in make_plan(campaign, catalog) if run.background]
    assert pairs and all({name: getattr(run, name) for name in how} == how for run in pairs)


def test_models_that_nobody_planned(tmp_path: Path, catalog: Catalog) -> None:
    session(tmp_path, [({}, {})])
    groups = cover(read_past(find_sessions([tmp_path]), catalog), catalog, Wanted(all_models=True))
    assert {(group.group.spec.repo, group.group.spec.name) for group in groups} == {
        (spec.repo, spec.name) for spec in catalog.models()
    }
    parallel = cover(read_past(find_sessions([tmp_path]), catalog), catalog, Wanted(modes=("parallel",)))
    assert [group.problem for group in parallel] == ["no session tells with which background"]


def test_which_folders_are_sessions(tmp_path: Path, catalog: Catalog) -> None:
    root = session(tmp_path / "results", [({}, {})])
    assert find_sessions([tmp_path / "results", root]) == (root.resolve(),)
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "empty", "nor holds one"), (tmp_path / "none", "nothing of that name")):
        with pytest.raises(SessionError, match=words):
            find_sessions([path])
    next((root / "dataset" / "runs").glob("*.parquet")).write_bytes(b"PAR1 no")
    with pytest.raises(SessionError, match="damaged file"):
        read_past(find_sessions([root]), catalog)


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    root = session(tmp_path / "results", [({"seed": 3}, {}), ({}, {})])
    target = tmp_path / "holes.yaml"
    document = campaigns.run_json("coverage", root, "--target", 2, "-o", target)
    (group,) = document["groups"]
    assert document["missing_runs"] == group["missing_runs"] == 5
    assert group["hyperparameters"]["seed"]["values"] == [3]
    assert document["config"] == str(target)
    assert len(campaigns.run_json("plan", target)["runs"]) == 5
    shown = campaigns.run("coverage", tmp_path / "results", "--target", 2, "-o", target)
    assert shown.returncode == 0
    assert "seed=1/2" in shown.stdout
    target.write_text("name: mine\n")
    refused = campaigns.run("coverage", root, "-o", target)
    assert refused.returncode == 2
    assert "was not made by this command" in refused.stderr
    assert target.read_text() == "name: mine\n"
    wrong = campaigns.run("coverage", root, "-mt", "learning_rat")
    assert wrong.returncode == 2
    assert "learning_rate" in wrong.stderr
    unwritable = campaigns.run("coverage", root, "-o", "/proc/nowhere/holes.yaml")
    assert unwritable.returncode == 3
    assert "cannot write" in unwritable.stderr


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_a_generated_config_run_to_its_end_leaves_no_hole(tmp_path: Path) -> None:
    """Real campaigns: some runs are done, one fails; the config does the rest, and then there is nothing to propose."""
    fast = {"epoch_seconds": 0.001}
    first = campaigns.config(
        tmp_path,
        [
            {"repo": "quick", "model": "quick", "mode": "mutation", "mutate": ["seed"], "hyperparameters": fast},
            {"repo": "quick", "model": "quick", "mode": "mutation", "mutate": ["epochs", "learning_rate"],
             "ranges": {"epochs": {"min": 1, "max": 3}}, "hyperparameters": fast},
        ],
        cooling={"seconds": 0},
    )  # fmt: skip
    results, holes = tmp_path / "results", tmp_path / "holes.yaml"
    asked = ("--target", 2, "-o", holes, "-mt", "learning_rate,seed")
    campaigns.run_json("run", first, "--results", results, timeout_s=280)
    before = campaigns.run_json("coverage", results, *asked)
    assert before["missing_runs"] == 3  # a default run, a learning rate, a seed
    assert campaigns.run_json("run", holes, "--results", results, timeout_s=280)
    holes.unlink()
    after = campaigns.run_json("coverage", results, *asked)
    assert after["missing_runs"] == 0
    assert after["config"] is None
    assert not holes.exists()
    values = after["groups"][0]["hyperparameters"]
    assert all(len(values[name]["values"]) == 2 for name in ("learning_rate", "seed"))
