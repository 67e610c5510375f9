"""Makes docs/dataset.md from the declared schema and the declared reasons, so that it cannot say anything else."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from profiler.reasons import LEVELS, Reason, Threshold, reasons_at
from profiler.store.export import EXPERIMENT_ENERGY, SUMMARY_BACKGROUND, SUMMARY_ENERGY, SUMMARY_HEAD, SUMMARY_TAIL
from profiler.store.schema import EPOCHS, SCHEMA_VERSION, TABLES, Column, Table

_INTRODUCTION = f"""# The dataset

This page is made from `profiler/store/schema.py` (`make docs`). Schema version
{SCHEMA_VERSION}; each Parquet file carries the version and this data dictionary in its metadata
(`profiler.schema_version`, `profiler.dictionary`).

A session folder holds the datasets `plan`, `runs`, `samples`, `processes` and `nodes`, each in `dataset/`. Each opens
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

A folder of sessions opens as one dataset: `profiler.open("results")` has the same methods, and other tools take all its
files at once. Campaigns are the folders (`session_id`), nodes are the partitions of the trace (`node=<id>`):

```python
runs = "read_parquet('results/*/dataset/runs/*.parquet', union_by_name=true)"
duckdb.sql(f"select model, avg(gpu_energy_j) from {{runs}} where is_final and safe group by model")
samples = "read_parquet('results/*/dataset/samples/*/*.parquet', hive_partitioning=true)"
duckdb.sql(f"select count(*) from {{samples}} where node = 'a1'")

import polars
runs = polars.scan_parquet("results/*/dataset/runs/*.parquet", extra_columns="ignore", missing_columns="insert")
samples = polars.scan_parquet("results/*/dataset/samples", hive_partitioning=True)
```

While a campaign runs, `runs` has a file for each attempt and the trace one for every few seconds. At its end the files
of the trace become one for each node, and those of `runs` one in all where there are 1,000 or more; smaller campaigns
keep theirs. Rows stay what they are. The new folder takes the old one's place in one step, so nobody finds a row twice
or not at all; another program that lists files in that moment can find one of them gone, and has to look again.

Files of an older version lack columns that were added since: they are null here, with the reason `older_schema`.

Rules that hold for every row:

* A value that was not measured is null, never 0, and `null_reasons` says why: column -> reason.
* Times: `*_at` are UTC; `*_ns` are CLOCK_MONOTONIC of the node and compare only within one `boot_id`.
* `hyperparameters`, `requested_hyperparameters` and `background_hyperparameters` hold JSON text per name, so that
  integers, truth values and every bit of a float survive; the Python interface and `show --json` give typed values.
* `runs` holds one row an attempt. The row that counts for a run is the one with `is_final`; `session.runs()` and
  `show` give exactly one row for each planned run.
* An attempt that Ctrl-C cut short (reason `interrupted`) has what was measured until then. Of one that went with its
  Ray or its machine only the start may be known.
* Files whose name starts with `.` are being written; every other file is whole.
"""

_VERDICTS_ELSEWHERE = (
    "## Verdicts\n\nEvery reason, with its level, threshold and evidence: [verdicts.md](verdicts.md).\n"
)

_LEVEL_MEANING = {
    "fail": "the attempt did not succeed: `verdict` is failed, `valid` and `safe` are false",
    "unsafe": "it succeeded, conditions were not clean: `verdict` is contaminated, `valid` is true, `safe` is false",
    "note": "worth knowing; changes neither `valid` nor `safe`",
}


_VERDICTS = """# Verdicts

This page is made from `profiler/reasons.py` (`make docs`). `verdict` is failed if any reason of level fail holds,
contaminated if any of level unsafe does, else valid. `valid` = not failed; `safe` = the verdict is valid. `reasons`
names what holds, worst level first, and `evidence` says what was seen.

Limits are changed with the config's key `thresholds` (reason -> number, in the unit given here):

```yaml
thresholds: {throttled: 0.05, cpu_contention: 0.5}
```

Everything seen of the conditions is stored with the run in `observations`, also where it makes no reason, with the
measured value, the interval (CLOCK_MONOTONIC) and the culprit; `thresholds` has the limits that the verdict was judged
with. `profiler reprocess SESSION` judges again from events, log, trace and sightings, by the manifests of today;
`--set thresholds.REASON=N` changes a limit from then on. What a row said before stands in `ledger.jsonl`.
"""

_HOW_JUDGED = """## How some are judged

* `cpu_contention`: CPU time of all CPUs that the run's node lets it use (/proc/stat), less that of every process below
  the campaign's own roots (raylet, driver), from right before the run to right after it; and the time that the host
  of a virtual machine took from these CPUs while somebody waited for them (stolen). What others used beyond the CPUs
  that were not given to the run is a share of the run's CPUs. Less than 0.5 s of CPU time is nobody.
* `suspended`, `clock_stepped`: CLOCK_BOOTTIME counts sleep and CLOCK_MONOTONIC does not; UTC is stepped by whoever sets
  the clock. All three are read at both edges of the run.
* `memory_not_idle`: the last reading of the trace before the first process of the run, against what the device used
  when the campaign looked at it and nobody was on it. The gate asks for the same before the run starts, with its own
  margin (`gate.memory_margin_mib`).
* `gpu_not_used`: the processes on the GPU that live in the trainer's PID namespace or cgroup, in ten looks a second.
  Asked of models that use a GPU by their manifest, where the driver tells who is on it, containment has either, and
  the trainer's events tell its first step and its end.
* `throttled`: NVML's clock event reasons of heat and power delivery. A board at its own power limit is not throttled.
* `node_rebooted`: found when a session is resumed on a node whose boot id is another one than when the attempt started.
* `estimate_used`: nothing in a config can ask for an estimate so far, so no run has it.
"""


def dataset_markdown() -> str:
    """The whole of docs/dataset.md."""
    parts = [_INTRODUCTION, *(_table(table) for table in (*TABLES, EPOCHS)), _VERDICTS_ELSEWHERE, _old_names()]
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


def verdicts_markdown() -> str:
    """The whole of docs/verdicts.md."""
    lines = [_VERDICTS]
    for level in LEVELS:
        lines.append(f"## {level}\n\n{_LEVEL_MEANING[level]}\n")
        lines += _reasons(reasons_at(level), with_retry=level == "fail")
    return "\n".join([*lines, _HOW_JUDGED])


def _reasons(reasons: Sequence[Reason], with_retry: bool) -> list[str]:
    if not with_retry:
        rows = [f"| `{r.name}` | {r.meaning} | {_limit(r.threshold)} | {_cell(r.evidence)} |" for r in reasons]
        return ["| reason | meaning | holds when | evidence |", "|---|---|---|---|", *rows, ""]
    rows = [
        f"| `{r.name}` | {r.meaning} | {r.evidence} | {'yes' if r.retry else 'no'}: {r.retry_because} |"
        for r in reasons
    ]
    return ["| reason | meaning | evidence | can a retry help? |", "|---|---|---|---|", *rows, ""]


def _limit(threshold: Threshold | None) -> str:
    if threshold is None:
        return "seen"
    side = "below" if threshold.below else "above"
    return f"{threshold.quantity}, in {threshold.unit}, {side} {threshold.default:g}"


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
