"""Declares every column of the dataset once: name, type, unit, meaning, reasons for null. It reads and writes nothing.

The Parquet schemas, the data dictionary inside each file, `docs/dataset.md` and the typed rows that readers get are all
derived from the tables below, so a column that is not declared here does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from profiler._version import __version__

SCHEMA_VERSION = 2
"""1: the first. 2: `runs` has observations, thresholds, oom_kills, cooling_end. Columns that a file lacks because it is
older are null with the reason `older_schema`."""

TEXT = pa.string()
INT = pa.int64()
FLOAT = pa.float64()
BOOL = pa.bool_()
UTC = pa.timestamp("us", tz="UTC")
TEXTS = pa.list_(pa.string())
INTS = pa.list_(pa.int64())
TEXT_MAP = pa.map_(pa.string(), pa.string())
NUMBER_MAP = pa.map_(pa.string(), pa.float64())
TIME_MAP = pa.map_(pa.string(), UTC)


@dataclass(frozen=True)
class Column:
    """One column: `type` is its Arrow type, `unit` is "" where there is none, `null_reasons` are the usual words for
    why it is null (empty: the column is never null, or its meaning says what null stands for)."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    null_reasons: tuple[str, ...] = ()
    json_values: bool = False
    """Of a map<string,string> or list<string>: each value is JSON text, decoded to its own type by the reader."""


@dataclass(frozen=True)
class Table:
    """One dataset of the session folder, in column order."""

    name: str
    meaning: str
    columns: tuple[Column, ...]

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of that name; KeyError when the table has none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


NOT_STARTED = ("not_run", "not_started", "interrupted")
NO_ANSWER = ("the node did not answer",)
NO_COUNTER = ("permission_denied", "counter_not_advancing", "counter_vanished", "counter_reset", "wrap_ambiguous")
NO_CPU = (*NOT_STARTED, "no_rapl_zones", *NO_COUNTER)
NO_DRAM = (*NOT_STARTED, "no_dram_zone", *NO_COUNTER)
NO_DEVICE = (*NOT_STARTED, "no_gpu", "no_gpu_used", "gpu_not_visible", "nvml_library_missing", "nvml_driver_not_loaded")
NO_GPU = (*NO_DEVICE, "nvml_not_supported", "counter_not_advancing", "window_below_counter_step")
NO_TRACE = (*NO_DEVICE, "nvml_not_supported", "no_sample_in_window")
NO_INTEGRAL = (*NO_DEVICE, "no_power_samples", "trace_gap", "trace_does_not_cover_window")
NO_SPLIT = (
    *NO_DEVICE,
    "no_idle_baseline: ...",
    "idle_baseline_above_run",
    "processes_not_told_apart: ...",
    "partner_not_sampled: ...",
    "empty_window",
    "several_gpus",
)
NO_IDLE = (*NO_DEVICE, "no_idle_samples", "not_idle", "idle_power_not_steady")
NO_REST = (*NO_CPU, "node_not_idle", "no_cpu_counter_in_trace", "no_idle_samples", "not_idle", "idle_power_not_steady")
NOT_APART = (
    *NO_DEVICE,
    "no_background",
    "background_uses_no_gpu",
    "processes_not_told_apart",
    "partner_not_sampled: ...",
    "several_gpus",
)
SOLO = ("not_run", "no_background")
UNSET = ("not_run", "not_set")
NOT_RECORDED = (*NOT_STARTED, "not_recorded")


def _identity() -> tuple[Column, ...]:
    return (
        Column("run_id", TEXT, "", "`<session_id>-<NNN>`: one planned run, unique for ever; joins runs, plan and logs"),
        Column("session_id", TEXT, "", "name of the session folder"),
        Column("index", INT, "", "place of the run in the plan, from 1"),
        Column("experiment_id", TEXT, "", "name of the run's folder: `<repo>_<model>_<NNN>[_parallel]`"),
    )


def _setup() -> tuple[Column, ...]:
    return (
        Column("repo", TEXT, "", "repository of the (foreground) model, canonical name"),
        Column("model", TEXT, "", "the (foreground) model, canonical name"),
        Column("mode", TEXT, "", "default, mutation or parallel"),
        Column("foreground_mode", TEXT, "", "default or mutation: how the foreground's values were chosen"),
    )


