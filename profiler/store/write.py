"""Writes a session's files. There is one writer, the driver; every file appears whole under its name or not at all.

A finished attempt is recorded in this order: experiment.json, the Parquet row (this is the commit), the ledger, the
summaries. What comes after the commit can be made again from what is before it. Readers never wait for the writer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from profiler.store import files, ledger
from profiler.store.compact import HIDDEN_PREFIX, compact, declared, is_merged
from profiler.store.export import experiment_json, summary_csv
from profiler.store.layout import SampleSpan, SessionFolder, utc_now
from profiler.store.parquet import parquet_bytes
from profiler.store.read import final_rows, parquet_files, read_file, read_rows, rows_in_pieces
from profiler.store.rows import complete_run, to_arrow
from profiler.store.schema import NODES, PLAN, PROCESSES, RUNS, SAMPLES, TABLES, Table
from profiler.store.summaries import Summaries

MERGE_RUNS_FROM = 1000
"""So many files of `runs` are merged at a campaign's end: opening them is most of the work of every reader then."""


class ToJson(Protocol):
    """A plan, or anything else that turns itself into JSON values."""

    def to_json(self) -> dict[str, Any]: ...


def write_campaign(folder: SessionFolder, yaml_text: str) -> None:
    """campaign.yaml: the resolved config."""
    files.write_whole(folder.campaign_yaml, yaml_text.encode())


def write_plan(folder: SessionFolder, plan: ToJson | Mapping[str, Any]) -> None:
    """Every planned run. `plan` is a Plan or its JSON form {"seed", "runs": [...]}, with "digest" where it has one."""
    document = plan if isinstance(plan, Mapping) else plan.to_json()
    digest = document.get("digest") or getattr(plan, "digest", None)
    rows = [_plan_row(folder, run, document.get("seed"), digest) for run in document["runs"]]
    _write_table(folder.dataset("plan") / "plan.parquet", PLAN, rows)


def _plan_row(folder: SessionFolder, run: Mapping[str, Any], seed: int | None, digest: str | None) -> dict[str, Any]:
    background = run.get("background") or {}
    return {
        **{name: run.get(name) for name in PLAN.names},
        "run_id": folder.run_id(run["index"]),
        "session_id": folder.session_id,
        "requested_hyperparameters": run["hyperparameters"],
        "foreground_mode": run.get("foreground_mode") or run["mode"],
        "background_repo": background.get("repo"),
        "background_model": background.get("model"),
        "background_hyperparameters": background.get("hyperparameters"),
        "background_mode": background.get("mode"),
        "seed": seed,
        "plan_digest": digest,
        "planned": json.dumps(run, ensure_ascii=False, default=str),
    }


def write_run(folder: SessionFolder, row: Mapping[str, Any]) -> dict[str, Any]:
    """Commit one attempt's row; the same run_id and attempt again replaces it. Returns the row as it was stored."""
    whole = complete_run(row)
    _write_table(folder.run_file(whole["run_id"], whole["attempt"]), RUNS, [whole])
    return whole


