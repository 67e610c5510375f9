"""The trainers mlp and cnn: sizes of the networks, the event contract, repeatability, what each option does."""

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.repos.test_vulberta_data import write_devign
from tests.repos.trainings import REPOS, Training, check_effective, collect, start, train_many, undeclared_metrics

torch = pytest.importorskip("torch")
sys.path.append(str(REPOS / "VulBERTa"))

MODELS = ("mlp", "cnn")
BASE = ("--size", "reduced", "--epochs", "1", "--learning-rate", "0.00031234567891234567", "--batch-size", "8")
REQUESTED = {
    "epochs": 1,
    "learning_rate": 0.00031234567891234567,
    "weight_decay": 0.0,
    "batch_size": 8,
    "seed": 5,
    "size": "reduced",
}
CHANGES: dict[str, tuple[str, object]] = {
    "epochs": ("--epochs", 2),
    "learning_rate": ("--learning-rate", 0.0007),
    "weight_decay": ("--weight-decay", 0.00098765432109876543),
    "batch_size": ("--batch-size", 12),
    "seed": ("--seed", 6),
}
METRICS = {"accuracy", "precision", "recall", "f1", "auc", "mcc", "eval_loss"}
LEARNING = {"mlp": ("2", "2e-4"), "cnn": ("5", "3e-3")}
REFUSALS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "dropout": (("--dropout", "0.1"), 2, "--dropout"),
    "no such set": (("--dataset", "d2a", "--data-source", "original"), 3, "d2a not found"),
    "float16 on a CPU": (("--amp", "float16"), 2, "--amp float16 needs a GPU"),
}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_devign(root)
    return root


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Mapping[str, Training]:
    """Every training that needs no process of its own: base, changed, mixed-precision, learning and refused ones."""
    cases: dict[str, tuple[str, ...]] = {}
    for model in MODELS:
        base = ("--model", model, *BASE, "--seed", "5")
        cases |= {f"{model} base": base, f"{model} again": base}
        cases |= {f"{model} {name}": (*base, flag, repr(value)) for name, (flag, value) in CHANGES.items()}
        cases[f"{model} bfloat16"] = (*base, "--amp", "bfloat16")
        epochs, rate = LEARNING[model]
        given = ("--size", "reduced", "--data-source", "generated", "--epochs", epochs, "--learning-rate", rate)
        cases[f"{model} learns"] = ("--model", model, *given)
    cases |= {name: ("--size", "reduced", *arguments) for name, (arguments, _, _) in REFUSALS.items()}
    return train_many("VulBERTa", tmp_path_factory.mktemp("trainings"), cases, PROFILER_DATA=str(data_root))


def test_the_networks_have_the_originals_sizes() -> None:
    from _kit.effective import parameter_count
    from detector_recipes import CNN_SHAPES, MLP_SHAPES
    from roberta import RobertaClassifier
    from text_cnn import TextCnn

    with torch.device("meta"):
        mlp, cnn = RobertaClassifier(MLP_SHAPES["full"]), TextCnn(CNN_SHAPES["full"])
    assert parameter_count(mlp) == parameter_count(mlp, trainable=True) == 124_836_866
    assert parameter_count(cnn, trainable=True) == 2_030_810
    assert parameter_count(cnn) == 2_030_810 + 50_000 * 768


def test_padding_changes_no_logit() -> None:
    from detector_recipes import MLP_SHAPES
    from roberta import RobertaClassifier

    torch.manual_seed(1)
    model = RobertaClassifier(MLP_SHAPES["reduced"]).eval()
    ids = torch.tensor([[0, 7, 8, 9, 2, 1, 1, 1]], dtype=torch.int32)
    with torch.inference_mode():
        assert torch.allclose(model(ids), model(ids[:, :5]), atol=1e-6)
        assert not torch.allclose(model(ids), model(ids.roll(1, dims=1)), atol=1e-6)


def test_class_weights_make_both_classes_count_alike() -> None:
    from detector_recipes import class_weights

    assert class_weights([0, 0, 0, 1]).tolist() == pytest.approx([4 / 6, 2.0])


@pytest.mark.train
@pytest.mark.parametrize("model", MODELS)
def test_the_event_contract(model: str, trainings: Mapping[str, Training]) -> None:
    training = trainings[f"{model} epochs"]
    assert training.exit_code == 0, training.log
    assert not undeclared_metrics("VulBERTa", model, training)
    assert [event["event"] for event in training.events] == ["config", "ready", "epoch", "epoch", "done"]
    config = training.event("config")
    assert config["data_source"] == "devign train=36 valid=12 test=12" and config["data_hash"].startswith("sha256:")
    assert config["facts"]["device"] == "cpu" and config["facts"]["precision"] == "float32"
    assert training.event("done")["epochs"] == 2
    assert set(training.metrics) == METRICS
    assert all(0 <= training.metrics[name] <= 1 for name in METRICS - {"mcc", "eval_loss"})


@pytest.mark.train
@pytest.mark.parametrize("change", ["base", *CHANGES])
@pytest.mark.parametrize("model", MODELS)
def test_effective_values_are_the_requested_ones_bit_for_bit(
    model: str, change: str, trainings: Mapping[str, Training]
) -> None:
    wanted = REQUESTED | ({change: CHANGES[change][1]} if change in CHANGES else {})
    check_effective(trainings[f"{model} {change}"], wanted)


@pytest.mark.train
@pytest.mark.parametrize("model", MODELS)
def test_every_hyperparameter_changes_the_training(model: str, trainings: Mapping[str, Training]) -> None:
    base = trainings[f"{model} base"].curve("train_loss")
    for name in ("learning_rate", "weight_decay", "batch_size", "seed"):
        assert trainings[f"{model} {name}"].curve("train_loss") != base, name
    assert trainings[f"{model} bfloat16"].curve("train_loss") != base
    assert len(trainings[f"{model} epochs"].curve("train_loss")) == 2


@pytest.mark.train
@pytest.mark.parametrize("model", MODELS)
def test_the_same_seed_gives_the_same_figures_to_the_bit(model: str, trainings: Mapping[str, Training]) -> None:
    first, again = trainings[f"{model} base"], trainings[f"{model} again"]
    assert again.metrics == first.metrics and again.curve("train_loss") == first.curve("train_loss")
    assert again.event("config")["data_hash"] == first.event("config")["data_hash"]


@pytest.mark.train
@pytest.mark.parametrize("model", MODELS)
def test_a_short_training_learns_from_generated_functions(model: str, trainings: Mapping[str, Training]) -> None:
    training = trainings[f"{model} learns"]
    assert training.metrics["accuracy"] > 0.65, training.log
    assert training.event("config")["data_source"].startswith("generated/c-functions ")


@pytest.mark.train
@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_cannot_work_is_said_and_has_its_exit_code(refusal: str, trainings: Mapping[str, Training]) -> None:
    training, (_, code, text) = trainings[refusal], REFUSALS[refusal]
    assert training.exit_code == code, training.log
    assert text in training.log and "Traceback" not in training.log


@pytest.mark.train
def test_sigterm_ends_it_at_once_with_a_checkpoint(tmp_path: Path, data_root: Path) -> None:
    arguments = ("--model", "cnn", *BASE, "--epochs", "100000")
    process = start("VulBERTa", tmp_path, *arguments, PROFILER_DATA=str(data_root))
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