def _asked() -> tuple[Column, ...]:
    return (
        Column(
            "requested_hyperparameters",
            TEXT_MAP,
            "",
            "complete vector the plan asks for; each value is JSON text with round-trip precision",
            json_values=True,
        ),
        Column("mutated", TEXTS, "", "names that were mutated in this run; empty for a default run"),
    )


def _grants() -> tuple[Column, ...]:
    return (
        Column("max_retries", INT, "", "retries the plan allows after the first attempt", UNSET),
        Column("timeout_seconds", FLOAT, "s", "time after which the whole process tree is ended", UNSET),
        Column(
            "fraction", FLOAT, "", "share of the GPU reserved for the foreground (bookkeeping, no isolation)", UNSET
        ),
        Column("cpus", FLOAT, "CPUs", "CPU grant of the trainer; its threads follow", UNSET),
        Column("memory_mib", FLOAT, "MiB", "GPU memory estimate the plan was checked with", UNSET),
        Column("size", TEXT, "", "full or reduced workload", UNSET),
    )


RUNS = Table(
    "runs",
    "One row an attempt, written when the attempt has ended; the file's appearance is the commit.",
    (
        *_identity(),
        Column("attempt", INT, "", "1 for the first execution of the run, 2 for its first retry, ..."),
        Column(
            "is_final",
            BOOL,
            "",
            "the row that counts for its run: no further attempt of it was due, and none has become final since",
        ),
        *_setup(),
        Column("started_at", UTC, "UTC", "trainer's start, wall clock", NOT_STARTED),
        Column("ended_at", UTC, "UTC", "trainer's end, wall clock", NOT_STARTED),
        Column("window_start_ns", INT, "ns", "trainer's start, CLOCK_MONOTONIC of the node", NOT_STARTED),
        Column("window_end_ns", INT, "ns", "trainer's end, CLOCK_MONOTONIC of the node", NOT_STARTED),
        Column("duration_s", FLOAT, "s", "(window_end_ns - window_start_ns) / 1e9", NOT_STARTED),
        Column("boundary_start_ns", INT, "ns", "when the counters were read before the trainer's start", NOT_RECORDED),
        Column("boundary_end_ns", INT, "ns", "when the counters were read after the trainer's end", NOT_RECORDED),
        Column(
            "utc_anchor_ns", INT, "ns", "wall clock since the epoch, read together with mono_anchor_ns", NOT_RECORDED
        ),
        Column("mono_anchor_ns", INT, "ns", "CLOCK_MONOTONIC, read together with utc_anchor_ns", NOT_RECORDED),
        Column("node_id", TEXT, "", "node that executed the attempt; the `node=` folder of its samples", NOT_RECORDED),
        Column("host", TEXT, "", "host name of that node", NOT_RECORDED),
        Column("boot_id", TEXT, "", "kernel's boot id: CLOCK_MONOTONIC compares only within one", NOT_RECORDED),
        Column("ray_node_id", TEXT, "", "Ray's id of the node", NOT_RECORDED),
        Column("gpu_uuid", TEXT, "", "GPU of the attempt", ("not_run", "no_gpu", "interrupted")),
        Column("gpu_name", TEXT, "", "product name of that GPU", ("not_run", "no_gpu", "interrupted")),
        Column("gpu_uuids", pa.list_(TEXT), "", "every GPU of the attempt, that one first", NOT_RECORDED),
        Column("seed", INT, "", "campaign's seed: the same seed gives the same plan", UNSET),
        Column("plan_digest", TEXT, "", "SHA-256 of the plan the run belongs to", NOT_RECORDED),
        Column(
            "hyperparameters",
            TEXT_MAP,
            "",
            "EFFECTIVE values, as the trainer reported them; each value is JSON text with round-trip precision",
            (*NOT_STARTED, "not_reported_by_trainer"),
            json_values=True,
        ),
        *_asked(),
        Column(
            "effective_source",
            TEXT,
            "",
            "where the effective values come from: event (the trainer said so), log (pattern), argv (trusted), none",
            NOT_STARTED,
        ),
        *_grants(),
        Column("argv", TEXTS, "", "exact command of the trainer", NOT_RECORDED),
        Column("exit_code", INT, "", "trainer's exit code", (*NOT_STARTED, "ended_by_signal", "start_failed")),
        Column("signal", INT, "", "signal that ended the trainer", (*NOT_STARTED, "not_signalled")),
        Column("end_cause", TEXT, "", "exited, stopped, timeout, lease_closed, owner_gone, start_failed", NOT_RECORDED),
        Column("error_message", TEXT, "", 'what went wrong, for people; "" when nothing did', ("not_run",)),
        Column("problems", TEXTS, "", "oddities found in events and log that changed no verdict", NOT_RECORDED),
        Column(
            "metrics",
            NUMBER_MAP,
            "as the manifest says",
            "finite values by name; one that is not finite is left out and named in null_reasons as metrics.<name>",
            NOT_STARTED,
        ),
        Column("primary_metric", TEXT, "", "name of the metric that decides success", NOT_RECORDED),
        Column(
            "primary_metric_value", FLOAT, "as the manifest says", "its value", (*NOT_STARTED, "missing", "not_finite")
        ),
        Column("epochs_done", INT, "epochs", "epochs the trainer says it finished", (*NOT_STARTED, "not_reported")),
        Column("ready_s", FLOAT, "s", "trainer's start to its first optimiser step", (*NOT_STARTED, "not_reported")),
        Column(
            "training_s",
            FLOAT,
            "s",
            "its first optimiser step to its own end (events ready and done)",
            (*NOT_STARTED, "not_reported"),
        ),
        Column(
            "cpu_package_energy_j",
            FLOAT,
            "J",
            "all CPU packages of the NODE (not of the process), from counters",
            NO_CPU,
        ),
        Column("dram_energy_j", FLOAT, "J", "all DRAM domains of the node, from counters", NO_DRAM),
        Column("cpu_energy_total_j", FLOAT, "J", "cpu_package_energy_j + dram_energy_j, where both are known", NO_DRAM),
        Column(
            "cpu_package_idle_power_w", FLOAT, "W", "all packages right before the attempt, the node resting", NO_REST
        ),
        Column(
            "cpu_package_energy_net_j",
            FLOAT,
            "J",
            "above idle: cpu_package_energy_j - cpu_package_idle_power_w * duration_s",
            NO_REST,
        ),
        Column(
            "cpu_share_percent",
            FLOAT,
            "%",
            "CPU seconds of the run's process tree by those of all processes of the node",
            (*NOT_STARTED, "cpu_time_unknown", "cpu_time_below_resolution"),
        ),
        Column(
            "cpu_package_energy_run_j",
            FLOAT,
            "J",
            "attribution: that share of cpu_package_energy_j, idle power included",
            (*NO_CPU, "cpu_time_unknown", "cpu_time_below_resolution"),
        ),
        Column(
            "cpu_share_method",
            TEXT,
            "",
            "how the share was found: cpu_time",
            (*NOT_STARTED, "cpu_time_unknown", "cpu_time_below_resolution"),
        ),
        Column(
            "gpu_energy_j",
            FLOAT,
            "J",
            "whole GPU, hardware counter at the end minus at the start; of a run on several GPUs their sum",
            NO_GPU,
        ),
        Column(
            "gpu_energy_by_device_j",
            pa.map_(TEXT, FLOAT),
            "J",
            "UUID -> the energy of that GPU, each from its own counter; gpu_energy_j is their sum",
            NO_GPU,
        ),
        Column(
            "gpu_energy_integral_j",
            FLOAT,
            "J",
            "whole GPU, trapezoid of the power trace over real time stamps",
            NO_INTEGRAL,
        ),
        Column(
            "gpu_counter_integral_gap_percent",
            FLOAT,
            "%",
            "100 * (integral - counter) / counter: two independent paths to one figure",
            NO_INTEGRAL,
        ),
        Column(
            "gpu_energy_training_j",
            FLOAT,
            "J",
            "of gpu_energy_j, what fell into training_s, by the power trace: without the start (imports, data), which"
            " differs most between repeated runs",
            (*NO_INTEGRAL, "not_reported"),
        ),
        Column(
            "gpu_energy_net_j",
            FLOAT,
            "J",
            "above idle: gpu_energy_j - gpu_idle_power_w * duration_s",
            (*NO_GPU, *NO_IDLE),
        ),
        Column("gpu_energy_foreground_j", FLOAT, "J", "part attributed to the foreground", NO_SPLIT),
        Column("gpu_energy_background_j", FLOAT, "J", "part attributed to the background", NO_SPLIT),
        Column(
            "gpu_energy_idle_j",
            FLOAT,
            "J",
            "part the idle GPU would have used: gpu_idle_power_w over the window",
            NO_SPLIT,
        ),
        Column(
            "gpu_energy_other_j",
            FLOAT,
            "J",
            "part of strangers, and what is above idle while no process was seen working; the four parts are"
            " gpu_energy_j",
            NO_SPLIT,
        ),
        Column(
            "gpu_attribution_method",
            TEXT,
            "",
            "how the parts were found: above_idle (solo run), time_slice, time_slice_weighted, solo_calibration",
            NO_SPLIT,
        ),
        Column(
            "gpu_attribution_confidence",
            TEXT,
            "",
            "high, medium or low: how much of the energy above idle fell into time in which somebody was seen working;"
            " low also where the processes together were not as busy as the device",
            NO_SPLIT,
        ),
        Column(
            "gpu_energy_foreground_sm_ratio_j",
            FLOAT,
            "J",
            "for comparison, the plain figure: the whole energy by the partners' mean SM activity",
            NOT_APART,
        ),
        Column("gpu_energy_background_sm_ratio_j", FLOAT, "J", "the same of the background", NOT_APART),
        Column(
            "gpu_sm_foreground_percent", FLOAT, "%", "mean share of the SMs that the foreground kept busy", NOT_APART
        ),
        Column(
            "gpu_sm_training_percent",
            FLOAT,
            "%",
            "the same of the foreground from its first optimiser step to its own end (training_s)",
            (*NOT_APART, "not_reported"),
        ),
        Column("gpu_sm_background_percent", FLOAT, "%", "the same of the background", NOT_APART),
        Column("gpu_idle_power_w", FLOAT, "W", "the idle GPU's power right before the attempt", NO_IDLE),
        Column("gpu_idle_power_uncertainty_w", FLOAT, "W", "its +- (95 of 100)", NO_IDLE),
        Column("energy_sources", TEXT_MAP, "", "energy column -> source and scope of its figure", NOT_RECORDED),
        Column(
            "imported_figures",
            NUMBER_MAP,
            "as the older tool named them",
            "every number of the record that an imported run comes from, untouched: energies, then perf_<metric>",
            ("not_run", "not_imported"),
        ),
        Column(
            "energy_uncertainty_j",
            NUMBER_MAP,
            "J",
            "energy column -> +- (95 of 100 windows), without what the sensor itself is off by",
            NOT_RECORDED,
        ),
        Column(
            "energy_uncertainty_parts_j",
            NUMBER_MAP,
            "J",
            "<energy column>.<cause> -> its part of that +-: start and end (edges of the window), resolution (of the"
            " counter), edges and sampling (of an integral)",
            NOT_RECORDED,
        ),
        Column("gpu_energy_uncertainty_j", FLOAT, "J", "the +- of gpu_energy_j", NO_GPU),
        Column("cpu_package_energy_uncertainty_j", FLOAT, "J", "the +- of cpu_package_energy_j", NO_CPU),
        Column("gpu_power_mean_w", FLOAT, "W", "time-weighted mean of the power trace", NO_INTEGRAL),
        Column("gpu_power_min_w", FLOAT, "W", "lowest sample", NO_TRACE),
        Column("gpu_power_max_w", FLOAT, "W", "highest sample", NO_TRACE),
        Column("gpu_temp_mean_c", FLOAT, "deg C", "mean of the samples", NO_TRACE),
        Column("gpu_temp_max_c", FLOAT, "deg C", "highest sample", NO_TRACE),
        Column(
            "gpu_util_mean_percent", FLOAT, "%", "mean of the samples (share of time with a kernel running)", NO_TRACE
        ),
        Column("gpu_util_max_percent", FLOAT, "%", "highest sample", NO_TRACE),
        Column("gpu_memory_peak_mib", FLOAT, "MiB", "highest sample of the device's used memory", NO_TRACE),
        Column(
            "gpu_memory_foreground_mib",
            FLOAT,
            "MiB",
            "largest memory of the foreground's processes, looked at ten times a second",
            NOT_APART,
        ),
        Column("gpu_memory_background_mib", FLOAT, "MiB", "the same of the background", NOT_APART),
        Column("cpu_s", FLOAT, "s", "CPU seconds of the trainer's whole process tree", NOT_RECORDED),
        Column("max_rss_mib", FLOAT, "MiB", "largest resident set of one process of the tree", NOT_RECORDED),
        Column(
            "left_behind",
            INT,
            "processes",
            "processes still alive when the trainer ended (they were killed)",
            NOT_RECORDED,
        ),
        Column("samples", INT, "rows", "trace rows of this attempt's window", NOT_RECORDED),
        Column("samples_missed", INT, "rows", "ticks of the window without a reading", NOT_RECORDED),
        Column(
            "isolation",
            TEXT,
            "",
            "node: nothing else of this tool ran on the node; gpu: runs on its other GPUs were possible, and figures of"
            " the node's CPUs cover them too (cpu_package_energy_run_j is this run's attributed part)",
            NOT_RECORDED,
        ),
        Column("sampling_rate_hz", FLOAT, "Hz", "rate the sampler was asked for", NOT_RECORDED),
        Column("background_repo", TEXT, "", "repository of the background", SOLO),
        Column("background_model", TEXT, "", "model of the background", SOLO),
        Column(
            "background_hyperparameters",
            TEXT_MAP,
            "",
            "complete vector of the background; each value is JSON text",
            SOLO,
            json_values=True,
        ),
        Column("background_mode", TEXT, "", "loop or reuse", SOLO),
        Column(
            "background_checkout",
            TEXT,
            "",
            "user's own clone of the original that was the background",
            (*SOLO, "no_checkout"),
        ),
        Column("sharing", TEXT, "", "how foreground and background share the GPU: time_slice or mps", SOLO),
        Column(
            "mps_active_thread_percent",
            FLOAT,
            "%",
            "under MPS, the share of the SMs that the foreground may use (100: no limit)",
            (*SOLO, *NOT_RECORDED, "not_mps"),
        ),
        Column(
            "background_mps_active_thread_percent",
            FLOAT,
            "%",
            "the same of the background",
            (*SOLO, *NOT_RECORDED, "not_mps"),
        ),
        Column("background_started_at", UTC, "UTC", "first background trainer's start", (*SOLO, *NOT_RECORDED)),
        Column("background_ended_at", UTC, "UTC", "last background trainer's end", (*SOLO, *NOT_RECORDED)),
        Column("background_gpu_uuid", TEXT, "", "GPU the background ran on", (*SOLO, "no_gpu")),
        Column(
            "background_busy_share",
            FLOAT,
            "0..1",
            "share of the window in which the background worked: the smallest of what its witnesses say",
            (*SOLO, *NOT_RECORDED, "not_told"),
        ),
        Column(
            "background_busy_method",
            TEXT,
            "",
            "those witnesses: events (first step to end of each training), gpu_utilisation, cpu_time; joined by +",
            (*SOLO, *NOT_RECORDED, "not_told"),
        ),
        Column(
            "background_gaps",
            INT,
            "",
            "how often within the window no training of the background was going on, from one's end to the next's"
            " first step",
            (*SOLO, *NOT_RECORDED, "not_told"),
        ),
        Column("background_gap_s", FLOAT, "s", "sum of these gaps", (*SOLO, *NOT_RECORDED, "not_told")),
        Column(
            "background_trainings",
            INT,
            "",
            "trainings of the background that ended within the window",
            (*SOLO, *NOT_RECORDED, "not_told"),
        ),
        Column(
            "background_epochs",
            INT,
            "epochs",
            "epochs of the background that ended within the window",
            (*SOLO, *NOT_RECORDED, "not_told"),
        ),
        Column(
            "background_epochs_worked",
            FLOAT,
            "epochs",
            "epochs of the background within the window, those that its edges cut by the part of their time inside",
            (*SOLO, *NOT_RECORDED, "not_told"),
        ),
        Column("background_starts", INT, "", "how often the background's trainer was started", (*SOLO, *NOT_RECORDED)),
        Column("background_exit_codes", INTS, "", "exit codes in order; -n for signal n", (*SOLO, *NOT_RECORDED)),
        Column(
            "background_log_directory",
            TEXT,
            "",
            "folder of the background's logs, in the session",
            (*SOLO, *NOT_RECORDED),
        ),
        Column("steps", NUMBER_MAP, "s", "step of the attempt -> how long it took", NOT_RECORDED),
        Column("steps_at", TIME_MAP, "UTC", "step of the attempt -> when it began", NOT_RECORDED),
        Column("cooling_s", FLOAT, "s", "rest after the trainer's end, before the next run may start", NOT_RECORDED),
        Column("cooling_end", TEXT, "", "what ended it: seconds, idle or max_seconds", NOT_RECORDED),
        Column(
            "cooling_idle_proven",
            BOOL,
            "",
            "nobody on the GPU and utilisation 0 during all of the cooling (its first 2 s aside: NVML looks back)",
            (*NOT_RECORDED, "no_gpu", "no_cooling", "no_samples", "trace_gap"),
        ),
        Column("gate_wait_s", FLOAT, "s", "wait until the gate was open", NOT_RECORDED),
        Column("containment", TEXT, "", "pid_namespace, cgroup, subreaper or none", NOT_RECORDED),
        Column("data_source", TEXT, "", "data set the trainer used, as it says", (*NOT_STARTED, "not_reported")),
        Column("data_hash", TEXT, "", "hash of that data, as the trainer says", (*NOT_STARTED, "not_reported")),
        Column("checkout", TEXT, "", "user's own clone of the original that was trained", ("not_run", "no_checkout")),
        Column(
            "checkout_commit",
            TEXT,
            "",
            "commit of that clone; `-dirty` behind it: tracked files were changed",
            (*NOT_RECORDED, "no_checkout", "not_under_git"),
        ),
        Column("verdict", TEXT, "", "valid, contaminated or failed", ("not_run",)),
        Column("reasons", TEXTS, "", "names of the reasons that hold, worst level first", ("not_run",)),
        Column("evidence", TEXT_MAP, "", "reason -> what was seen", ("not_run",)),
        Column(
            "observations",
            TEXTS,
            "",
            "everything seen of the conditions, also where it makes no reason; each one JSON text with reason,"
            " evidence, and where they apply value (compared with the threshold), start_ns, end_ns, culprit, retry",
            ("not_run", "interrupted"),
            json_values=True,
        ),
        Column(
            "thresholds",
            NUMBER_MAP,
            "see docs/verdicts.md",
            "reason -> limit that this verdict was judged with",
            ("not_run", "interrupted"),
        ),
        Column(
            "oom_kills", INT, "processes", "ended by the kernel for lack of memory on the node meanwhile", NOT_RECORDED
        ),
        Column("valid", BOOL, "", "the attempt did not fail", ("not_run",)),
        Column("safe", BOOL, "", "valid and uncontaminated", ("not_run",)),
        Column("retry_decision", TEXT, "", "whether another attempt followed, and why (not)", NOT_RECORDED),
        Column("tool_version", TEXT, "", "version of this tool that wrote the row", NOT_RECORDED),
        Column(
            "extra",
            TEXT_MAP,
            "",
            "fields of the attempt that have no column; each value is JSON text",
            json_values=True,
        ),
        Column("null_reasons", TEXT_MAP, "", "column that is null -> why"),
    ),
)

