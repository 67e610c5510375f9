"""Makes docs/import.md from the declared findings, so that it cannot say anything else."""

from __future__ import annotations

from profiler.legacy.findings import KINDS
from profiler.reasons import LEVELS, REASONS

_INTRODUCTION = """# Import of old results

<!-- made from profiler/legacy/findings.py; do not edit -->

```
profiler import old/results                 # a tree of sessions, one session, one run, or a folder with summary CSVs
profiler import old/results --trust-conditions --json
```

makes one new session under `--results` from everything that the older tool left below the folder, and an audit of what
is wrong in it: on the terminal (or with `--json`), and as `audit.json` and `audit.md` in the session. The old files are
only read. An import is whole or it is not there; importing the same folder again makes another session and says so.
`profiler show`, `export`, `coverage`, `profiler.open` and `history:` of a config read it like any other session;
`profiler resume` refuses it.

| exit code | meaning |
|---|---|
| 0 | everything that was found could be read (whatever the runs were) |
| 1 | some record, line or cell could not; all else is imported |
| 2 | nothing to import there |
| 3 | the session cannot be written |

## What is read

* Run folders with `experiment.json` (alone or parallel) and `energy/`; a folder `<repo>_<model>_<NNN>[_parallel]` with
  only one of them as well.
* Every CSV with the columns `experiment_id` and `training_success`: summaries of one session or of many, with plain
  columns or `fg_*` and `bg_*`. A row belongs to the folder with its id whose time is at most 5 s away; a row without
  a folder becomes a run of its own. Rows with more or fewer cells than the header are left out and named.
* The same id with the same time in two places is one run.

## Where it goes

| old | here |
|---|---|
| `experiment_id` | `extra.import.experiment_id`; `experiment_id` and `run_id` are new, numbered by time |
| `timestamp` (the end, local time) | `ended_at`, UTC by the seconds in the trace; `started_at` is `duration_s` before |
| `hyperparameters` | `requested_hyperparameters` as recorded; `hyperparameters` what reached the command line |
| `energy_metrics`, `performance_metrics` | `imported_figures`, every number untouched, metrics as `perf_<name>` |
| `energy/gpu_*.csv` | `samples`, one row a line; each run has a `boot_id` of its own, whose clock is the wall clock |
| GPU joules | `gpu_energy_integral_j`: trapezoid over the time stamps, first to last sample (the window, too); |
| | `gpu_energy_j` the same, null where the trace covers less than 90 % of the run or has a hole of over 5 % of it |
| CPU joules | `cpu_package_energy_j`, `dram_energy_j` as perf printed them, `cpu_energy_total_j` their sum |
| powers, temperatures, utilisation | from the trace; from the record where there is none |
| everything else of the record | `extra.import.record`, rows of summaries in `extra.import.summaries` |
| the files themselves | `<run>/original/`, summaries in `original/`, byte for byte |

What no old file holds is null with a reason, usually `not_recorded`: exit code, containment, processes on the GPU,
clocks, memory. Whether values were mutated is not recorded either: those that differ from the defaults count as
mutated.

## Verdicts

Each run is judged by the same reasons as a new one ([dataset.md](dataset.md)). The older tool neither contained
its processes nor looked who else was on the GPU, so none of its runs is `safe`. With `--trust-conditions` you
vouch for that yourself, and the audit says that you did; then runs without another finding are safe.

## Findings

`level` is what the finding makes of the run's verdict; `reason` is its name there.
"""


def import_markdown() -> str:
    """The whole of docs/import.md."""
    parts = [_INTRODUCTION]
    for level in LEVELS:
        parts.append(f"### {level}\n")
        parts += ["| finding | meaning | what is done | reason |", "|---|---|---|---|"]
        parts += [
            f"| `{kind.name}` | {kind.meaning} | {kind.handling} | `{kind.reason}` |"
            for kind in KINDS.values()
            if REASONS[kind.reason].level == level
        ]
        parts.append("")
    return "\n".join(parts)
