"""The manifests: what the six repositories declare, argv to the bit, bad manifests refused with all their faults."""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from profiler.documents import DocumentError, read_document
from profiler.errors import ConfigError
from profiler.workloads import Catalog, UnknownWorkloadError, load_catalog, load_manifest

L, U = "log_uniform", "uniform"
SEED = (0, 9999, U)
RESNET: dict[str, tuple[Any, Any]] = {
    "epochs": (200, (100, 300, U)),
    "learning_rate": (0.1, (0.05, 0.15, L)),
    "weight_decay": (1e-4, (1e-5, 1e-3, L)),
    "seed": (1334, SEED),
    "batch_size": (128, None),
    "momentum": (0.9, None),
}
REID: dict[str, tuple[Any, Any]] = {
    "epochs": (60, (30, 90, U)),
    "learning_rate": (0.05, (0.025, 0.075, L)),
    "dropout": (0.5, (0.3, 0.6, U)),
    "seed": (1334, SEED),
    "batch_size": (32, None),
}
DIGITS: dict[str, tuple[Any, Any]] = {
    "epochs": (10, (5, 15, U)),
    "learning_rate": (0.01, (0.005, 0.02, L)),
    "batch_size": (32, (16, 128, U)),
    "seed": (1, SEED),
}
TABLE: dict[tuple[str, str], dict[str, tuple[Any, Any]]] = {
    ("MRT-OAST", "default"): {
        "epochs": (10, (5, 15, U)),
        "learning_rate": (1e-4, (5e-5, 1.5e-4, L)),
        "dropout": (0.2, (0, 0.3, U)),
        "weight_decay": (0.0, (1e-5, 1e-3, L)),
        "seed": (1334, SEED),
        "batch_size": (64, None),
    },
    ("bug-localization-by-dnn-and-rvsm", "default"): {
        "max_iter": (10000, (1000, 20000, L)),
        "kfold": (10, (2, 10, U)),
        "alpha": (1e-5, (5e-6, 2e-5, L)),
        "learning_rate": (1e-3, (5e-4, 2e-3, L)),
        "seed": (42, SEED),
        "batch_size": (None, None),
    },
    **{("pytorch_resnet_cifar10", f"resnet{depth}"): RESNET for depth in (20, 32, 44, 56, 110, 1202)},
    ("VulBERTa", "mlp"): {
        "epochs": (10, (5, 20, U)),
        "learning_rate": (3e-5, (1.5e-5, 4.5e-5, L)),
        "weight_decay": (0.0, (1e-5, 1e-3, L)),
        "seed": (42, SEED),
        "batch_size": (4, None),
    },
    ("VulBERTa", "cnn"): {
        "epochs": (20, (10, 40, U)),
        "learning_rate": (5e-4, (2.5e-4, 7.5e-4, L)),
        "weight_decay": (0.0, (1e-5, 1e-3, L)),
        "seed": (1234, SEED),
        "batch_size": (128, None),
    },
    ("Person_reID_baseline_pytorch", "densenet121"): REID,
    ("Person_reID_baseline_pytorch", "hrnet18"): REID,
    ("Person_reID_baseline_pytorch", "pcb"): {**REID, "learning_rate": (0.02, (0.01, 0.03, L))},
    ("examples", "mnist_cnn"): DIGITS,
    ("examples", "mnist_rnn"): DIGITS,
    ("examples", "mnist_forward_forward"): {
        **DIGITS,
        "batch_size": (None, (16, 128, U)),
        "train_size": (10000, None),
    },
    ("examples", "siamese"): DIGITS,
}
SIZE = {"size": ("full", None)}
DIGITS_CNN = load_manifest(Path(__file__).parents[1] / "repos" / "examples" / "workload.yaml").models["mnist_cnn"]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def test_all_models_are_there(catalog: Catalog) -> None:
    own = {(model.repo, model.name) for model in catalog.models()}
    assert own >= TABLE.keys()
    assert len(TABLE) == 17


