"""What is written comes back, to the bit, through every door."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler.errors import SessionError
from profiler.store.ledger import Ledger
from profiler.store.read import Session, open_session
from profiler.store.rows import complete_run, from_arrow, to_arrow
from profiler.store.schema import RUNS
from profiler.store.write import (
    Recorder,
    archive_attempt,
    clean_temporary,
    finish,
    refresh_summaries,
    write_campaign,
    write_plan,
    write_processes,
    write_run,
    write_samples,
)
from tests.store.build import BOOT, NOON, T0_NS, attempt_row, failed, planned, sample, session_folder

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.one_of(FLOATS, st.integers(), st.booleans(), st.text('aé"\\\n漢 ,;1', max_size=12), st.none())
NAMES = st.text("abcdefghijklmnop_", min_size=1, max_size=8)


def same(one: Any, other: Any) -> bool:
    """Equal in type and to the last bit."""
    if isinstance(one, float):
        return type(other) is float and one.hex() == other.hex()
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    return type(one) is type(other) and one == other


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_hyperparameters_survive_parquet_to_the_bit(values: dict[str, Any]) -> None:
    (row,) = from_arrow(RUNS, to_arrow(RUNS, [{"hyperparameters": values}]))
    assert same(row["hyperparameters"], values)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=st.dictionaries(NAMES, VALUES, max_size=5), metric=FLOATS)
def test_one_value_is_the_same_in_parquet_show_json_and_csv(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any], metric: float
) -> None:
    folder = session_folder(tmp_path_factory.mktemp("results"), [planned(1, hyperparameters=values)])
    row = attempt_row(folder, 1, hyperparameters=values, metrics={"m": metric}, primary_metric_value=metric)
    Recorder(folder, Ledger(folder.ledger)).record(row)
    session = open_session(folder.root)
    assert same(session.rows()[0]["hyperparameters"], values)
    assert same(session.planned()[0]["hyperparameters"], values)
    shown = json.loads(json.dumps(session.to_json()))["runs"][0]
    assert same(shown["hyperparameters"], values)
    document = json.loads(folder.experiment_json(row["experiment_id"]).read_text())
    assert same(document["hyperparameters"], values)
    (cells,) = csv.DictReader(folder.summary_csv.open(newline=""))
    stored = pq.read_table(folder.run_file(row["run_id"], 1)).column("metrics").to_pylist()[0]
    for figure in (
        dict(stored)["m"],
        shown["metrics"]["m"],
        shown["primary_metric_value"],
        document["performance_metrics"]["m"],
        float(cells["perf_m"]),
    ):
        assert same(figure, metric)
    for name, value in values.items():
        cell = cells[f"hyperparam_{name}"]
        assert same(float(cell), value) if isinstance(value, float) else cell == ("" if value is None else str(value))


def test_the_whole_row_comes_back(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    written = write_run(folder, attempt_row(folder, 2))
    (read,) = Session(folder.root).attempts()
    assert read == written
    assert list(read) == list(RUNS.names)
    assert read["window_start_ns"] == attempt_row(folder, 2)["window_start_ns"]


def test_times_of_another_zone_are_stored_in_utc(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    local = datetime(2026, 3, 1, 20, 0, 0, 1, tzinfo=timezone(timedelta(hours=8)))
    write_run(folder, attempt_row(folder, 1, started_at=local, steps_at={"gate": local}))
    row = Session(folder.root).rows()[0]
    assert row["started_at"] == row["steps_at"]["gate"] == datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)
    assert row["started_at"].tzinfo is UTC


def test_every_null_has_a_reason(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    write_run(folder, attempt_row(folder, 1))
    write_run(folder, attempt_row(folder, 2, exit_code=None, signal=9, verdict="failed", valid=False))
    for row in Session(folder.root).rows():
        for name, value in row.items():
            if value is None:
                assert row["null_reasons"][name], name
        unexplained = {name for name in row["null_reasons"] if row.get(name) is not None}
        assert not unexplained
    first, second, third = Session(folder.root).rows()
    assert first["null_reasons"]["cpu_package_energy_j"] == "no_energy_source"
    assert first["null_reasons"]["signal"] == "not_signalled"
    assert first["null_reasons"]["background_busy_share"] == "no_background"
    assert second["null_reasons"]["exit_code"] == "ended_by_signal"
    assert set(third["null_reasons"].values()) == {"not_run"}


def test_numbers_that_are_not_finite_never_reach_the_disk() -> None:
    row = complete_run(
        {
            **attempt_row(session_id_only(), 1),
            "metrics": {"good": 0.5, "bad": math.nan, "worse": math.inf},
            "gpu_energy_j": math.nan,
            "hyperparameters": {"rate": math.nan},
        }
    )
    assert row["metrics"] == {"good": 0.5}
    assert row["gpu_energy_j"] is None
    assert row["null_reasons"]["metrics.bad"] == row["null_reasons"]["gpu_energy_j"] == "not_finite"
    (back,) = from_arrow(RUNS, to_arrow(RUNS, [row]))
    assert back["hyperparameters"] == {"rate": "NaN"}


def session_id_only() -> Any:
    from profiler.store.layout import SessionFolder

    return SessionFolder(Path("/results/run_20260301_120000"))


def test_fields_without_a_column_are_kept_aside(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    write_run(folder, attempt_row(folder, 1, mps_server_pid=77))
    assert Session(folder.root).rows()[0]["extra"] == {"mps_server_pid": 77}


def test_a_row_that_says_not_whose_it_is_is_refused(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    with pytest.raises(ValueError, match="without run_id, verdict"):
        write_run(folder, attempt_row(folder, 1, run_id=None, verdict=None))


def test_rows_gives_one_row_a_planned_run(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 4)
    write_run(folder, attempt_row(folder, 1, 1, is_final=False, **failed()))
    write_run(folder, attempt_row(folder, 1, 2))
    write_run(folder, attempt_row(folder, 3, 1, is_final=False, **failed("signal")))
    write_run(folder, attempt_row(folder, 3, 2, is_final=False, **failed("exit")))
    write_run(folder, attempt_row(folder, 4, 1, **failed("oom")))
    session = open_session(folder.root)
    rows = session.rows()
    assert [row["index"] for row in rows] == [1, 2, 3, 4]
    assert [(row["attempt"], row["verdict"]) for row in rows] == [
        (2, "valid"),
        (None, None),
        (2, "failed"),
        (1, "failed"),
    ]
    assert rows[1]["requested_hyperparameters"] == {"epochs": 2, "learning_rate": 0.1 + 0.2, "seed": 1}
    assert rows[1]["hyperparameters"] is None
    assert [row["run_id"] for row in session.final_rows()] == [folder.run_id(1), folder.run_id(4)]
    assert session.counts() == {
        "planned": 4,
        "valid": 1,
        "safe": 1,
        "contaminated": 0,
        "failed": 1,
        "not_final": 2,
    }
    assert [(row["index"], row["attempt"]) for row in session.attempts()] == [(1, 1), (1, 2), (3, 1), (3, 2), (4, 1)]


def test_a_later_final_attempt_speaks_for_the_run(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    write_run(folder, attempt_row(folder, 1, 1, **failed()))
    write_run(folder, attempt_row(folder, 1, 2))
    assert [row["attempt"] for row in Session(folder.root).final_rows()] == [2]


def test_the_same_attempt_again_replaces_its_row(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    write_run(folder, attempt_row(folder, 1, cooling_s=None))
    write_run(folder, attempt_row(folder, 1, cooling_s=3.5))
    (row,) = Session(folder.root).attempts()
    assert row["cooling_s"] == 3.5


def test_more_than_999_runs_stay_in_plan_order(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1001)
    write_run(folder, attempt_row(folder, 1001))
    write_run(folder, attempt_row(folder, 999))
    session = Session(folder.root)
    assert [row["index"] for row in session.rows()] == list(range(1, 1002))
    assert [row["index"] for row in session.final_rows()] == [999, 1001]


def test_a_session_sees_what_is_written_after_it_was_opened(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 2)
    session = open_session(folder.root)
    assert session.counts()["valid"] == 0
    write_run(folder, attempt_row(folder, 1))
    assert session.counts()["valid"] == 1
    session.rows()[0]["metrics"]["test_loss"] = "mine"
    assert session.rows()[0]["metrics"]["test_loss"] == 1 / 3
    write_run(folder, attempt_row(folder, 1, metrics={"m": 1.0}))
    assert session.rows()[0]["metrics"] == {"m": 1.0}


def test_files_whose_types_differ_are_read_all_the_same(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 2)
    for index in (1, 2):
        write_run(folder, attempt_row(folder, index))
    path = folder.run_file(folder.run_id(1), 1)
    data = pq.read_table(path)
    pq.write_table(data.set_column(data.schema.get_field_index("seed"), "seed", [["seven"]]), path)
    first, second = Session(folder.root).attempts()
    assert first["seed"] == "seven"
    assert second["gpu_energy_j"] == 1000 / 3


def test_frames_keep_types(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 3)
    write_run(folder, attempt_row(folder, 1))
    write_run(folder, attempt_row(folder, 2, verdict="contaminated", safe=False, reasons=["throttled"]))
    session = open_session(folder.root)
    frame = session.runs()
    assert list(frame.columns) == list(RUNS.names)
    assert len(frame) == 3
    assert frame["window_start_ns"].dtype == "Int64"
    assert frame["window_start_ns"].iloc[0] == attempt_row(folder, 1)["window_start_ns"]
    assert frame["gpu_energy_j"].iloc[0] == 1000 / 3
    assert math.isnan(frame["gpu_energy_j"].iloc[2])
    assert isinstance(frame["started_at"].dtype, pd.DatetimeTZDtype)
    assert frame["hyperparameters"].iloc[0] == {"epochs": 2, "learning_rate": 0.1 + 0.2, "seed": 1}
    assert list(session.runs(safe=True)["run_id"]) == [folder.run_id(1)]
    flat = session.runs(flat=True)
    assert flat["hp_epochs"].tolist()[:2] == [2, 2]
    assert flat["hp_learning_rate"].iloc[1] == 0.1 + 0.2
    assert flat["metric_test_accuracy"].iloc[0] == 0.1 + 0.7
    assert flat["hp_epochs"].isna().iloc[2]


def test_an_empty_session_opens(tmp_path: Path) -> None:
    from profiler.store.layout import create_session

    folder = create_session(tmp_path, lambda: NOON)
    session = open_session(folder.root)
    assert session.rows() == []
    assert session.runs(flat=True).empty
    assert list(session.runs().columns) == list(RUNS.names)
    refresh_summaries(folder)
    assert folder.summary_csv.read_text().startswith("experiment_id,timestamp,")


@dataclass(frozen=True, slots=True)
class SlottedSample:
    t_mono_ns: int
    boot_id: str
    power_w: float
    missed: bool = False


def test_samples_of_a_run_are_those_of_its_node_boot_and_window(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    start, end = T0_NS, T0_NS + 1_000_000_000
    write_run(folder, attempt_row(folder, 1, window_start_ns=start, window_end_ns=end))
    step = 100_000_000
    write_samples(folder, "node-a", [sample(start + i * step, i) for i in range(6, 15)])
    write_samples(folder, "node-a", [sample(start + i * step, i) for i in range(-3, 6)])
    write_samples(folder, "node-a", [sample(start + i * step, i, boot_id="f" * 36) for i in range(5)])
    write_samples(folder, "node-b", [SlottedSample(start + i * step, BOOT, 1.0) for i in range(5)])
    frame = open_session(folder.root).samples(folder.run_id(1))
    assert frame["tick"].tolist() == list(range(11))
    assert frame["t_mono_ns"].iloc[0] == start
    assert frame["t_mono_ns"].iloc[-1] == end
    assert set(frame["node_id"]) == {"node-a"}
    assert frame["energy_j"].isna().all()


def test_samples_of_what_has_no_window_or_no_name(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    session = open_session(folder.root)
    assert session.samples(folder.run_id(1)).empty
    with pytest.raises(SessionError, match=r"no run 'nonsense'.*profiler show"):
        session.samples("nonsense")
    with pytest.raises(SessionError, match="no attempt 4"):
        session.samples(folder.run_id(1), attempt=4)
    assert write_samples(folder, "node-a", []) == []


def test_a_batch_sent_twice_is_there_once(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    batch = [sample(T0_NS + i, i) for i in range(5)]
    assert write_samples(folder, "node-a", batch) == write_samples(folder, "node-a", batch)
    assert ds.dataset(folder.dataset("samples")).count_rows() == 5


def test_a_batch_across_a_reboot_is_split(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    write_run(folder, attempt_row(folder, 1, window_start_ns=0, window_end_ns=100, boot_id="f" * 36))
    batch = [sample(T0_NS, 1), sample(50, 2, boot_id="f" * 36)]
    assert len(write_samples(folder, "node-a", batch)) == 2
    assert open_session(folder.root).samples(folder.run_id(1))["tick"].tolist() == [2]


def test_processes_keep_what_has_no_column(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    seen = {"gpu_uuid": "GPU-1", "pid": 7, "command": "squatter", "memory_mib": 5500.0, "own": False, "mps": 1}
    write_processes(folder, f"{folder.run_id(1)}-1", [seen])
    frame = Session(folder.root).processes()
    assert frame["command"].tolist() == ["squatter"]
    assert frame["extra"].tolist() == [{"mps": 1}]
    assert write_processes(folder, "none", []) is None


@pytest.mark.parametrize("finished", [False, True])
def test_other_tools_open_every_dataset(tmp_path: Path, finished: bool) -> None:
    folder = session_folder(tmp_path, 2)
    write_run(folder, attempt_row(folder, 1))
    write_samples(folder, "node-a", [sample(T0_NS + i, i) for i in range(5)])
    write_samples(folder, "node-a", [sample(T0_NS + 10 + i, i) for i in range(5)])
    if finished:
        finish(folder)
        assert ds.dataset(folder.dataset("processes")).count_rows() == 0
    (folder.dataset("runs") / ".half.parquet.1.tmp").write_bytes(b"PAR1 half")
    assert ds.dataset(folder.dataset("runs")).to_table().num_rows == 1
    assert (
        ds.dataset(folder.dataset("samples"), partitioning="hive").to_table().column("node").to_pylist()[0] == "node-a"
    )
    assert len(pd.read_parquet(folder.dataset("plan"))) == 2
    assert len(pd.read_parquet(folder.dataset("samples"))) == 10
    runs = duckdb.sql(f"select experiment_id, gpu_energy_j from '{folder.dataset('runs')}/*.parquet'").fetchall()
    assert runs == [("examples_mnist_cnn_001", 1000 / 3)]
    count = duckdb.sql(f"select count(*) from '{folder.dataset('samples')}/**/*.parquet'").fetchall()
    assert count == [(10,)]


def test_a_plan_keeps_everything_it_was_given(tmp_path: Path) -> None:
    partner = {"repo": "VulBERTa", "model": "mlp", "hyperparameters": {"epochs": 10}, "mode": "loop"}
    runs = [planned(1, mode="parallel", background=partner, note="first", cooling={"seconds": 5})]
    folder = session_folder(tmp_path, runs)
    session = Session(folder.root)
    assert session.planned() == runs
    (row,) = session.plan().to_dict("records")
    assert row["background_model"] == "mlp"
    assert row["background_hyperparameters"] == {"epochs": 10}
    assert row["seed"] == 7
    assert row["plan_digest"] == "d" * 64
    assert session.rows()[0]["background_repo"] == "VulBERTa"


def test_a_plan_object_gives_its_own_digest(tmp_path: Path) -> None:
    class Drawn:
        digest = "e" * 64

        def to_json(self) -> dict[str, Any]:
            return {"seed": 3, "runs": [planned(1)]}

    folder = session_folder(tmp_path, 1)
    write_plan(folder, Drawn())
    assert Session(folder.root).plan()["plan_digest"].tolist() == ["e" * 64]


def test_a_campaign_is_written_as_it_is(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    write_campaign(folder, "name: Übung\n")
    assert folder.campaign_yaml.read_text(encoding="utf-8") == "name: Übung\n"


def test_the_recorder_writes_all_four_and_the_ledger(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 3)
    diary = Ledger(folder.ledger)
    recorder = Recorder(folder, diary)
    recorder.record(attempt_row(folder, 1, 1, is_final=False, **failed("interrupted")))
    recorder.record(attempt_row(folder, 1, 2))
    recorder.record(attempt_row(folder, 2, 1, **failed()))
    again = Recorder(folder, diary)
    again.record(attempt_row(folder, 3, 1))
    assert [event["event"] for event in diary.read().events] == ["interrupted"] + ["attempt_finished"] * 3
    assert [event["is_final"] for event in diary.read().events] == [False, True, True, True]
    names = [row["experiment_id"] for row in csv.DictReader(folder.summary_csv.open(newline=""))]
    assert names == ["examples_mnist_cnn_001", "examples_mnist_cnn_002", "examples_mnist_cnn_003"]
    safe = [row["experiment_id"] for row in csv.DictReader(folder.summary_safe_csv.open(newline=""))]
    assert safe == ["examples_mnist_cnn_001", "examples_mnist_cnn_003"]


def test_summaries_can_be_made_again_from_the_rows(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 2)
    recorder = Recorder(folder, Ledger(folder.ledger))
    for index in (2, 1):
        recorder.record(attempt_row(folder, index))
    before = folder.summary_csv.read_bytes()
    folder.summary_csv.unlink()
    refresh_summaries(folder)
    assert folder.summary_csv.read_bytes() == before


def test_each_attempt_keeps_its_own_files(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    name = planned(1)["experiment_id"]
    assert archive_attempt(folder, name, 1) is None
    folder.background_logs(name).mkdir(parents=True)
    folder.training_log(name).write_text("first")
    target = archive_attempt(folder, name, 1)
    assert target == folder.attempt_folder(name, 1)
    assert (target / "training.log").read_text() == "first"
    assert not folder.training_log(name).exists()
    folder.training_log(name).write_text("second")
    assert archive_attempt(folder, name, 1) is None
    assert archive_attempt(folder, name, 2) is not None
    assert (folder.attempt_folder(name, 1) / "training.log").read_text() == "first"


def test_clean_temporary_removes_only_half_written_files(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    write_run(folder, attempt_row(folder, 1))
    half = folder.dataset("runs") / ".x.parquet.99.tmp"
    half.write_bytes(b"PAR1")
    (folder.root / ".compact-samples-node=a").mkdir()
    before = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file() and path != half}
    assert set(clean_temporary(folder)) == {half, folder.root / ".compact-samples-node=a"}
    assert {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "there is nothing of that name"),
        (lambda root: root.mkdir(), "not a session: it has no dataset/ folder"),
        (lambda root: root.write_text(""), "not a session"),
    ],
)
def test_what_is_no_session_is_refused_in_words(tmp_path: Path, make: Any, message: str) -> None:
    root = tmp_path / "thing"
    make(root)
    with pytest.raises(SessionError, match=message):
        open_session(root)


def test_a_results_folder_names_a_session_in_it(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    with pytest.raises(SessionError, match=folder.session_id):
        open_session(str(tmp_path))


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"PAR1 nonsense that is long enough PAR1"])
@pytest.mark.parametrize("name", ["runs", "plan"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, damage: bytes, name: str) -> None:
    folder = session_folder(tmp_path, 1)
    write_run(folder, attempt_row(folder, 1))
    (path,) = folder.dataset(name).glob("*.parquet")
    path.write_bytes(damage)
    with pytest.raises(SessionError, match=f"(?s)damaged file {path}.*move it out"):
        open_session(folder.root)


def test_columns_that_an_older_file_lacks_are_null(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, 1)
    row = write_run(folder, attempt_row(folder, 1))
    path = folder.run_file(row["run_id"], 1)
    pq.write_table(
        pq.read_table(path).drop_columns(["ray_node_id", "steps", "is_final"]).append_column("newer", [[1]]), path
    )
    (read,) = Session(folder.root).attempts()
    assert read["steps"] is None
    assert read["gpu_energy_j"] == 1000 / 3
    assert Session(folder.root).counts()["not_final"] == 1
