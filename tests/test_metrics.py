"""From log and events to values used, metrics, and whether the training finished."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from profiler.events import DoneEvent, EpochEvent, TrainerEvents, read_events
from profiler.hyperparameters import HyperparameterSpec
from profiler.metrics import MAX_LINE_CHARACTERS, Outcome, collect, log_lines, parse_number, scan_log
from profiler.verdict import metric_findings
from profiler.workloads import MetricSpec, ModelSpec


def model(**changes: Any) -> ModelSpec:
    fields: dict[str, Any] = {
        "repo": "r",
        "name": "m",
        "folder": Path("/nowhere"),
        "hyperparameters": {
            "epochs": HyperparameterSpec(name="epochs", type="int", default=2),
            "learning_rate": HyperparameterSpec(name="learning_rate", type="float", default=0.1),
        },
        "metrics": {"acc": MetricSpec(name="acc", direction="maximize", minimum=0, maximum=1)},
        "primary_metric": "acc",
    }
    return ModelSpec(**(fields | changes))


def metric(**changes: Any) -> dict[str, MetricSpec]:
    return {"acc": MetricSpec(**({"name": "acc", "direction": "maximize", "minimum": 0, "maximum": 1} | changes))}


def outcome(tmp_path: Path, spec: ModelSpec, events: TrainerEvents, log: str | bytes = "", **requested: Any) -> Outcome:
    path = tmp_path / "training.log"
    path.write_bytes(log if isinstance(log, bytes) else log.encode())
    return collect(spec, requested or {"epochs": 2, "learning_rate": 0.1}, events, path)


def trained(epochs: int | None = 2, **metrics: float) -> TrainerEvents:
    used = {"epochs": 2, "learning_rate": 0.1}
    return TrainerEvents(effective=used, done=DoneEvent(metrics, epochs, 9))


def test_own_trainers_speak_by_events(tmp_path: Path) -> None:
    out = outcome(tmp_path, model(), trained(acc=0.9))
    assert out.effective == {"epochs": 2, "learning_rate": 0.1}
    assert out.effective_source == "event"
    assert (out.metrics, out.primary_metric, out.primary_value) == ({"acc": 0.9}, "acc", 0.9)
    assert out.finished
    assert out.problems == ()
    assert out.null_reasons == {}


def test_epochs_count_where_done_says_nothing_of_the_metric(tmp_path: Path) -> None:
    epochs = tuple(EpochEvent(i, i, {"acc": value}) for i, value in enumerate((0.3, 0.8, 0.6), 1))
    events = TrainerEvents(epochs=epochs, done=DoneEvent({}, 2, 1))
    for select, expected in (("last", 0.6), ("max", 0.8), ("min", 0.3)):
        assert outcome(tmp_path, model(metrics=metric(select=select)), events).primary_value == expected


def test_metrics_the_manifest_does_not_know_are_kept(tmp_path: Path) -> None:
    assert outcome(tmp_path, model(), trained(acc=0.9, f1=0.5)).metrics == {"acc": 0.9, "f1": 0.5}


def test_a_killed_trainer_keeps_the_metrics_of_its_epochs_but_did_not_finish(tmp_path: Path) -> None:
    out = outcome(tmp_path, model(), TrainerEvents(epochs=(EpochEvent(1, 1, {"acc": 0.4}),)))
    assert out.metrics == {"acc": 0.4}
    assert not out.finished
    assert out.unfinished == "no done event"


@pytest.mark.parametrize(("did", "finished"), [(2, True), (1, False), (3, False), (None, False)])
def test_done_must_say_every_epoch(tmp_path: Path, did: int | None, finished: bool) -> None:
    assert outcome(tmp_path, model(), trained(did, acc=0.9)).finished is finished


def test_effective_epochs_decide_and_not_the_requested_ones(tmp_path: Path) -> None:
    events = TrainerEvents(effective={"epochs": 1}, done=DoneEvent({"acc": 0.5}, 1, 1))
    assert outcome(tmp_path, model(), events, epochs=5).finished


@pytest.mark.parametrize(("did", "finished"), [(1, True), (500, True), (501, False), (0, False), (None, False)])
def test_an_upper_limit_by_another_name_may_stop_early(tmp_path: Path, did: int | None, finished: bool) -> None:
    limit = {"max_iter": HyperparameterSpec(name="max_iter", type="int", default=500)}
    spec = model(hyperparameters=limit, hyperparameter_aliases={"epochs": "max_iter"})
    events = TrainerEvents(effective={"epochs": 500}, done=DoneEvent({"acc": 0.5}, did, 1))
    out = outcome(tmp_path, spec, events, max_iter=500)
    assert out.effective == {"max_iter": 500}
    assert out.finished is finished


def test_nan_is_no_metric(tmp_path: Path) -> None:
    spec = model(metrics=metric() | {"loss": MetricSpec(name="loss", direction="minimize")})
    out = outcome(tmp_path, spec, trained(acc=math.nan, loss=math.inf))
    assert out.metrics == {}
    assert out.primary_value is None
    assert out.not_finite == ("acc", "loss")
    assert out.null_reasons == {
        "metrics.acc": "not_finite",
        "metrics.loss": "not_finite",
        "primary_metric_value": "not_finite",
    }


def test_a_last_nan_does_not_fall_back_to_an_earlier_number(tmp_path: Path) -> None:
    spec = model(metrics=metric(pattern=r"acc (\S+)"))
    assert outcome(tmp_path, spec, TrainerEvents(), "acc 0.5\nacc nan\n").not_finite == ("acc",)


@pytest.mark.parametrize(("select", "log"), [("last", "acc 0.5\nacc 0,7\n"), ("first", "acc 0,7\nacc 0.5\n")])
def test_no_other_number_stands_in_for_a_text(tmp_path: Path, select: str, log: str) -> None:
    spec = model(metrics=metric(pattern=r"acc (\S+)", select=select))
    out = outcome(tmp_path, spec, TrainerEvents(), log)
    assert (out.primary_value, out.not_numbers) == (None, {"acc": "'0,7'"})
    (finding,) = metric_findings(out, spec)
    assert (finding.reason, finding.evidence) == ("metric_missing", "acc is '0,7', not a number")


def test_a_part_that_is_no_number_has_no_quotient(tmp_path: Path) -> None:
    spec = model(metrics=metric(pattern=r"acc (?P<part>\S+)/(?P<whole>\S+)"))
    out = outcome(tmp_path, spec, TrainerEvents(), "acc 1/2\nacc nothing/2\n")
    assert (out.primary_value, out.not_numbers) == (None, {"acc": "'nothing/2'"})


def test_a_text_is_no_candidate_for_the_best_of_some_numbers(tmp_path: Path) -> None:
    spec = model(metrics=metric(pattern=r"acc (\S+)", select="max"))
    assert outcome(tmp_path, spec, TrainerEvents(), "acc 0.5\nacc 0.4\nacc good\n").primary_value == 0.5
    assert outcome(tmp_path, spec, TrainerEvents(), "acc bad\nacc good\n").not_numbers == {"acc": "'good'"}


def told(tmp_path: Path, *events: dict[str, Any]) -> Outcome:
    """What a trainer that wrote these events came to; `epochs` is 2."""
    lines = [json.dumps({"t_ns": number, **event}) for number, event in enumerate(events)]
    (tmp_path / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return outcome(tmp_path, model(), read_events(tmp_path / "events.jsonl"))


CONFIG: dict[str, Any] = {"event": "config", "hyperparameters": {"epochs": 2, "learning_rate": 0.1}}
READY: dict[str, Any] = {"event": "ready"}
DONE: dict[str, Any] = {"event": "done", "epochs": 2, "metrics": {"acc": 0.9}}
OUT_OF_MEMORY: dict[str, Any] = {"event": "oom", "message": "out of memory"}


def epoch(number: int, accuracy: Any = 0.5) -> dict[str, Any]:
    return {"event": "epoch", "epoch": number, "metrics": {"acc": accuracy}}


@pytest.mark.parametrize(
    "events",
    [
        [CONFIG, READY, epoch(1), epoch(2), DONE],
        [CONFIG, READY, OUT_OF_MEMORY, epoch(1), DONE],
        [CONFIG, epoch(0), READY, epoch(1), epoch(2), DONE],
        [CONFIG, READY, DONE, {"event": "something else"}],
    ],
)
def test_one_training_is_finished(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    assert told(tmp_path, *events).finished


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([DONE, CONFIG, READY, epoch(1), DONE], "config, ready, epoch, done came after it"),
        ([DONE, CONFIG], "config came after it"),
        ([DONE, READY], "ready came after it"),
        ([DONE, epoch(2)], "epoch came after it"),
        ([epoch(2), DONE, OUT_OF_MEMORY], "oom came after it"),
        ([DONE, {"event": "error", "kind": "data_missing"}], "error came after it"),
        ([epoch(1), epoch(2), epoch(1), epoch(2), DONE], "4 epoch events, the done event says 2"),
    ],
)
def test_two_trainings_behind_one_done_are_not_finished(tmp_path: Path, events: list[dict[str, Any]], why: str) -> None:
    out = told(tmp_path, CONFIG, *events)
    assert not out.finished and why in out.unfinished


@pytest.mark.parametrize("last", [None, "0,9", True])
def test_no_earlier_epoch_stands_in_where_the_last_one_gives_no_number(tmp_path: Path, last: Any) -> None:
    out = told(tmp_path, CONFIG, epoch(1), epoch(2, last), {**DONE, "metrics": {}})
    assert (out.primary_value, out.not_numbers) == (None, {"acc": repr(last)})
    assert told(tmp_path, CONFIG, epoch(1, last), epoch(2), {**DONE, "metrics": {}}).primary_value == 0.5


def test_best_of_some_numbers_ignores_a_nan(tmp_path: Path) -> None:
    spec = model(metrics=metric(pattern=r"acc (\S+)", select="max"))
    assert outcome(tmp_path, spec, TrainerEvents(), "acc 0.5\nacc nan\nacc 0.4").primary_value == 0.5
    assert outcome(tmp_path, spec, TrainerEvents(), "acc nan\nacc inf").not_finite == ("acc",)


def test_nothing_at_all(tmp_path: Path) -> None:
    out = collect(model(), {"epochs": 1}, TrainerEvents(), tmp_path / "none.log")
    assert (out.effective, out.effective_source, out.metrics, out.primary_value) == (None, "none", {}, None)
    assert out.null_reasons == {"hyperparameters": "not_reported_by_trainer", "primary_metric_value": "missing"}


def foreign(**changes: Any) -> ModelSpec:
    fields: dict[str, Any] = {
        "metrics": metric(pattern=r"^Test set: .*Accuracy: [0-9]+/[0-9]+ = ([0-9.]+)"),
        "effective_patterns": {"learning_rate": r"lr=(\S+)", "epochs": r"epochs: (\d+)"},
        "completion_pattern": r"^Training complete",
    }
    return model(**(fields | changes))


LOG = """config: lr=0.1 epochs: 2
Train [1/2] loss 0.7\rTrain [2/2] loss 0.5\rTest set: loss 0.6, Accuracy: 40/100 = 0.4000.
\x1b[1A\x1b[2KTrain [2/2] loss 0.2\r\x1b[KTest set: loss 0.3, Accuracy: 91/100 = 0.9100.
Training complete in 3 s
"""


def test_foreign_code_speaks_by_its_log(tmp_path: Path) -> None:
    out = outcome(tmp_path, foreign(), TrainerEvents(), LOG)
    assert out.primary_value == 0.91
    assert out.effective == {"learning_rate": 0.1, "epochs": 2}
    assert type(out.effective["epochs"]) is int
    assert out.effective_source == "log"
    assert out.finished
    assert out.problems == ()


def test_crlf_logs_read_the_same(tmp_path: Path) -> None:
    assert outcome(tmp_path, foreign(), TrainerEvents(), LOG.replace("\n", "\r\n")).primary_value == 0.91


def test_a_number_behind_a_glued_progress_line(tmp_path: Path) -> None:
    spec = model(metrics=metric(pattern=r"\{1: ([\d.]+),", select="max"))
    log = "Fold: 1 / 10\rFold: 2 / 10\rFold: 10 / 10{1: 0.269, 2: 0.337}\n{1: 0.286, 2: 0.339}\n"
    assert outcome(tmp_path, spec, TrainerEvents(), log).primary_value == 0.286


@pytest.mark.parametrize(("select", "value"), [("first", 0.269), ("last", 0.286)])
def test_two_lines_of_one_shape_are_told_apart_by_their_order(tmp_path: Path, select: str, value: float) -> None:
    spec = model(metrics=metric(pattern=r"\{1: ([\d.]+),", select=select))
    log = "Fold: 1 / 10\rFold: 10 / 10\r{1: 0.269, 2: 0.337}\n{1: 0.286, 2: 0.339}\n"
    assert outcome(tmp_path, spec, TrainerEvents(), log).primary_value == value


def test_several_numbers_in_one_line(tmp_path: Path) -> None:
    spec = model(metrics=metric(pattern=r"acc=([\d.]+)", select="min"))
    assert outcome(tmp_path, spec, TrainerEvents(), "acc=0.3 acc=0.1 acc=0.2").primary_value == 0.1


def test_without_completion_line_it_did_not_finish(tmp_path: Path) -> None:
    out = outcome(tmp_path, foreign(), TrainerEvents(), LOG.replace("Training complete", "Training aborted"))
    assert not out.finished
    assert out.unfinished == "no done event and no completion line in the log"


def test_a_done_event_with_too_few_epochs_beats_the_completion_line(tmp_path: Path) -> None:
    assert not outcome(tmp_path, foreign(), TrainerEvents(done=DoneEvent({}, 1, 1)), LOG).finished


def test_events_beat_the_log_for_effective_values(tmp_path: Path) -> None:
    out = outcome(tmp_path, foreign(), trained(acc=0.1), LOG.replace("lr=0.1", "lr=0.7"))
    assert out.effective_source == "event"
    assert out.effective == {"epochs": 2, "learning_rate": 0.1}
    assert out.primary_value == 0.91


def test_the_last_printed_effective_value_counts(tmp_path: Path) -> None:
    out = outcome(tmp_path, foreign(), TrainerEvents(), "lr=0.1\npreset: lr=0.02\n")
    assert out.effective == {"learning_rate": 0.02}


def test_a_value_that_does_not_parse_stays_text(tmp_path: Path) -> None:
    out = outcome(tmp_path, foreign(), TrainerEvents(), "lr=auto\n")
    assert out.effective == {"learning_rate": "auto"}
    assert out.problems == ("log: learning_rate: 'auto' is no float",)


def test_trusted_arguments_fill_what_the_log_does_not_show(tmp_path: Path) -> None:
    asked = {"epochs": 2, "learning_rate": 0.3}
    spec = model(trust_argv=True)
    assert outcome(tmp_path, spec, TrainerEvents(), "", **asked).effective_source == "argv"
    assert outcome(tmp_path, spec, TrainerEvents(), "", **asked).effective == asked
    partly = model(trust_argv=True, effective_patterns={"learning_rate": r"lr=(\S+)"})
    out = outcome(tmp_path, partly, TrainerEvents(), "lr=0.1", **asked)
    assert (out.effective, out.effective_source) == ({"epochs": 2, "learning_rate": 0.1}, "log")


def test_text_where_a_number_should_be_is_told_once(tmp_path: Path) -> None:
    spec = model(metrics=metric(pattern=r"acc (\S+)"))
    out = outcome(tmp_path, spec, TrainerEvents(), "acc good\n" * 50 + "acc 0.5\n")
    assert out.problems == ("log: acc: 'good' is not a number",)
    assert out.primary_value == 0.5


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.91.", 0.91),
        (" 1e-3 ", 1e-3),
        ("-2", -2.0),
        ("", None),
        (None, None),
        ("1/2", None),
        ("...", None),
        ("1_0", None),
    ],
)
def test_numbers_in_text(text: str | None, number: float | None) -> None:
    assert parse_number(text) == number


def test_endless_lines_and_bad_bytes_are_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "log"
    words = b"word " * MAX_LINE_CHARACTERS
    path.write_bytes(words + b"\n\xff\xfe acc 0.5\r\n\r\nlast")
    lines = list(log_lines(path))
    assert "".join(lines[:-2]) == words.decode()
    assert max(map(len, lines)) <= MAX_LINE_CHARACTERS
    assert lines[-2:] == ["\ufffd\ufffd acc 0.5", "last"]


@pytest.mark.parametrize("before", [MAX_LINE_CHARACTERS - n for n in (11, 9, 7, 5, 3, 1, 0, -1)])
@pytest.mark.parametrize("after", ["\n", " and more" * 40_000 + "\n", ""])
def test_a_long_line_is_never_cut_within_a_number(before: int, after: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    spec = model(metrics=metric(pattern=r"acc=(\S+)"))
    path.write_text("x " * (before // 2) + "x" * (before % 2) + "acc=0.9173" + after)
    assert collect(spec, {}, TrainerEvents(), path).primary_value == 0.9173
    path.write_text("." * before + "acc=0.9173" + after)  # one word: passed over where it is too long to search
    assert collect(spec, {}, TrainerEvents(), path).primary_value in (0.9173, None)


def test_the_middle_of_a_long_line_is_no_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("epoch " * 50_000 + "\n" + "acc 0.5\n")
    said = {"metrics": metric(pattern=r"^acc (\S+)"), "epoch_pattern": "^epoch"}
    assert scan_log(model(**said), path).epochs == 1


def test_a_big_log_is_never_held_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(("#" * 300 + "\r") * 30_000 + "acc 0.75\n")
    tracemalloc.start()
    out = collect(model(metrics=metric(pattern=r"^acc (\S+)")), {}, TrainerEvents(), path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert out.primary_value == 0.75
    assert peak < path.stat().st_size / 3


def test_a_text_in_the_last_word_is_no_metric_and_nothing_stands_in_for_it(tmp_path: Path) -> None:
    lines = (
        {"event": "epoch", "epoch": 1, "metrics": {"acc": 0.5}, "t_ns": 1},
        {"event": "done", "epochs": 1, "metrics": {"acc": "high"}, "t_ns": 2},
    )
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = outcome(tmp_path, model(), read_events(tmp_path / "events.jsonl"))
    assert (found.primary_value, found.not_numbers) == (None, {"acc": "'high'"})
    (finding,) = metric_findings(found, model())
    assert (finding.reason, finding.evidence) == ("metric_missing", "acc is 'high', not a number")