PLAN = Table(
    "plan",
    "One row a planned run, written before the first run starts and never changed.",
    (
        *_identity(),
        *_setup(),
        *_asked(),
        Column("background_repo", TEXT, "", "repository of the background", SOLO),
        Column("background_model", TEXT, "", "model of the background", SOLO),
        Column(
            "background_hyperparameters",
            TEXT_MAP,
            "",
            "complete vector of the background; each value is JSON text",
            SOLO,
            json_values=True,
        ),
        Column("background_mode", TEXT, "", "loop or reuse", SOLO),
        Column("sharing", TEXT, "", "how foreground and background share the GPU: time_slice or mps", SOLO),
        *_grants(),
        Column("seed", INT, "", "campaign's seed", UNSET),
        Column("plan_digest", TEXT, "", "SHA-256 of the plan", UNSET),
        Column("estimated_seconds", FLOAT, "s", "expected duration, from the manifest or past runs", UNSET),
        Column("estimated_gpu_energy_j", FLOAT, "J", "expected GPU energy, from past runs", UNSET),
        Column("planned", TEXT, "", "the whole planned run as JSON text, with all that has no column"),
    ),
)

_NO_READING = ("see null_reason",)

SAMPLES = Table(
    "samples",
    "The trace: one row a tick and device. A run's rows are those of its node and boot within its window. A value"
    " stands in the row in which it was read: a GPU's energy counter about once a second, up to five times less often"
    " on boards where that costs much; the node's CPUs twice a second, its memory once. In between they are null"
    " without a reason.",
    (
        Column("t_mono_ns", INT, "ns", "when the device was read, CLOCK_MONOTONIC of the node"),
        Column("t_utc_ns", INT, "ns", "the same instant on the wall clock, since the epoch"),
        Column("node_id", TEXT, "", "node that was sampled"),
        Column("boot_id", TEXT, "", "kernel's boot id: CLOCK_MONOTONIC compares only within one"),
        Column("tick", INT, "", "number of the tick since the sampler's start"),
        Column("lateness_ns", INT, "ns", "how long after its deadline the device was read"),
        Column("missed", BOOL, "", "the tick passed without a reading; the row says so"),
        Column("source", TEXT, "", "powercap, perf, nvml or node (the machine's own state)"),
        Column("device", TEXT, "", "package-0, dram-0, ... or the GPU's UUID"),
        Column("scope", TEXT, "", "what the reading covers: cpu_package, dram, gpu, psys, core, uncore, node"),
        Column("energy_j", FLOAT, "J", "unwrapped energy since the sampler's start", _NO_READING),
        Column("counter_units", INT, "counter units", "raw value of the hardware counter", _NO_READING),
        Column("power_w", FLOAT, "W", "power, of the kind that power_kind says", _NO_READING),
        Column(
            "power_kind",
            TEXT,
            "",
            "instant, average (one-second mean of NVML), or interval (advance of the counter since the last reading)",
            _NO_READING,
        ),
        Column("temp_c", FLOAT, "deg C", "GPU temperature", _NO_READING),
        Column("memory_temp_c", FLOAT, "deg C", "temperature of the GPU's memory; only imported traces", _NO_READING),
        Column(
            "util_percent",
            FLOAT,
            "%",
            "GPU: share of time with a kernel running; node: share of its CPUs' time since the value before",
            _NO_READING,
        ),
        Column("memory_util_percent", FLOAT, "%", "share of time with memory traffic", _NO_READING),
        Column("memory_mib", FLOAT, "MiB", "used memory of the GPU, or of the node's RAM", _NO_READING),
        Column("clock_mhz", FLOAT, "MHz", "SM clock", _NO_READING),
        Column("throttle_reasons", INT, "bit mask", "NVML's clock event reasons", _NO_READING),
        Column(
            "null_reason", TEXT, "", "why something of this row is null: one reason, or field=reason pairs joined by ;"
        ),
    ),
)

