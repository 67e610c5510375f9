"""Makes docs/dataset.md from the declared schema and the declared reasons, so that it cannot say anything else."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from profiler.reasons import LEVELS, Reason, reasons_at
from profiler.store.export import EXPERIMENT_ENERGY, SUMMARY_BACKGROUND, SUMMARY_ENERGY, SUMMARY_HEAD, SUMMARY_TAIL
from profiler.store.schema import EPOCHS, SCHEMA_VERSION, TABLES, Column, Table

_INTRODUCTION = f"""# The dataset

This page is made from `profiler/store/schema.py` and `profiler/verdict.py` (`make docs`). Schema version
{SCHEMA_VERSION}; each Parquet file carries the version and this data dictionary in its metadata
(`profiler.schema_version`, `profiler.dictionary`).

A session folder holds four datasets: `dataset/plan`, `dataset/runs`, `dataset/samples`, `dataset/processes`. Each opens
as one table in pyarrow, pandas, DuckDB and Polars:

```python
import profiler
session = profiler.open("results/run_20260101_000000")
session.runs(safe=True, flat=True)      # one row a planned run; hp_* and metric_* columns
session.samples("run_20260101_000000-001")
session.epochs("run_20260101_000000-001")     # energy of each epoch

import duckdb
duckdb.sql("select model, gpu_energy_j from 'results/run_20260101_000000/dataset/runs/*.parquet' where is_final")
```

Rules that hold for every row:

* A value that was not measured is null, never 0, and `null_reasons` says why: column -> reason.
* Times: `*_at` are UTC; `*_ns` are CLOCK_MONOTONIC of the node and compare only within one `boot_id`.
* `hyperparameters`, `requested_hyperparameters` and `background_hyperparameters` hold JSON text per name, so that
  integers, truth values and every bit of a float survive; the Python interface and `show --json` give typed values.
* `runs` holds one row an attempt. The row that counts for a run is the one with `is_final`; `session.runs()` and
  `show` give exactly one row for each planned run.
* Files whose name starts with `.` are being written; every other file is whole.
"""

_LEVEL_MEANING = {
    "fail": "the attempt did not succeed: `verdict` is failed, `valid` and `safe` are false",
    "unsafe": "it succeeded, conditions were not clean: `verdict` is contaminated, `valid` is true, `safe` is false",
    "note": "worth knowing; changes neither `valid` nor `safe`",
}


def dataset_markdown() -> str:
    """The whole of docs/dataset.md."""
    parts = [_INTRODUCTION, *(_table(table) for table in (*TABLES, EPOCHS)), _verdicts(), _old_names()]
    return "\n".join(parts)


def _table(table: Table) -> str:
    lines = [f"## {table.name}\n", f"{table.meaning}\n", "| column | type | unit | meaning | null because |"]
    lines.append("|---|---|---|---|---|")
    lines += [_row(column) for column in table]
    return "\n".join(lines) + "\n"


def _row(column: Column) -> str:
    reasons = ", ".join(f"`{reason}`" for reason in column.null_reasons)
    return f"| `{column.name}` | `{type_text(column.type)}` | {column.unit} | {_cell(column.meaning)} | {reasons} |"


def type_text(kind: pa.DataType) -> str:
    """A short name of an Arrow type."""
    if pa.types.is_map(kind):
        return f"map<{type_text(kind.key_type)}, {type_text(kind.item_type)}>"
    if pa.types.is_list(kind):
        return f"list<{type_text(kind.value_type)}>"
    return str(kind)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _verdicts() -> str:
    lines = ["## Verdicts\n", "`reasons` names what holds, worst level first; `evidence` says what was seen.\n"]
    for level in LEVELS:
        lines.append(f"### {level}: {_LEVEL_MEANING[level]}\n")
        lines += _reasons(reasons_at(level), with_retry=level == "fail")
    return "\n".join(lines)


def _reasons(reasons: Sequence[Reason], with_retry: bool) -> list[str]:
    if not with_retry:
        return ["| reason | meaning |", "|---|---|", *(f"| `{r.name}` | {r.meaning} |" for r in reasons), ""]
    rows = [f"| `{r.name}` | {r.meaning} | {'yes' if r.retry else 'no'}: {r.retry_because} |" for r in reasons]
    return ["| reason | meaning | can a retry help? |", "|---|---|---|", *rows, ""]


def _old_names() -> str:
    pairs = [f"| `{old}` | `{new}` |" for old, new in {**SUMMARY_ENERGY, **SUMMARY_BACKGROUND}.items()]
    energies = [f"| `energy_metrics.{old}` | `{new}` |" for old, new in EXPERIMENT_ENERGY.items()]
    head = ", ".join(f"`{name}`" for name in SUMMARY_HEAD)
    tail = ", ".join(f"`{name}`" for name in (*SUMMARY_TAIL, *SUMMARY_BACKGROUND))
    return "\n".join(
        [
            "## Names of the older tool\n",
            "`summary.csv` has one row for each run with a final attempt, `summary_safe.csv` only those with `safe`.",
            f"Columns: {head};",
            f"`hyperparam_*` (effective values) and `perf_*`, each group sorted; `energy_*`; {tail}",
            "and `background_hyperparam_*`. `timestamp` is the end, `training_success` is `valid`, `retries` is",
            "`attempt` - 1, null is an empty cell. `experiment.json` has the old names flat at the top for every mode,",
            "then every column of `runs`.\n",
            "| old name | column of `runs` |",
            "|---|---|",
            *pairs,
            *energies,
            "",
        ]
    )