@pytest.mark.parametrize(("repo", "model"), TABLE)
def test_hyperparameters_are_those_of_the_table(catalog: Catalog, repo: str, model: str) -> None:
    specs = catalog.resolve(repo, model).hyperparameters
    found = {}
    for name, spec in specs.items():
        drawn = spec.mutation_range()
        found[name] = (spec.default, None if drawn is None else (drawn.low, drawn.high, drawn.distribution))
    assert found == {**TABLE[repo, model], **SIZE}
    for name, spec in specs.items():
        assert type(spec.default) in {"int": (int, type(None)), "float": (float,), "str": (str,)}[spec.type], name


@pytest.mark.parametrize(("repo", "model"), TABLE)
def test_every_model_is_complete(catalog: Catalog, repo: str, model: str) -> None:
    spec = catalog.resolve(repo, model)
    primary = spec.metrics[spec.primary_metric]
    assert (primary.minimum, primary.maximum, primary.direction, primary.unit) == (0, 1, "maximize", "ratio")
    assert spec.epochs_parameter in spec.hyperparameters
    assert spec.data and spec.description
    assert spec.memory_mib > 0 if spec.uses_gpu else spec.memory_mib == 0
    assert (spec.measured is not None) == spec.uses_gpu
    assert all(hyperparameter.flag and hyperparameter.description for hyperparameter in spec.hyperparameters.values())


def test_primary_metrics(catalog: Catalog) -> None:
    assert {model.repo: model.primary_metric for model in catalog.models() if (model.repo, model.name) in TABLE} == {
        "MRT-OAST": "accuracy",
        "bug-localization-by-dnn-and-rvsm": "top1_accuracy",
        "pytorch_resnet_cifar10": "test_accuracy",
        "VulBERTa": "accuracy",
        "Person_reID_baseline_pytorch": "map",
        "examples": "test_accuracy",
    }


def test_aliases(catalog: Catalog) -> None:
    assert catalog.resolve("examples", "mnist").name == "mnist_cnn"
    assert catalog.resolve("examples", "mnist_ff").name == "mnist_forward_forward"
    bug = catalog.resolve("bug-localization-by-dnn-and-rvsm", "default")
    assert bug.hyperparameter_aliases == {"epochs": "max_iter"}
    assert bug.epochs_parameter == "max_iter"
    assert not bug.uses_gpu


def test_unknown_names_come_with_a_suggestion(catalog: Catalog) -> None:
    with pytest.raises(UnknownWorkloadError) as caught:
        catalog.resolve("exampels", "mnist")
    assert (caught.value.what, caught.value.suggestion) == ("repo", "examples")
    with pytest.raises(UnknownWorkloadError, match="resnet1202") as caught:
        catalog.resolve("pytorch_resnet_cifar10", "resnet200")
    assert (caught.value.what, caught.value.suggestion) == ("model", "resnet20")


@given(
    rate=st.floats(0, 10, allow_nan=False),
    epochs=st.integers(1, 10**12),
    seed=st.integers(0, 2**32 - 1),
)
def test_argv_keeps_every_bit(rate: float, epochs: int, seed: int) -> None:
    spec = DIGITS_CNN
    argv = spec.argv({**spec.defaults(), "epochs": epochs, "learning_rate": rate, "seed": seed}, python="/py")
    assert argv[:4] == ("/py", str(spec.folder / "train.py"), "--model", "mnist_cnn")
    flags = dict(zip(argv[4::2], argv[5::2], strict=True))
    back = float(flags["--learning-rate"])
    assert back == rate and math.copysign(1, back) == math.copysign(1, rate)
    assert int(flags["--epochs"]) == epochs and int(flags["--seed"]) == seed
    assert list(flags) == ["--epochs", "--learning-rate", "--batch-size", "--seed", "--size"]


def test_a_value_without_meaning_is_left_out_of_argv(catalog: Catalog) -> None:
    spec = catalog.resolve("examples", "mnist_ff")
    argv = spec.argv(spec.defaults(), python="p")
    assert "--batch-size" not in argv
    assert argv[-2:] == ("--train-size", "10000")
    with pytest.raises(ValueError, match="no hyperparameter 'dropout'"):
        spec.argv({"dropout": 0.1}, python="p")
    with pytest.raises(ValueError, match="no trainer yet"):
        bare = spec.model_copy(update={"command": None})
        bare.argv({}, python="p")


# A repository of the user's own: one folder, no Python.

