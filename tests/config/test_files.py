"""Config files: unreadable ones, and the old JSON settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from profiler.config import load
from tests.config.helpers import CATALOG, only


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "", "is empty"),
        ("a.json", "  \n", "is empty"),
        ("a.yaml", "null", "is empty"),
        ("a.yaml", "- a\n- b", "must be a mapping"),
        ("a.json", "[1]", "must be a mapping"),
        ("a.yaml", "just a text", "must be a mapping"),
        ("a.yaml", "name: a\nname: b\n", "'name' is written twice"),
        ("a.json", '{"name": "a", "name": "b"}', "'name' is written twice"),
        ("a.json", '{"name": "a",}', "cannot be read"),
        ("a.json", '{"cpus": NaN}', "NaN is not a number"),
        ("a.json", '{"name": "a\\u0000b", "experiments": []}', "holds a character"),
        ("a.json", '{"name": "\\ud800", "experiments": []}', "holds a character"),
        ("a.yaml", "name: [", "cannot be read"),
        ("a.yaml", "name: \tx: y", "cannot be read"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.yaml", b"\xff\xfe\x00", "is not UTF-8"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    issue = only(path)
    assert (issue.file, issue.path) == (str(path), "") and message in issue.message


def test_missing_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("name: x")
    issue = only(tmp_path / "quickstrat.yaml")
    assert issue.message == "no such file" and issue.suggestion == str(tmp_path / "quickstart.yaml")
    assert "is a directory" in only(tmp_path).message
    assert "not a regular file" in only("/dev/null").message
    assert only("bad\0name.yaml").message.startswith("cannot be read")
    assert "a path or a mapping" in only(7).message


def test_a_recursive_document_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: &a\n  - *a\nexperiments: []\n")
    assert only(path).message == "is nested too deeply"


@pytest.mark.slow
def test_a_small_file_that_means_a_huge_one_is_refused(tmp_path: Path) -> None:
    levels = [f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 10)}]" for n in range(1, 9)]
    path = tmp_path / "a.yaml"
    path.write_text("\n".join(["name: a", "k0: &k0 [1]", *levels]))
    assert "means more than 1000000 values" in only(path).message


def test_a_byte_order_mark_and_flow_style_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + b"{name: a, seed: 3, experiments: [{repo: examples, model: mnist}]}")
    assert load(path, catalog=CATALOG).experiments[0].foreground.model == "mnist_cnn"


OLD = {
    "experiment_name": "old",
    "description": "as users wrote them",
    "governor": "performance",
    "runs_per_config": 1,
    "max_retries": 2,
    "mode": "mixed",
    "use_deduplication": False,
    "historical_csvs": [],
    "experiments": [
        {
            "mode": "default",
            "repo": "examples",
            "model": "mnist_ff",
            "hyperparameters": {"epochs": 10, "learning_rate": 0.01, "batch_size": 32, "seed": 1},
            "note": "Sequential 1/2",
        },
        {
            "repo": "placeholder",
            "model": "placeholder",
            "mode": "parallel",
            "comment": "x",
            "foreground": {
                "repo": "pytorch_resnet_cifar10",
                "model": "resnet20",
                "mode": "mutation",
                "mutate": ["learning_rate"],
                "runs_per_config": 4,
                "description": "x",
            },
            "background": {"repo": "VulBERTa", "model": "mlp", "hyperparameters": {}, "note": "x"},
        },
        {"mode": "mutation", "repo": "bug-localization-by-dnn-and-rvsm", "model": "default", "mutate": ["all"]},
    ],
    "notes": ["1. the first", "2. the second"],
}


def test_an_old_settings_file_loads_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(OLD))
    campaign = load(path, catalog=CATALOG)
    assert (campaign.name, campaign.governor, campaign.mode) == ("old", "performance", "mixed")
    assert campaign.texts["notes"] == OLD["notes"] and campaign.description == OLD["description"]
    first, pair, last = campaign.experiments
    assert (first.mode, first.foreground.model, first.note) == ("default", "mnist_forward_forward", "Sequential 1/2")
    assert pair.background is not None and pair.runs_per_config == 4
    assert (pair.foreground.fraction, pair.background.fraction) == (0.7, 0.3)
    assert last.foreground.mutate == ("max_iter", "kfold", "alpha", "learning_rate", "seed")


def test_a_json_file_without_a_name_has_its_own(tmp_path: Path) -> None:
    nameless = {"experiments": OLD["experiments"], "mode": "mixed"}
    for name in ("quick test.v2.json", "quick test.v2.JSON"):
        path = tmp_path / name
        path.write_text(json.dumps(nameless))
        assert load(path, catalog=CATALOG).name == "quick test.v2"
    assert load(path, ["experiment_name=mine"], CATALOG).name == "mine"
    path.write_text(json.dumps({**nameless, "name": None}))
    assert only(path).path == "name"
    unprintable = tmp_path / os.fsdecode(b"\xff.json")
    unprintable.write_text(json.dumps(nameless))
    assert only(unprintable).path == "name"
    path = tmp_path / "quick.yaml"
    path.write_text(json.dumps(nameless))
    assert "`name` is missing" in only(path).message
    assert "`name` is missing" in only(nameless).message