PROCESSES = Table(
    "processes",
    "Who was on which GPU, and when: the campaign's own trainers and strangers. One row an uninterrupted presence.",
    (
        Column("node_id", TEXT, "", "node of the GPU"),
        Column("boot_id", TEXT, "", "kernel's boot id: the times compare only within one"),
        Column("gpu_uuid", TEXT, "", "the GPU"),
        Column("pid", INT, "", "process id as NVML shows it"),
        Column(
            "pid_namespace",
            INT,
            "",
            "inode of its PID namespace, the outermost below the node's; null when it could not be read",
        ),
        Column("cgroup", TEXT, "", "names of the keepers' cgroups that hold it, joined by /; null where none does"),
        Column("command", TEXT, "", "command line; empty when it could not be read"),
        Column("user_id", INT, "", "numeric owner; null when it could not be read"),
        Column("memory_mib", FLOAT, "MiB", "largest GPU memory seen; null when the driver does not tell"),
        Column("first_seen_ns", INT, "ns", "first sighting, CLOCK_MONOTONIC of the node"),
        Column("last_seen_ns", INT, "ns", "last sighting, CLOCK_MONOTONIC of the node"),
        Column("run_id", TEXT, "", "run during which it was seen; null when between runs"),
        Column("attempt", INT, "", "attempt of that run"),
        Column("own", BOOL, "", "it belonged to that attempt; false: a stranger"),
        Column("extra", TEXT_MAP, "", "fields that have no column; each value is JSON text", json_values=True),
    ),
)

