"""The trainer of MRT-OAST: size of the network, schedule, the event contract, repeatability, what each option does."""

import math
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.repos.test_mrt_oast_data import write_ojclone
from tests.repos.trainings import REPOS, Training, check_effective, collect, start, train_many, undeclared_metrics

torch = pytest.importorskip("torch")
sys.path.append(str(REPOS / "MRT-OAST"))

RATE = 0.00011234567891234567
BASE = ("--size", "reduced", "--epochs", "1", "--learning-rate", repr(RATE), "--batch-size", "8", "--seed", "5")
REQUESTED = {
    "epochs": 1,
    "learning_rate": RATE,
    "dropout": 0.2,
    "weight_decay": 0.0,
    "batch_size": 8,
    "seed": 5,
    "size": "reduced",
}
CHANGES: dict[str, tuple[str, object]] = {
    "epochs": ("--epochs", 2),
    "learning_rate": ("--learning-rate", 0.0004),
    "dropout": ("--dropout", 0.12345678912345678),
    "weight_decay": ("--weight-decay", 0.00098765432109876543),
    "batch_size": ("--batch-size", 12),
    "seed": ("--seed", 6),
}
REFUSALS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "dropout above 1": (("--dropout", "1.5"), 2, "--dropout"),
    "no such set": (("--dataset", "BCB"), 3, "BCB not found"),
    "no generator": (("--data-source", "generated"), 2, "invalid choice"),
}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_ojclone(root)
    return root


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Mapping[str, Training]:
    """Every training that needs no process of its own: base, changed, learning and refused ones."""
    cases: dict[str, tuple[str, ...]] = {"base": BASE, "again": BASE}
    cases |= {name: (*BASE, flag, repr(value)) for name, (flag, value) in CHANGES.items()}
    cases["no dropout"] = (*BASE, "--dropout", "0")
    cases["thresholds"] = (*BASE, "--threshold", "0", "--valid-threshold", "0.99")
    cases["diverges"] = (*BASE, "--epochs", "2", "--learning-rate", "1e20")
    given = ("--size", "reduced", "--data-source", "packaged", "--learning-rate", "3e-4", "--dropout", "0")
    cases["learns"] = (*given, "--epochs", "2")
    cases |= {name: ("--size", "reduced", *arguments) for name, (arguments, _, _) in REFUSALS.items()}
    return train_many("MRT-OAST", tmp_path_factory.mktemp("trainings"), cases, PROFILER_DATA=str(data_root))


@pytest.mark.parametrize(("labels", "count"), [(112, 1_220_359), (414, 1_297_671), (4397, 2_317_319)])
def test_the_network_has_the_originals_size(labels: int, count: int) -> None:
    from _kit.effective import parameter_count
    from clone_net import SiameseNet
    from clone_training import SHAPES

    with torch.device("meta"):
        model = SiameseNet(labels + 1, SHAPES["full"], dropout=0.2)
    assert parameter_count(model) == parameter_count(model, trainable=True) == count


def test_similarities_are_symmetric_and_highest_for_equal_programs() -> None:
    from clone_net import SiameseNet
    from clone_training import SHAPES

    torch.manual_seed(1)
    shape = SHAPES["reduced"]
    model = SiameseNet(20, shape, dropout=0.2).eval()
    ids = torch.randint(1, 20, (3, shape.length), dtype=torch.int32)
    ids[0, 9:] = 0
    pairs = ids[[0, 1, 1, 0, 2, 2]].unflatten(0, (3, 2))
    with torch.inference_mode():
        first, turned, equal = model(pairs, pairs.flip(2) * (pairs > 0)).tolist()
    assert first == pytest.approx(turned, abs=1e-6) and 0 <= first < equal <= 1


def test_the_rate_rises_over_a_fifth_of_the_epochs_and_falls_to_a_tenth() -> None:
    from clone_training import rate_share

    shares = [rate_share(step, steps=100, epochs=10) for step in range(101)]
    assert shares[0] == 1 / 20 and shares[19] == shares[20] == 1
    assert shares[60] == pytest.approx(0.55) and shares[100] == pytest.approx(0.1)
    assert shares[20:] == sorted(shares[20:], reverse=True)
    assert [rate_share(step, steps=4, epochs=1) for step in range(3)] == [1, 1, pytest.approx(0.7)]


