"""One value on its whole way: config text, plan, command line, trainer's event, record, show. It never loses a bit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler.config import load
from profiler.events import read_events
from profiler.metrics import collect
from profiler.planner import make_plan
from profiler.store.ledger import Ledger
from profiler.store.read import open_session
from profiler.store.write import Recorder, write_plan
from profiler.verdict import parameter_findings
from profiler.workloads import Catalog, load_catalog
from tests.store.build import attempt_row, session_folder

MANIFEST = """
repo: lab
command: ["{python}", "train.py", "{hyperparameters}"]
primary_metric: acc
metrics:
  acc: {direction: maximize}
models:
  net:
    hyperparameters:
      epochs: {flag: --epochs, type: int, default: 1}
      rate: {flag: --rate, type: float, default: 0.1}
      nesterov: {flag: --nesterov, type: bool, default: false}
      schedule: {flag: --schedule, type: str, default: step}
      batch_size: {flag: --batch-size, type: int}
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("repos") / "lab"
    folder.mkdir()
    (folder / "workload.yaml").write_text(MANIFEST)
    return load_catalog([folder.parent])


VECTORS = st.fixed_dictionaries(
    {
        "epochs": st.integers(1, 10**15),
        "rate": st.floats(allow_nan=False, min_value=-1e299, max_value=1e299),
        "nesterov": st.booleans(),
        "schedule": st.text("abc -_,1é", min_size=1, max_size=8).filter(str.strip),
    }
)


def typed(values: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {name: (type(value).__name__, repr(value)) for name, value in values.items()}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(vector=VECTORS)
def test_a_value_survives_the_whole_way(
    tmp_path_factory: pytest.TempPathFactory, catalog: Catalog, vector: dict[str, Any]
) -> None:
    folder = session_folder(tmp_path_factory.mktemp("results"), 1)
    config = folder.root / "config.json"
    item = {"repo": "lab", "model": "net", "mode": "default", "hyperparameters": vector}
    config.write_text(json.dumps({"name": "way", "seed": 1, "experiments": [item]}))
    plan = make_plan(load(config, catalog=catalog), catalog)
    write_plan(folder, plan)
    (run,) = plan
    # 0.0 stands for both zeros: they are one value with two spellings.
    expected = vector | {
        "rate": math.fabs(vector["rate"]) if vector["rate"] == 0 else vector["rate"],
        "batch_size": None,
    }
    assert typed(dict(run.hyperparameters)) == typed(expected)

    model = catalog.resolve("lab", "net")
    argv = model.argv(run.hyperparameters, python="python")
    rate = float(argv[argv.index("--rate") + 1])
    used = {**run.hyperparameters, "rate": rate, "epochs": int(argv[argv.index("--epochs") + 1]), "batch_size": 64}
    events = folder.root / "events.jsonl"
    events.write_text(json.dumps({"event": "config", "t_ns": 1, "hyperparameters": used}) + "\n")
    outcome = collect(model, run.hyperparameters, read_events(events), folder.root / "none.log")
    assert parameter_findings(outcome, run.hyperparameters, model) == []

    row = attempt_row(folder, 1, hyperparameters=outcome.effective, requested_hyperparameters=dict(run.hyperparameters))
    Recorder(folder, Ledger(folder.ledger)).record(row)
    (shown,) = json.loads(json.dumps(open_session(folder.root).to_json()))["runs"]
    assert typed(shown["requested_hyperparameters"]) == typed(expected)
    assert typed(shown["hyperparameters"]) == typed(expected | {"batch_size": 64})


def test_the_plan_comes_back_as_it_was_made(tmp_path: Path, catalog: Catalog) -> None:
    item = {"repo": "lab", "model": "net", "mode": "default", "runs_per_config": 1}
    plan = make_plan(load({"name": "way", "seed": 1, "experiments": [item]}, catalog=catalog), catalog)
    folder = session_folder(tmp_path, 1)
    write_plan(folder, plan)
    session = open_session(folder.root)
    assert session.planned() == json.loads(json.dumps(plan.to_json()))["runs"]
    assert session.plan()["plan_digest"].tolist() == [plan.digest]
    assert session.rows()[0]["seed"] == 1