NODES = Table(
    "nodes",
    "The nodes that a driver of the session found, when it did: one row each time, of those left out too.",
    (
        Column("node_id", TEXT, "", "as in runs and samples"),
        Column("session_id", TEXT, "", "the session"),
        Column("measured_at", UTC, "UTC", "when it was asked, by the driver's clock"),
        Column("host", TEXT, "", "host name"),
        Column("address", TEXT, "", "address by which the cluster knows it"),
        Column("driver", BOOL, "", "the driver ran here"),
        Column("boot_id", TEXT, "", "kernel's boot id; null when the node did not answer", NO_ANSWER),
        Column("serves", BOOL, "", "runs could be executed here; false: left out, for one of remarks"),
        Column("clock_offset_s", FLOAT, "s", "its UTC minus the driver's", NO_ANSWER),
        Column("clock_uncertainty_s", FLOAT, "s", "the offset is true to within this, either way", NO_ANSWER),
        Column("cpus", INT, "CPUs", "offered to Ray"),
        Column("gpus", TEXTS, "", "UUID and name of each GPU"),
        Column("energy_sources", TEXTS, "", "counters that were alive"),
        Column("containment", TEXT, "", "best tier that works there", (*NO_ANSWER, "none")),
        Column("python_version", TEXT, "", "of its Ray workers", NO_ANSWER),
        Column("ray_version", TEXT, "", "of its Ray", NO_ANSWER),
        Column("profiler_version", TEXT, "", "the code as it was executed there", NO_ANSWER),
        Column("disk_free_gib", FLOAT, "GiB", "free where attempts write", NO_ANSWER),
        Column("remarks", TEXTS, "", "what was wrong with it, each with the line that mends it"),
    ),
)