def replace_runs(folder: SessionFolder, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put each row in the place of the one of the same run_id and attempt, which has a file of its own or stands in a
    merged one. Each file is replaced as a whole, so that a reader finds either of the two rows, never both."""
    new = {_key(whole): whole for whole in map(complete_run, rows)}
    for path in filter(is_merged, parquet_files(folder.dataset("runs"))):
        data = read_file(path)
        keys = list(zip(data["run_id"].to_pylist(), data["attempt"].to_pylist(), strict=True))
        here = [new.pop(key) for key in keys if key in new]
        if here:
            gone = set(map(_key, here))
            kept = data.filter(pa.array([key not in gone for key in keys]))
            merged = pa.concat_tables([declared(RUNS, kept), declared(RUNS, to_arrow(RUNS, here))])
            files.write_whole(path, parquet_bytes(RUNS, merged))
    for row in new.values():
        write_run(folder, row)


def rewrite_archived(folder: SessionFolder, row: Mapping[str, Any]) -> None:
    """experiment.json of an attempt that was put aside; nothing where it has none."""
    whole = complete_run(row)
    path = folder.attempt_folder(whole["experiment_id"], whole["attempt"]) / "experiment.json"
    if path.exists():
        files.write_whole(path, experiment_json(whole))


def write_experiment_json(folder: SessionFolder, row: Mapping[str, Any]) -> None:
    """experiment.json of the attempt in its run's folder."""
    whole = complete_run(row)
    files.write_whole(folder.experiment_json(whole["experiment_id"]), experiment_json(whole))


def write_samples(folder: SessionFolder, node_id: str, rows: Sequence[Any]) -> list[Path]:
    """One batch of a node's trace (dicts, named tuples or dataclasses), in one file a boot. The file is named after its
    span, so that the same batch again replaces itself; batches must not overlap. Returns the files."""
    batch = [{"node_id": node_id, **_as_dict(row)} for row in rows]
    boots = dict.fromkeys(row["boot_id"] for row in batch)
    return [_write_span(folder, node_id, boot, [row for row in batch if row["boot_id"] == boot]) for boot in boots]


def _write_span(folder: SessionFolder, node_id: str, boot_id: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    times = [row["t_mono_ns"] for row in rows]
    path = folder.samples_of(node_id) / SampleSpan(boot_id, min(times), max(times)).file_name(len(rows))
    _write_table(path, SAMPLES, rows)
    return path


def write_sample_table(folder: SessionFolder, node_id: str, boot_id: str, data: pa.Table) -> Path:
    """As `write_samples`, for rows of one boot in order of time that are an Arrow table of `samples` already."""
    times = data.column("t_mono_ns")
    span = SampleSpan(boot_id, times[0].as_py(), times[-1].as_py())
    path = folder.samples_of(node_id) / span.file_name(data.num_rows)
    files.write_whole(path, parquet_bytes(SAMPLES, data))
    return path


def write_processes(folder: SessionFolder, name: str, rows: Sequence[Any]) -> Path | None:
    """Sightings of GPU processes in one file `name`.parquet, replaced as a whole (one attempt: <run_id>-<attempt>)."""
    if not rows:
        return None
    known = set(PROCESSES.names)
    batch = [_as_dict(row) for row in rows]
    whole = [{**row, "extra": {k: v for k, v in row.items() if k not in known}} for row in batch]
    path = folder.dataset("processes") / f"{name}.parquet"
    _write_table(path, PROCESSES, whole)
    return path


def write_node(folder: SessionFolder, columns: Mapping[str, Any]) -> Path:
    """What a driver found out of a node, now: one more row of `nodes`."""
    now = utc_now()
    row = {**columns, "session_id": folder.session_id, "measured_at": now}
    path = folder.dataset("nodes") / f"{row['node_id'][:12]}-{int(now.timestamp() * 1e6)}.parquet"
    _write_table(path, NODES, [row])
    return path


def _as_dict(row: Any) -> dict[str, Any]:
    if isinstance(row, Mapping):
        return dict(row)
    if is_dataclass(row) and not isinstance(row, type):
        return asdict(row)
    named: dict[str, Any] = row._asdict()
    return named


def refresh_summaries(folder: SessionFolder, rows: Sequence[Mapping[str, Any]] | None = None) -> None:
    """summary.csv and summary_safe.csv from the final rows: those given, else those on disk."""
    finals = final_rows(read_rows(folder.dataset("runs"), RUNS) if rows is None else rows)
    files.write_whole(folder.summary_csv, summary_csv(finals))
    files.write_whole(folder.summary_safe_csv, summary_csv([row for row in finals if row["safe"]]))


class Recorder:
    """Records attempts in the order that survives a crash. `flush` when the last one is recorded."""

    def __init__(self, folder: SessionFolder, diary: ledger.Ledger) -> None:
        self._folder = folder
        self._diary = diary
        self._summaries = Summaries(folder)
        for row in rows_in_pieces(folder.dataset("runs"), RUNS):
            self._summaries.add(row)

    def record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Put one ended attempt on disk; the row as it was stored. CannotRunError when the disk refuses."""
        write_experiment_json(self._folder, row)
        whole = write_run(self._folder, row)
        self._summaries.add(whole)
        event = ledger.ATTEMPT_FINISHED if ledger.INTERRUPTED not in whole["reasons"] else ledger.INTERRUPTED
        names = ("run_id", "attempt", "node_id", "boot_id", "is_final", "verdict")
        self._diary.append({"event": event, **{name: whole[name] for name in names}})
        self._summaries.refresh_if_due()
        return whole

    def flush(self) -> None:
        """Bring the summaries up to date, which may lag behind where there are many rows."""
        self._summaries.refresh()


def _key(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["run_id"], row["attempt"]


def archive_attempt(folder: SessionFolder, experiment_id: str, attempt: int) -> Path | None:
    """Before the next attempt of a run: move what `attempt` left in the run's folder to `attempts/<attempt>/`, so that
    every attempt keeps its own log and record. None when it left nothing; what is there already is not replaced."""
    source, target = folder.run_folder(experiment_id), folder.attempt_folder(experiment_id, attempt)
    if not source.is_dir():
        return None
    left = [path for path in source.iterdir() if path.name != "attempts" and not path.name.startswith(".")]
    if not left or target.exists():
        return None
    target.mkdir(parents=True)
    for path in left:
        path.rename(target / path.name)
    files.sync_folder(source)
    return target


def clean_temporary(folder: SessionFolder) -> list[Path]:
    """Remove what a writer that was killed left half-written; the removed paths."""
    folders = sorted(folder.root.glob(f"{HIDDEN_PREFIX}*"))
    leftovers = files.remove_temporary(folder.root)
    for path in folders:
        shutil.rmtree(path)
    return leftovers + folders


def finish(folder: SessionFolder) -> None:
    """At a campaign's end: merge the small files of traces and sightings, and of runs where there are very many; give a
    dataset without any row a file with its columns, so that every tool can open all four."""
    many = len(parquet_files(folder.dataset("runs"))) >= MERGE_RUNS_FROM
    compact(folder, ("samples", "processes", "nodes", *(["runs"] if many else [])))
    for table in TABLES:
        path = folder.dataset(table.name)
        if not parquet_files(path):
            _write_table(path / "empty.parquet", table, [])


def _write_table(path: Path, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    files.write_whole(path, parquet_bytes(table, to_arrow(table, rows)))
