"""A background that trains again in the same process trains as it did before: with a fresh model, on untouched data."""

import time
from pathlib import Path

import pytest

from tests.repos.trainings import collect, start

MODELS = [
    ("examples", "mnist_forward_forward"),
    ("VulBERTa", "cnn"),
    *(
        pytest.param(repo, model, marks=pytest.mark.models)
        for repo, model in (
            ("examples", "siamese"),
            ("VulBERTa", "mlp"),
            ("pytorch_resnet_cifar10", "resnet20"),
            ("Person_reID_baseline_pytorch", "pcb"),
            ("MRT-OAST", None),
            ("bug-localization-by-dnn-and-rvsm", None),
        )
    ),
]


@pytest.mark.train
@pytest.mark.parametrize(("repo", "model"), MODELS)
def test_the_third_training_is_the_first_to_the_bit(repo: str, model: str | None, tmp_path: Path) -> None:
    arguments = ["--size", "reduced", "--epochs", "1", *(["--model", model] if model else [])]
    process = start(repo, tmp_path, *arguments, PROFILER_BACKGROUND_REPEAT="1")
    events, deadline = tmp_path / "events.jsonl", time.monotonic() + 120
    while not events.exists() or events.read_text().count('"done"') < 3:
        assert time.monotonic() < deadline and process.poll() is None, (tmp_path / "training.log").read_text()[-2000:]
        time.sleep(0.05)
    process.terminate()
    training = collect(process.wait(timeout=60), tmp_path)
    metrics = [event["metrics"] for event in training.events if event["event"] == "done"]
    assert metrics[0] == metrics[1] == metrics[2]