EPOCHS = Table(
    "epochs",
    "Energy of each epoch: `session.epochs(run_id)`. Not stored: it is made from the trainer's events and the trace"
    " when asked for. The parts of a run lie end to end, so their energies add up to those of the run.",
    (
        Column("run_id", TEXT, "", "the run"),
        Column("attempt", INT, "", "the attempt"),
        Column(
            "part",
            TEXT,
            "",
            "setup (trainer's start to its first optimiser step), epoch, rest (after the last epoch's end). Where the"
            " trainer does not tell its first step, the first epoch holds the setup too",
        ),
        Column("epoch", INT, "", "the epoch, from 1; null in setup and rest"),
        Column("start_ns", INT, "ns", "start of the part, CLOCK_MONOTONIC of the node"),
        Column("end_ns", INT, "ns", "end of the part"),
        Column("duration_s", FLOAT, "s", "(end_ns - start_ns) / 1e9"),
        Column("gpu_energy_integral_j", FLOAT, "J", "whole GPU, trapezoid of the power trace", NO_INTEGRAL),
        Column("gpu_power_mean_w", FLOAT, "W", "that by time", NO_INTEGRAL),
        Column(
            "cpu_package_energy_j",
            FLOAT,
            "J",
            "all CPU packages of the node, counters of the trace on straight lines between their readings",
            ("no_cpu_counter_in_trace", "trace_gap", "trace_does_not_cover_window"),
        ),
        Column("samples", INT, "rows", "powers of the GPU inside of the part"),
        Column("metrics", NUMBER_MAP, "as the manifest says", "what the trainer told at the epoch's end"),
        Column("null_reasons", TEXT_MAP, "", "column that is null -> why"),
    ),
)

TABLES: tuple[Table, ...] = (RUNS, PLAN, SAMPLES, PROCESSES, NODES)


def dictionary(table: Table) -> dict[str, str]:
    """Column -> "unit; meaning", as it stands in each Parquet file."""
    return {c.name: f"{c.unit}; {c.meaning}" if c.unit else c.meaning for c in table.columns}


def _field_metadata(column: Column) -> dict[str, str]:
    return {"meaning": column.meaning, **({"unit": column.unit} if column.unit else {})}


@cache
def arrow_schema(table: Table) -> pa.Schema:
    """The Arrow schema of a table, with version and data dictionary as metadata."""
    return pa.schema(
        [pa.field(column.name, column.type, metadata=_field_metadata(column)) for column in table.columns],
        metadata={
            "profiler.table": table.name,
            "profiler.schema_version": str(SCHEMA_VERSION),
            "profiler.tool_version": __version__,
            "profiler.dictionary": json.dumps(dictionary(table), ensure_ascii=False),
        },
    )
