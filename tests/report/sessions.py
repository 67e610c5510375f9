"""Sessions of known content for the report's tests and benchmark, written with the store's own writers.

Power is constant but for a ripple of whole periods, so energy is power times duration exactly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from profiler.reasons import REASONS
from profiler.store import write
from profiler.store.layout import SessionFolder, create_session

STARTED = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
MONO_NS = 5_000_000_000_000
BOOT = "5f0c0b5e-0000-4000-8000-000000000001"
GPU = "GPU-11111111-2222-3333-4444-555555555555"
HZ = 10
NO_CPU = {
    "cpu_package_energy_j": "no_rapl_zones",
    "dram_energy_j": "no_dram_zone",
    "cpu_energy_total_j": "no_rapl_zones",
}
NO_GPU = dict.fromkeys(("gpu_energy_j", "gpu_energy_integral_j", "gpu_power_mean_w"), "no_gpu")


@dataclass(frozen=True)
class Run:
    """One planned run and what becomes of it. Powers in W are constant over `seconds`; None: no such sensor."""

    repo: str = "examples"
    model: str = "mnist_cnn"
    mode: str = "mutation"
    values: Mapping[str, Any] = field(default_factory=lambda: {"epochs": 2, "learning_rate": 0.01})
    background: tuple[str, str] | None = None
    seconds: float = 20.0
    gpu_w: float | None = 300.0
    cpu_w: float | None = 80.0
    dram_w: float | None = 12.0
    metric: float | None = 0.9
    findings: Mapping[str, str] = field(default_factory=dict)
    retried: bool = False
    """A failed attempt came before."""
    final: bool = True
    executed: bool = True


def make_session(
    results: Path, runs: Sequence[Run], *, traces: bool = True, started: datetime = STARTED
) -> SessionFolder:
    """A session of these runs, one after the other, 10 s apart."""
    folder = create_session(results, lambda: started)
    write.write_campaign(folder, "name: synthetic\nseed: 7\n")
    write.write_plan(
        folder, {"seed": 7, "digest": "d" * 64, "runs": [planned(n, run) for n, run in enumerate(runs, 1)]}
    )
    begun_s = 30.0
    for number, run in enumerate(runs, 1):
        if not run.executed:
            continue
        attempts = [run] if not run.retried else [FAILED_ATTEMPT, run]
        for attempt, what in enumerate(attempts, 1):
            row = run_row(folder, number, run, what, attempt, begun_s, is_final=run.final and attempt == len(attempts))
            write.write_run(folder, row)
            if traces:
                write.write_samples(folder, "node-a", trace(row, what))
                write_events(folder, row)
            begun_s += what.seconds + 10.0
    write.refresh_summaries(folder)
    return folder


FAILED_ATTEMPT = Run(seconds=4.0, metric=None, findings={"exit": "exit code 1"})


def planned(number: int, run: Run) -> dict[str, Any]:
    """As PlannedRun.to_json() gives it."""
    background = None
    if run.background:
        repo, model = run.background
        background = {"repo": repo, "model": model, "hyperparameters": {"epochs": 5}, "mode": "loop"}
    return {
        "index": number,
        "experiment_id": experiment_id(number, run),
        "repo": run.repo,
        "model": run.model,
        "mode": run.mode,
        "foreground_mode": "mutation" if run.mode == "mutation" else "default",
        "hyperparameters": dict(run.values),
        "mutated": ["learning_rate"] if run.mode == "mutation" else [],
        "background": background,
        "max_retries": 1,
        "timeout_seconds": None,
    }


def experiment_id(number: int, run: Run) -> str:
    name = f"{run.repo}_{run.model}_{number:03d}".replace("/", "-")
    return name + ("_parallel" if run.background else "")


def run_row(
    folder: SessionFolder, number: int, planned_run: Run, run: Run, attempt: int, begun_s: float, *, is_final: bool
) -> dict[str, Any]:
    """The row of one attempt that began `begun_s` seconds after the session, complete but for what the store adds."""
    start_ns = MONO_NS + round(begun_s * 1e9)
    end_ns = start_ns + round(run.seconds * 1e9)
    levels = {REASONS[name].level for name in run.findings}
    verdict = "failed" if "fail" in levels else "contaminated" if "unsafe" in levels else "valid"
    plan = planned(number, planned_run)
    same = ("index", "experiment_id", "repo", "model", "mode", "foreground_mode", "mutated", "max_retries")
    return {
        **{name: plan[name] for name in same},
        **_times(start_ns, end_ns),
        **_energies(run),
        "run_id": folder.run_id(number),
        "session_id": folder.session_id,
        "attempt": attempt,
        "is_final": is_final,
        "duration_s": run.seconds,
        "node_id": "node-a",
        "host": "lab1",
        "boot_id": BOOT,
        "gpu_uuid": GPU if run.gpu_w is not None else None,
        "gpu_name": "Virtual GPU" if run.gpu_w is not None else None,
        "requested_hyperparameters": plan["hyperparameters"],
        "hyperparameters": plan["hyperparameters"],
        "effective_source": "event",
        "exit_code": 1 if "exit" in run.findings else 0,
        "metrics": {} if run.metric is None else {"test_accuracy": run.metric},
        "primary_metric": "test_accuracy",
        "primary_metric_value": run.metric,
        "samples": round(run.seconds * HZ),
        "samples_missed": 0,
        "sampling_rate_hz": float(HZ),
        "cooling_s": 5.0,
        "cooling_idle_proven": run.gpu_w is not None,
        "containment": "pid_namespace",
        "background_repo": planned_run.background[0] if planned_run.background else None,
        "background_model": planned_run.background[1] if planned_run.background else None,
        "background_hyperparameters": {"epochs": 5} if planned_run.background else None,
        "background_mode": "loop" if planned_run.background else None,
        "background_starts": 2 if planned_run.background else None,
        "background_busy_share": 0.97 if planned_run.background else None,
        "background_started_at": _utc(start_ns - 4_000_000_000) if planned_run.background else None,
        "background_ended_at": _utc(end_ns + 1_000_000_000) if planned_run.background else None,
        "verdict": verdict,
        "valid": verdict != "failed",
        "safe": verdict == "valid",
        "reasons": [name for name in REASONS if name in run.findings],
        "evidence": dict(run.findings),
        "error_message": "; ".join(f"{name}: {text}" for name, text in run.findings.items())
        if verdict == "failed"
        else "",
    }


def _utc(t_ns: int) -> datetime:
    return STARTED + timedelta(microseconds=(t_ns - MONO_NS) // 1000)


def _times(start_ns: int, end_ns: int) -> dict[str, Any]:
    second = 1_000_000_000
    steps = {"gate": (-6, 1), "background": (-5, 5), "training": (0, (end_ns - start_ns) / 1e9), "cooling": (0, 3)}
    begins = {name: start_ns + begin * second if name != "cooling" else end_ns for name, (begin, _) in steps.items()}
    return {
        "started_at": _utc(start_ns),
        "ended_at": _utc(end_ns),
        "window_start_ns": start_ns,
        "window_end_ns": end_ns,
        "boundary_start_ns": start_ns - 3_000_000,
        "boundary_end_ns": end_ns + 3_000_000,
        "utc_anchor_ns": int(STARTED.timestamp()) * second,
        "mono_anchor_ns": MONO_NS,
        "steps": {name: float(seconds) for name, (_, seconds) in steps.items()},
        "steps_at": {name: _utc(t_ns) for name, t_ns in begins.items()},
    }


def _energies(run: Run) -> dict[str, Any]:
    columns: dict[str, Any] = {"energy_sources": {}, "energy_uncertainty_j": {}, "null_reasons": {}}
    powers = {"gpu_energy_j": run.gpu_w, "cpu_package_energy_j": run.cpu_w, "dram_energy_j": run.dram_w}
    for column, power_w in powers.items():
        columns[column] = None if power_w is None else power_w * run.seconds
        if power_w is not None:
            columns["energy_sources"][column] = f"synthetic counter, {run.seconds:.3f} s between the boundary reads"
            columns["energy_uncertainty_j"][column] = power_w * 0.1
    if run.gpu_w is None:
        columns["null_reasons"] |= NO_GPU
    else:
        columns |= {
            "gpu_energy_integral_j": run.gpu_w * run.seconds * 1.002,
            "gpu_counter_integral_gap_percent": 0.2,
            "gpu_power_mean_w": run.gpu_w,
            "gpu_power_min_w": run.gpu_w * 0.9,
            "gpu_power_max_w": run.gpu_w * 1.1,
            "gpu_temp_mean_c": 55.0,
            "gpu_temp_max_c": 61.0,
            "gpu_util_mean_percent": 88.0,
            "gpu_memory_peak_mib": 2048.0,
        }
    if run.cpu_w is None:
        columns["null_reasons"] |= NO_CPU
    else:
        columns["cpu_energy_total_j"] = (run.cpu_w + (run.dram_w or 0.0)) * run.seconds
    return columns


def trace(row: Mapping[str, Any], run: Run) -> Iterable[dict[str, Any]]:
    """10 Hz from 5 s before the window to 4 s after it: idle at a quarter of the power outside, a ripple inside."""
    start_ns, end_ns = row["window_start_ns"], row["window_end_ns"]
    first = -5 * HZ
    rows = []
    for tick in range(first, round(run.seconds * HZ) + 4 * HZ):
        t_ns = start_ns + tick * 1_000_000_000 // HZ
        inside = start_ns <= t_ns <= end_ns
        share = 1 + 0.1 * math.sin(2 * math.pi * tick / 20) if inside else 0.25
        rows += _readings(t_ns, tick, share, run)
    return rows


def _readings(t_ns: int, tick: int, share: float, run: Run) -> list[dict[str, Any]]:
    devices = []
    if run.gpu_w is not None:
        devices.append(("nvml", GPU, "gpu", run.gpu_w, "instant"))
    if run.cpu_w is not None:
        devices += [("powercap", f"package-{n}", "cpu_package", run.cpu_w / 2, "interval") for n in (0, 1)]
    if run.dram_w is not None:
        devices.append(("powercap", "dram-0", "dram", run.dram_w, "interval"))
    return [
        {
            "t_mono_ns": t_ns + offset * 1000,
            "t_utc_ns": t_ns,
            "boot_id": BOOT,
            "tick": tick,
            "lateness_ns": 1000,
            "missed": False,
            "source": source,
            "device": device,
            "scope": scope,
            "power_w": power_w * share,
            "power_kind": kind,
        }
        for offset, (source, device, scope, power_w, kind) in enumerate(devices)
    ]


def write_events(folder: SessionFolder, row: Mapping[str, Any]) -> None:
    """What the trainer said: ready after a tenth of the time, two epochs, done."""
    start_ns, span_ns = row["window_start_ns"], row["window_end_ns"] - row["window_start_ns"]
    moments = [
        ("ready", 0.1, {}),
        ("epoch", 0.5, {"epoch": 1, "metrics": {}}),
        ("epoch", 0.9, {"epoch": 2, "metrics": {}}),
    ]
    moments.append(("done", 0.95, {"epochs": 2, "metrics": {}}))
    lines = [{"event": name, "t_ns": start_ns + round(share * span_ns), **more} for name, share, more in moments]
    path = folder.events(row["experiment_id"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def solo() -> list[Run]:
    """Two models, default and mutated runs, all clean."""
    runs = [Run(mode="default"), Run(model="mnist_rnn", mode="default", gpu_w=210.0, metric=0.8)]
    for n in range(6):
        values = {"epochs": 2 + n, "learning_rate": 0.01 * (n + 1)}
        runs.append(
            Run(values=values, seconds=12.0 + 3 * n, gpu_w=280.0 + 5 * n, metric=0.85 + 0.02 * n - 0.004 * n * n)
        )
        runs.append(Run(model="mnist_rnn", values=values, seconds=25.0 - 2 * n, gpu_w=205.0, metric=0.7 + 0.01 * n))
    return runs


def pairs() -> list[Run]:
    """Each training alone and beside another; one pair has no twin alone."""
    twin = {"epochs": 3, "learning_rate": 0.02}
    beside = ("examples", "mnist_rnn")
    return [
        Run(mode="default", values=twin, seconds=20.0, gpu_w=250.0),
        Run(mode="default", values=twin, seconds=22.0, gpu_w=250.0),
        Run(mode="parallel", values=twin, background=beside, seconds=31.5, gpu_w=320.0),
        Run(mode="parallel", values=twin, background=beside, seconds=33.6, gpu_w=322.0),
        Run(mode="parallel", model="siamese", background=beside, seconds=40.0, gpu_w=310.0, metric=0.78),
    ]


def contaminated() -> list[Run]:
    """Every state there is, a retry, and machines without some sensors."""
    squatter = "process 4711 (python train.py of user 1001) held 5540 MiB from 3.2 s to 17.9 s"
    return [
        *solo()[:6],
        Run(gpu_w=420.0, seconds=30.0, findings={"foreign_gpu_process": squatter}),
        Run(
            gpu_w=410.0,
            seconds=28.0,
            findings={"foreign_gpu_process": squatter, "throttled": "thermal slowdown for 6.1 s"},
        ),
        Run(metric=None, seconds=5.0, findings={"oom": "the trainer says: CUDA out of memory; exit code 1"}),
        Run(metric=None, seconds=3.0, findings={"exit": "exit code 1"}, retried=True),
        Run(retried=True),
        Run(metric=None, seconds=6.0, findings={"interrupted": "the driver was killed"}, final=False),
        Run(executed=False),
        Run(executed=False, model="siamese"),
        Run(gpu_w=None, cpu_w=None, dram_w=None, findings={"no_energy_source": "gpu_energy_j: no_gpu"}),
    ]
