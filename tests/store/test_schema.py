"""The declared columns: complete, documented, and the ones inside the files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from profiler import __version__
from profiler.reasons import REASONS
from profiler.store.document import dataset_markdown, verdicts_markdown
from profiler.store.rows import to_arrow
from profiler.store.schema import PLAN, PROCESSES, RUNS, SAMPLES, SCHEMA_VERSION, TABLES, Table, arrow_schema
from profiler.store.write import write_run
from tests.store.build import attempt_row, session_folder

CONTRACT = [
    "run_id",
    "session_id",
    "experiment_id",
    "attempt",
    "is_final",
    "repo",
    "model",
    "mode",
    "foreground_mode",
    "started_at",
    "ended_at",
    "window_start_ns",
    "window_end_ns",
    "duration_s",
    "node_id",
    "boot_id",
    "gpu_uuid",
    "gpu_name",
    "seed",
    "hyperparameters",
    "requested_hyperparameters",
    "effective_source",
    "mutated",
    "exit_code",
    "signal",
    "error_message",
    "metrics",
    "primary_metric",
    "primary_metric_value",
    "cpu_package_energy_j",
    "dram_energy_j",
    "cpu_energy_total_j",
    "gpu_energy_j",
    "gpu_energy_integral_j",
    "gpu_energy_foreground_j",
    "gpu_energy_background_j",
    "gpu_energy_idle_j",
    "gpu_energy_other_j",
    "energy_sources",
    "gpu_power_mean_w",
    "gpu_power_min_w",
    "gpu_power_max_w",
    "gpu_temp_mean_c",
    "gpu_temp_max_c",
    "gpu_util_mean_percent",
    "gpu_util_max_percent",
    "gpu_memory_peak_mib",
    "cpu_s",
    "left_behind",
    "samples",
    "samples_missed",
    "background_repo",
    "background_model",
    "background_hyperparameters",
    "background_busy_share",
    "background_starts",
    "cooling_s",
    "cooling_idle_proven",
    "gate_wait_s",
    "containment",
    "data_source",
    "data_hash",
    "verdict",
    "reasons",
    "valid",
    "safe",
    "null_reasons",
]

SAMPLE_CONTRACT = [
    "t_mono_ns",
    "t_utc_ns",
    "boot_id",
    "tick",
    "lateness_ns",
    "missed",
    "source",
    "device",
    "energy_j",
    "power_w",
    "temp_c",
    "util_percent",
    "memory_mib",
    "clock_mhz",
    "throttle_reasons",
    "null_reason",
]


def test_every_column_of_the_contract_is_declared() -> None:
    assert set(CONTRACT) <= set(RUNS.names)
    assert set(SAMPLE_CONTRACT) <= set(SAMPLES.names)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_has_a_meaning_and_one_declaration(table: Table) -> None:
    assert len(set(table.names)) == len(table.names)
    for column in table:
        assert column.meaning, column.name
        texts = pa.types.is_map(column.type) or pa.types.is_list(column.type)
        assert not column.json_values or texts, column.name


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_units_in_names_agree_with_declared_units(table: Table) -> None:
    units = {"_j": "J", "_w": "W", "_c": "deg C", "_percent": "%", "_mib": "MiB", "_ns": "ns", "_s": "s", "_at": "UTC"}
    for column in table:
        for suffix, unit in units.items():
            if column.name.endswith(suffix) and not column.name.endswith(("_anchor_ns",)):
                assert column.unit == unit, column.name


def test_types_are_those_of_the_contract() -> None:
    texts = pa.map_(pa.string(), pa.string())
    for name in ("hyperparameters", "requested_hyperparameters", "background_hyperparameters", "null_reasons"):
        assert RUNS.column(name).type == texts
    assert RUNS.column("metrics").type == pa.map_(pa.string(), pa.float64())
    assert RUNS.column("started_at").type == pa.timestamp("us", tz="UTC")
    assert RUNS.column("window_start_ns").type == pa.int64()
    assert RUNS.column("reasons").type == pa.list_(pa.string())
    with pytest.raises(KeyError):
        RUNS.column("no_such_column")


def test_a_file_carries_version_and_data_dictionary(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    row = write_run(folder, attempt_row(folder, 1))
    metadata = pq.read_metadata(folder.run_file(row["run_id"], 1)).metadata
    assert metadata[b"profiler.table"] == b"runs"
    assert metadata[b"profiler.schema_version"] == str(SCHEMA_VERSION).encode()
    assert metadata[b"profiler.tool_version"] == __version__.encode()
    dictionary = json.loads(metadata[b"profiler.dictionary"])
    assert set(dictionary) == set(RUNS.names)
    assert dictionary["cpu_package_energy_j"].startswith("J; all CPU packages of the NODE")


def test_the_file_has_exactly_the_declared_types(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    row = write_run(folder, attempt_row(folder, 1))
    stored = pq.read_schema(folder.run_file(row["run_id"], 1))
    assert stored.remove_metadata() == arrow_schema(RUNS).remove_metadata()


def test_a_wrong_type_names_the_column() -> None:
    with pytest.raises(TypeError, match="column duration_s"):
        to_arrow(RUNS, [{"duration_s": "long"}])
    with pytest.raises(TypeError, match=r"column samples .*truth value"):
        to_arrow(RUNS, [{"samples": True}])
    with pytest.raises(TypeError, match="column hyperparameters"):
        to_arrow(RUNS, [{"hyperparameters": ["epochs"]}])


def test_the_page_names_every_column_and_every_reason() -> None:
    page = dataset_markdown()
    for table in (RUNS, PLAN, SAMPLES, PROCESSES):
        assert f"\n## {table.name}\n" in page
        for column in table:
            assert f"| `{column.name}` |" in page
    verdicts = verdicts_markdown()
    for name in REASONS:
        assert f"| `{name}` |" in verdicts
    assert (page, verdicts) == (dataset_markdown(), verdicts_markdown())