SHELL = """
description: trained by a shell script
command: [sh, "{folder}/train.sh", "--name={model}", "{hyperparameters}", "--rate={rate}"]
hyperparameters:
  steps: {flag: --steps, type: int, default: 3, minimum: 1, range: [1, 9]}
  rate: {type: float, default: 0.5, minimum: 0, maximum: 1, range: [0.1, 0.9]}
  verbose: {flag: -v, type: bool, default: false}
  style: {flag: --style, type: str, default: plain, choices: [plain, fancy]}
metrics:
  score: {unit: points, minimum: 0, direction: maximize, pattern: '^score (\\d+)', select: max}
primary_metric: score
models:
  small: {}
  large:
    aliases: [big]
    hyperparameters: {steps: {default: 7}, style: null, width: {flag: --width, type: int, default: 2}}
    metrics: {loss: {direction: minimize}}
"""


def write_repo(root: Path, name: str, text: str) -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "workload.yaml").write_text(text)
    return root


def test_a_folder_makes_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_repo(tmp_path / "one", "mine", SHELL)
    write_repo(tmp_path / "here" / "repos", "local", SHELL)
    write_repo(tmp_path / "env", "named", SHELL)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PROFILER_REPOS", f"{tmp_path / 'env'}:{tmp_path / 'absent'}")
    catalog = load_catalog([tmp_path / "one"])
    assert {"mine", "local", "named", "examples"} <= catalog.repos.keys()
    large = catalog.resolve("mine", "big")
    assert large.defaults() == {"steps": 7, "rate": 0.5, "verbose": False, "width": 2}
    assert large.metrics.keys() == {"score", "loss"}
    assert large.metrics["score"].select == "max"
    small = catalog.resolve("mine", "small")
    argv = small.argv({"steps": 4, "rate": 0.1, "verbose": True, "style": "fancy"}, python="p")
    folder = tmp_path / "one" / "mine"
    assert shlex.join(argv) == f"sh {folder}/train.sh --name=small --steps 4 -v --style fancy --rate=0.1"
    assert "-v" not in small.argv({"steps": 4, "rate": 0.1, "verbose": False}, python="p")
    with pytest.raises(ValueError, match=r"needs a value for \{rate\}"):
        small.argv({"steps": 4}, python="p")


def test_a_later_folder_replaces_an_earlier_one(tmp_path: Path) -> None:
    write_repo(tmp_path, "examples", SHELL)
    assert load_catalog([tmp_path]).repos["examples"].models.keys() == {"small", "large"}
    assert load_catalog([tmp_path / "examples"]).repos["examples"].folder == tmp_path / "examples"


