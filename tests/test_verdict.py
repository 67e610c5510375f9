"""Success is what all the evidence says, and each old way to a false success is a failure here."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.events import DoneEvent, TrainerEvents
from profiler.hyperparameters import HyperparameterSpec
from profiler.metrics import Outcome, collect
from profiler.reasons import REASONS, reasons_at
from profiler.verdict import (
    Finding,
    judge,
    judge_training,
    parameter_findings,
    retry_may_help,
    same_value,
    signal_name,
)
from profiler.workloads import MetricSpec, ModelSpec

FAIL = [
    "exit",
    "signal",
    "timeout",
    "oom",
    "metric_missing",
    "metric_out_of_range",
    "parameter_not_applied",
    "background_failed",
]
UNSAFE = [
    "foreign_gpu_process",
    "memory_not_idle",
    "gpu_not_used",
    "mps_not_used",
    "background_idle",
    "throttled",
    "cpu_contention",
    "sampler_gap",
    "node_rebooted",
    "suspended",
    "uncontained",
]
NOTE = ["counter_integral_gap", "too_short", "clock_stepped", "estimate_used", "no_energy_source"]


@dataclass(frozen=True)
class Ended:
    """What a keeper reports."""

    exit_code: int | None = 0
    signal: int | None = None
    why: str = "exited"
    error: str | None = None


MODEL = ModelSpec(
    repo="r",
    name="m",
    folder=Path("/nowhere"),
    hyperparameters={
        "epochs": HyperparameterSpec(name="epochs", type="int", default=2),
        "learning_rate": HyperparameterSpec(name="learning_rate", type="float", default=0.1),
        "size": HyperparameterSpec(name="size", type="str", default="full"),
        "nesterov": HyperparameterSpec(name="nesterov", type="bool", default=False),
        "batch_size": HyperparameterSpec(name="batch_size", type="int"),
    },
    metrics={
        "acc": MetricSpec(name="acc", direction="maximize", minimum=0, maximum=1),
        "loss": MetricSpec(name="loss", direction="minimize", minimum=0),
    },
    primary_metric="acc",
)
ASKED = {"epochs": 2, "learning_rate": 0.1 + 0.2, "size": "full", "nesterov": False, "batch_size": None}
USED = {"epochs": 2, "learning_rate": 0.1 + 0.2, "size": "full", "nesterov": False, "batch_size": 60000}


def trained(used: Mapping[str, Any] | None = None, epochs: int = 2, **metrics: float) -> TrainerEvents:
    return TrainerEvents(effective=used or USED, done=DoneEvent(metrics or {"acc": 0.9, "loss": 0.2}, epochs, 1))


def findings(events: TrainerEvents, ended: Ended | None = None, model: ModelSpec = MODEL, **more: Any) -> list[Finding]:
    outcome = collect(model, ASKED, events, Path("/nonexistent.log"))
    return judge_training(ended or Ended(), outcome, events, ASKED, model, **more)


def names(found: list[Finding]) -> list[str]:
    return [finding.reason for finding in found]


def test_every_reason_of_the_contract_has_its_level() -> None:
    levels = {name: reason.level for name, reason in REASONS.items()}
    assert {name: levels[name] for name in FAIL} == dict.fromkeys(FAIL, "fail")
    assert {name: levels[name] for name in UNSAFE} == dict.fromkeys(UNSAFE, "unsafe")
    assert {name: levels[name] for name in NOTE} == dict.fromkeys(NOTE, "note")
    for reason in REASONS.values():
        assert reason.meaning
        assert bool(reason.retry_because) == (reason.level == "fail"), reason.name
    assert [reason.name for reason in reasons_at("unsafe")] == [*UNSAFE, "conditions_unknown"]


def test_a_good_training_has_no_finding() -> None:
    assert findings(trained()) == []


@pytest.mark.parametrize(
    ("ended", "reason", "retry"),
    [
        (Ended(exit_code=1), "exit", True),
        (Ended(exit_code=2), "exit", False),
        (Ended(exit_code=127), "exit", False),
        (Ended(None, signal.SIGSEGV), "signal", True),
        (Ended(None, signal.SIGKILL), "signal", True),
        (Ended(None, signal.SIGILL), "signal", False),
        (Ended(None, signal.SIGTERM, "timeout"), "timeout", False),
        (Ended(0, None, "timeout"), "timeout", False),
        (Ended(None, None, "start_failed", "No such file"), "start_failed", False),
        (Ended(None, signal.SIGTERM, "stopped"), "interrupted", True),
        (Ended(None, signal.SIGKILL, "owner_gone"), "interrupted", True),
        (Ended(None, None, "keeper_killed"), "interrupted", True),
    ],
)
def test_how_it_ended_outweighs_everything_it_said(ended: Ended, reason: str, retry: bool) -> None:
    found = findings(trained(), ended)
    assert names(found) == [reason]
    assert retry_may_help(found) is retry
    assert judge(found).verdict == "failed"


def test_the_evidence_names_code_and_signal() -> None:
    assert findings(trained(), Ended(exit_code=3))[0].evidence == "exit code 3"
    assert findings(trained(), Ended(None, 11))[0].evidence == "signal 11 (SIGSEGV)"
    assert findings(trained(), Ended(None, 15, "timeout"))[0].evidence == "ended by the time-out; signal 15 (SIGTERM)"
    assert findings(trained(), Ended(None, None, "start_failed", "no such file"))[0].evidence == "no such file"
    assert signal_name(77) == "77"


def test_out_of_memory_is_named_and_not_tried_again() -> None:
    events = TrainerEvents(effective=USED, error_kind="oom", error_text="CUDA out of memory")
    for ended in (Ended(exit_code=1), Ended(None, signal.SIGABRT), Ended(exit_code=0)):
        found = findings(events, ended)
        assert names(found) == ["oom"]
        assert "CUDA out of memory" in found[0].evidence
        assert not retry_may_help(found)
    killed = findings(TrainerEvents(effective=USED), Ended(None, 9), host_oom="oom_kill 1 in the run's cgroup")
    assert names(killed) == ["oom"]
    assert "oom_kill 1" in killed[0].evidence


def test_an_exception_in_the_log_ends_only_what_exits_with_1(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("torch.OutOfMemoryError: CUDA out of memory.\ncaught; batch halved\nEpoch 4\n")
    silent = TrainerEvents(effective=USED)

    def found(ended: Ended) -> list[str]:
        outcome = collect(MODEL, ASKED, silent, log)
        return names(judge_training(ended, outcome, silent, ASKED, MODEL))

    assert found(Ended(exit_code=1)) == ["oom"]
    assert found(Ended(exit_code=3)) == ["exit"]
    assert found(Ended(None, signal.SIGSEGV)) == ["signal"]
    assert found(Ended(None, signal.SIGTERM, "timeout")) == ["timeout"]


def test_whom_the_kernel_ended_elsewhere_is_not_this_run() -> None:
    elsewhere = "the kernel's out-of-memory killer ended 1 process(es) of this node during the run"
    log_only = TrainerEvents(effective=USED)  # as from a user's own checkout: no event tells its end
    assert "oom" not in names(findings(log_only, Ended(exit_code=0), host_oom=elsewhere))
    assert names(findings(trained(), Ended(exit_code=0), host_oom=elsewhere)) == []
    assert names(findings(log_only, Ended(None, signal.SIGSEGV), host_oom=elsewhere)) == ["signal"]
    for ended in (Ended(exit_code=1), Ended(None, signal.SIGABRT)):  # a worker of it may be gone
        assert names(findings(log_only, ended, host_oom=elsewhere)) == ["oom"]


def test_a_trainer_that_got_over_its_memory_trouble_succeeds() -> None:
    events = TrainerEvents(effective=USED, error_kind="oom", done=trained().done)
    assert findings(events) == []


def test_missing_data_is_not_tried_again() -> None:
    events = TrainerEvents(effective=USED, error_kind="data_missing", error_text="no idx files")
    found = findings(events, Ended(exit_code=1))
    assert names(found) == ["data_missing"]
    assert not retry_may_help(found)


def test_exit_code_0_alone_is_no_success() -> None:
    assert names(findings(TrainerEvents(effective=USED))) == ["not_finished", "metric_missing"]


def test_a_metric_without_an_end_is_no_success() -> None:
    assert names(findings(trained(epochs=1))) == ["not_finished"]


def test_an_end_without_the_primary_metric_is_no_success() -> None:
    found = findings(trained(loss=0.2))
    assert names(found) == ["metric_missing"]
    assert not retry_may_help(found)


@pytest.mark.parametrize("value", [4692.0, -0.1, 1.0000000000000002, float("nan"), float("inf")])
def test_a_primary_metric_out_of_range_is_no_success(value: float) -> None:
    assert names(findings(trained(acc=value, loss=0.1))) == ["metric_out_of_range"]


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_the_ends_of_the_range_belong_to_it(value: float) -> None:
    assert findings(trained(acc=value)) == []


def test_another_metric_out_of_range_counts_too_but_a_diverged_loss_does_not() -> None:
    (found,) = findings(trained(acc=0.1, loss=-3.0))
    assert (found.reason, found.evidence) == ("metric_out_of_range", "loss = -3.0, allowed 0 to any")
    assert findings(trained(acc=0.1, loss=float("nan"))) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.3),
        ("learning_rate", 0.30000000000000004 + 5.6e-17),
        ("learning_rate", "0.30000000000000004"),
        ("epochs", 2.0),
        ("epochs", True),
        ("size", "reduced"),
        ("nesterov", 0),
        ("nesterov", None),
    ],
)
def test_another_value_than_the_one_asked_for_is_no_success(name: str, value: Any) -> None:
    found = findings(trained(USED | {name: value}))
    assert "parameter_not_applied" in names(found)
    evidence = next(f.evidence for f in found if f.reason == "parameter_not_applied")
    assert evidence == f"{name}: asked {ASKED[name]!r}, used {value!r}"
    assert not retry_may_help(found)


def test_a_value_that_the_trainer_does_not_know_is_no_success() -> None:
    used = {name: value for name, value in USED.items() if name != "size"}
    (found,) = findings(trained(used))
    assert found.evidence == "size: asked 'full', the trainer does not report it"


def test_a_wrong_value_makes_a_crash_hopeless() -> None:
    found = findings(trained(USED | {"learning_rate": 0.02}), Ended(exit_code=1))
    assert names(found) == ["exit", "parameter_not_applied"]
    assert not retry_may_help(found)


def test_a_value_left_to_the_trainer_may_be_anything() -> None:
    assert findings(trained(USED | {"batch_size": 7})) == []


def test_unknown_effective_values_are_noted() -> None:
    events = TrainerEvents(done=trained().done)
    found = findings(events)
    assert names(found) == ["effective_unknown"]
    assert judge(found).safe


def from_log(used: Mapping[str, Any]) -> Outcome:
    return Outcome(used, "log", {"acc": 0.5}, "acc", 0.5, True)


def test_only_a_pattern_can_contradict_where_values_come_from_a_log() -> None:
    model = MODEL.model_copy(update={"effective_patterns": {"learning_rate": r"lr=(\S+)", "epochs": r"e=(\d+)"}})
    found = parameter_findings(from_log({"learning_rate": 0.1 + 0.2}), ASKED, model)
    assert [(f.reason, f.evidence) for f in found] == [
        ("parameter_not_applied", "epochs: asked 2, the trainer does not report it"),
        ("effective_unknown", "no pattern shows size, nesterov"),
    ]


def test_the_verdict_follows_from_the_levels() -> None:
    assert judge([]).verdict == "valid"
    note = judge([Finding("too_short", "0.2 s")])
    assert (note.verdict, note.valid, note.safe) == ("valid", True, True)
    unsafe = judge([Finding("too_short", "0.2 s"), Finding("throttled", "heat from 3 s to 5 s")])
    assert (unsafe.verdict, unsafe.valid, unsafe.safe) == ("contaminated", True, False)
    assert unsafe.reasons == ("throttled", "too_short")
    fail = judge([Finding("throttled", "heat"), Finding("exit", "exit code 1"), Finding("exit", "exit code 1")])
    assert (fail.verdict, fail.valid, fail.safe) == ("failed", False, False)
    assert fail.reasons == ("exit", "throttled")
    assert fail.evidence == {"exit": "exit code 1", "throttled": "heat"}


def test_an_unknown_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="no reason 'exploded'"):
        Finding("exploded", "")


@given(st.lists(st.sampled_from(list(REASONS)), max_size=6))
def test_verdict_valid_and_safe_always_agree(reasons: list[str]) -> None:
    verdict = judge([Finding(name, name) for name in reasons])
    assert verdict.safe == (verdict.verdict == "valid")
    assert verdict.valid == (verdict.verdict != "failed")
    assert set(verdict.reasons) == set(reasons) == set(verdict.evidence)
    assert list(verdict.reasons) == [name for name in REASONS if name in reasons]


def test_a_retry_needs_a_failure_and_only_hopeful_ones() -> None:
    assert not retry_may_help([])
    assert not retry_may_help([Finding("throttled", "")])
    assert retry_may_help([Finding("exit", ""), Finding("throttled", "")])
    assert not retry_may_help([Finding("exit", ""), Finding("metric_missing", "")])
    assert retry_may_help([Finding("background_failed", "")])
    assert not retry_may_help([Finding("background_failed", "exit code 2", retry=False)])


@pytest.mark.parametrize(
    ("asked", "used", "kind", "expected"),
    [
        (1, 1.0, "float", True),
        (1.0, 1, "float", True),
        (1, 1.0, "int", False),
        (1, True, "int", False),
        (1.0, True, "float", False),
        (True, True, "bool", True),
        (True, 1, "bool", False),
        (0.0, -0.0, "float", False),
        (2**53 + 1, float(2**53), "float", False),
        ("a", "a", "str", True),
        ("1", 1, "str", False),
        (1, 1, None, True),
        (1, 1.0, None, False),
        (0.1, None, "float", False),
        (float("nan"), float("nan"), "float", False),
    ],
)
def test_same_value(asked: Any, used: Any, kind: str | None, expected: bool) -> None:
    assert same_value(asked, used, kind) is expected


@given(st.floats(allow_nan=False))
def test_a_float_is_itself_and_not_its_neighbour(value: float) -> None:
    import math

    assert same_value(value, value, "float")
    assert same_value(value, float(repr(value)), "float")
    assert not same_value(value, math.nextafter(value, math.inf), "float") or math.isinf(value)