@pytest.mark.train
def test_the_event_contract(trainings: Mapping[str, Training]) -> None:
    training = trainings["epochs"]
    assert training.exit_code == 0, training.log
    assert not undeclared_metrics("MRT-OAST", "default", training)
    assert [event["event"] for event in training.events] == ["config", "ready", "epoch", "epoch", "done"]
    config = training.event("config")
    assert config["data_source"] == "OJClone OAST train=48 valid=24 test=24"
    assert config["data_hash"].startswith("sha256:")
    assert config["facts"]["vocabulary"] == 8 and config["facts"]["device"] == "cpu"
    assert training.event("done")["epochs"] == 2
    assert {"accuracy", "precision", "recall", "f1"} <= set(training.metrics)
    assert all(0 <= training.metrics[name] <= 1 for name in ("accuracy", "precision", "recall", "f1", "auc"))


@pytest.mark.train
@pytest.mark.parametrize("change", ["base", *CHANGES])
def test_effective_values_are_the_requested_ones_bit_for_bit(change: str, trainings: Mapping[str, Training]) -> None:
    wanted = REQUESTED | ({change: CHANGES[change][1]} if change in CHANGES else {})
    check_effective(trainings[change], wanted)


@pytest.mark.train
def test_every_hyperparameter_changes_the_training(trainings: Mapping[str, Training]) -> None:
    base = trainings["base"].curve("train_loss")
    for name in ("learning_rate", "dropout", "no dropout", "weight_decay", "batch_size", "seed"):
        assert trainings[name].curve("train_loss") != base, name
    assert len(trainings["epochs"].curve("train_loss")) == 2


@pytest.mark.train
def test_thresholds_change_the_decisions_and_not_the_training(trainings: Mapping[str, Training]) -> None:
    base, other = trainings["base"], trainings["thresholds"]
    assert other.curve("train_loss") == base.curve("train_loss")
    assert other.metrics["auc"] == base.metrics["auc"]
    assert other.curve("recall")[0] <= base.curve("recall")[0]
    assert "Threshold: 0.50" in base.log and "Threshold: 0." in other.log


@pytest.mark.train
def test_the_same_seed_gives_the_same_figures_to_the_bit(trainings: Mapping[str, Training]) -> None:
    first, again = trainings["base"], trainings["again"]
    assert again.metrics == first.metrics and again.curve("train_loss") == first.curve("train_loss")
    assert again.event("config")["data_hash"] == first.event("config")["data_hash"]


@pytest.mark.train
def test_a_short_training_learns_from_the_own_library(trainings: Mapping[str, Training]) -> None:
    training = trainings["learns"]
    assert training.metrics["accuracy"] > 0.65, training.log
    assert training.event("config")["data_source"].startswith("python-stdlib-")


@pytest.mark.train
@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_cannot_work_is_said_and_has_its_exit_code(refusal: str, trainings: Mapping[str, Training]) -> None:
    training, (_, code, text) = trainings[refusal], REFUSALS[refusal]
    assert training.exit_code == code, training.log
    assert text in training.log and "Traceback" not in training.log


@pytest.mark.train
def test_sigterm_ends_it_at_once_with_a_checkpoint(tmp_path: Path, data_root: Path) -> None:
    process = start("MRT-OAST", tmp_path, *BASE, "--epochs", "100000", PROFILER_DATA=str(data_root))
    deadline = time.monotonic() + 90
    while not (tmp_path / "events.jsonl").exists() or "epoch" not in (tmp_path / "events.jsonl").read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    training = collect(process.wait(timeout=30), tmp_path)
    assert time.monotonic() - sent < 5
    assert training.exit_code == -signal.SIGTERM
    assert "done" not in {event["event"] for event in training.events}
    assert (tmp_path / "checkpoint.pt").stat().st_size > 0


@pytest.mark.train
def test_a_network_that_diverges_ends_with_a_loss_that_is_not_finite(trainings: Mapping[str, Training]) -> None:
    training = trainings["diverges"]
    assert training.exit_code == 0, training.log
    assert all(math.isnan(loss) for loss in training.curve("eval_loss"))
    assert training.event("done")["epochs"] == 2