def broken(**changes: Any) -> str:
    raw = yaml.safe_load(SHELL)
    for path, value in changes.items():
        here = raw
        *parts, last = path.split("__")
        for part in parts:
            here = here[part]
        here[last] = value
    return yaml.safe_dump(raw)


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"hyperparameters__steps__default": "3"}, "hyperparameters.steps", "must be an integer"),
        ({"hyperparameters__steps__default": True}, "hyperparameters.steps", "must be an integer"),
        ({"hyperparameters__steps__default": 0}, "hyperparameters.steps", "at least 1"),
        ({"hyperparameters__steps__range": [0, 9]}, "hyperparameters.steps", "at least 1"),
        ({"hyperparameters__steps__range": [9, 1]}, "hyperparameters.steps", "above the upper end"),
        ({"hyperparameters__steps__range": [1.5, 3]}, "hyperparameters.steps", "must be integers"),
        ({"hyperparameters__rate__distribution": "normal"}, "hyperparameters.rate.distribution", "uniform"),
        ({"hyperparameters__rate__zero_probability": 2}, "hyperparameters.rate.zero_probability", "less than or equal"),
        ({"hyperparameters__rate__minimun": 2}, "hyperparameters.rate.minimun", "unknown key"),
        ({"hyperparameters__style__default": "plian"}, "hyperparameters.style", "must be one of"),
        ({"hyperparameters__verbose__default": None}, "hyperparameters.verbose", "true or false"),
        ({"hyperparameters__python": {"type": "int", "default": 1}}, "hyperparameters.python", "cannot be the name"),
        ({"hyperparameters__steps__flag": None}, "", "never reach the trainer"),
        ({"command": ["sh", "{hyperparameters}"]}, "", "'rate' would never reach"),
        ({"command": ["sh", "x{hyperparameters}", "{rate}"]}, "", "element of its own"),
        ({"command": ["sh", "{hyperparameters}", "{rate}", "{nope}"]}, "", "unknown placeholder {nope}"),
        ({"command": ["sh", "{hyperparameters}", "{rate}", "{verbose}"]}, "", "{verbose} may be absent"),
        ({"command": []}, "", "must name a program"),
        ({"command": "sh train.sh"}, "command", "must be a list"),
        ({"primary_metric": "nope"}, "", "'nope' is not among the metrics"),
        ({"metrics__score__pattern": "("}, "metrics.score.pattern", "regular expression"),
        ({"metrics__score__pattern": "score"}, "metrics.score.pattern", "needs a group"),
        ({"metrics__score__maximum": -1}, "metrics.score", "above maximum"),
        ({"effective_patterns": {"nope": "(x)"}}, "", "is no hyperparameter"),
        ({"hyperparameter_aliases": {"epochs": "nope"}}, "", "existing hyperparameter"),
        ({"modles": {}}, "modles", "unknown key"),
        ({"models": {}}, "models", "at least one model"),
        ({"models__small": []}, "models.small", "must be a mapping"),
        ({"models__a/b": {}}, "models.a/b", "cannot be a name"),
        ({"models__small": {"aliases": ["large"]}}, "models", "stands for two models"),
        ({"repo": "../up"}, "repo", "must be a name"),
    ],
)
def test_a_bad_manifest_is_refused(tmp_path: Path, changes: dict[str, Any], path: str, message: str) -> None:
    write_repo(tmp_path, "mine", broken(**changes))
    with pytest.raises(ConfigError) as caught:
        load_manifest(tmp_path / "mine" / "workload.yaml")
    fitting = [issue for issue in caught.value.issues if message in issue.message]
    assert fitting, caught.value
    assert any(issue.path.startswith(path) or issue.path.startswith("models.") for issue in fitting)
    assert all(issue.file == str(tmp_path / "mine" / "workload.yaml") for issue in caught.value.issues)


def test_all_faults_of_all_manifests_are_told_at_once_and_once(tmp_path: Path) -> None:
    write_repo(tmp_path, "a", broken(hyperparameters__steps__default="x", metrics__score__direction="up"))
    write_repo(tmp_path, "b", "models: [")
    write_repo(tmp_path, "c", "")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "workload.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError) as caught:
        load_catalog([tmp_path])
    found = sorted((Path(issue.file).parent.name, issue.path) for issue in caught.value.issues)
    assert found == [("a", "hyperparameters.steps"), ("a", "metrics.score.direction"), ("b", ""), ("c", ""), ("d", "")]


def test_documents_are_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1e-3\nb: 010\nc: 1:30\nd: 2026-01-01\ne: 1_000\nf: .5\ng: -1.5e+3\nh: no\ni: 0x1F\nj: 1.e3\n")
    value = read_document(path)
    texts = {"c": "1:30", "d": "2026-01-01"}
    assert value == {"a": 0.001, "b": 10, **texts, "e": 1000, "f": 0.5, "g": -1500.0, "h": False, "i": 31, "j": 1000.0}
    for text, message in [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "'c' is written twice in one mapping (line 4"),
        ("a: &x {b: 1}\nc: {<<: *x, b: 2, b: 3}", "written twice"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("[" * 5000, "nested too deeply"),
        ("- 1\n- 2", "must be a mapping of keys to values, not a list"),
        ("# nothing\n", "is empty"),
        ("a: [", "cannot be read"),
        ("? [1, 2]\n: 3", "cannot be read"),
    ]:
        path.write_text(text)
        with pytest.raises(DocumentError) as caught:
            read_document(path)
        assert message in str(caught.value), (text[:20], str(caught.value))
    path.write_text("a: &x {b: 1}\nc: {<<: *x, b: 2}")
    assert read_document(path)["c"] == {"b": 2}


def test_planning_needs_no_heavy_import() -> None:
    code = (
        "import sys; from profiler.config import load; from profiler.planner import make_plan; "
        "make_plan(load({'name': 'x', 'experiments': [{'repo': 'examples', 'model': 'siamese'}]})); "
        "print([name for name in ('ray', 'pandas', 'pyarrow', 'torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
