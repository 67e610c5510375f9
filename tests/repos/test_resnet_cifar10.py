"""The residual networks: sizes, CIFAR-10 files, photographs, drawings, schedule, and what each option does."""

import importlib
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from _kit.errors import DataError

from tests.repos.trainings import REPOS, Training, check_effective, train_many, undeclared_metrics

pytest.importorskip("torch")
sys.path.append(str(REPOS / "pytorch_resnet_cifar10"))
cifar, drawings, photos, residual, residual_training, small_images = (
    importlib.import_module(name)
    for name in ("cifar", "drawings", "photos", "residual", "residual_training", "small_images")
)
BASE = (
    "--size",
    "reduced",
    "--epochs",
    "2",
    "--batch-size",
    "64",
    "--seed",
    "5",
    "--learning-rate",
    "0.0712345678912345",
)
REQUESTED = {
    "epochs": 2,
    "learning_rate": 0.0712345678912345,
    "weight_decay": 1e-4,
    "momentum": 0.9,
    "batch_size": 64,
    "seed": 5,
    "size": "reduced",
}
CHANGES: dict[str, tuple[str, object]] = {
    "epochs": ("--epochs", 3),
    "learning_rate": ("--learning-rate", 0.05),
    "weight_decay": ("--weight-decay", 0.0123456789),
    "momentum": ("--momentum", 0.8),
    "batch_size": ("--batch-size", 32),
    "seed": ("--seed", 6),
}


def write_cifar(folder: Path, rows: int = 20, keys: type = bytes) -> None:
    """The six batch files with `rows` random images each."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(0)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        table = {"data": draws.integers(0, 256, (rows, 3072), dtype=np.uint8), "labels": [n % 10 for n in range(rows)]}
        named = {key.encode() if keys is bytes else key: value for key, value in table.items()}
        (folder / name).write_bytes(pickle.dumps(named, protocol=2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "count"),
    [
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
        ("resnet110", 1_727_962),
        ("resnet1202", 19_421_274),
    ],
)
def test_the_networks_have_the_originals_sizes(model: str, count: int) -> None:
    import torch
    from _kit.effective import parameter_count

    with torch.device("meta"):
        network = residual.ResNet(residual.BLOCKS_PER_STAGE[model])
    assert parameter_count(network) == count


@pytest.mark.parametrize("shape", [residual.FULL, residual.REDUCED])
def test_ten_logits_come_out_of_images_of_any_side(shape: object) -> None:
    import torch

    network = residual.ResNet(3, shape)
    for side in (8, 32):
        assert network(torch.zeros(2, 3, side, side)).shape == (2, 10)


@pytest.mark.parametrize(("model", "layers"), [("resnet110", 110), ("resnet1202", 134)])
def test_only_the_deepest_network_is_shallower_at_reduced_size(model: str, layers: int) -> None:
    import torch

    with torch.device("meta"):
        network = residual.ResNet(residual.BLOCKS_PER_STAGE[model], residual.REDUCED)
    found = [part for part in network.modules() if isinstance(part, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(found) == layers


@pytest.mark.parametrize("keys", [bytes, str])
@pytest.mark.parametrize("place", ["cifar-10-batches-py", "."])
def test_cifar_files_are_found_and_read(place: str, keys: type, tmp_path: Path) -> None:
    write_cifar(tmp_path / place, keys=keys)
    data = small_images.load_images(tmp_path, "auto", "full")
    assert data.train_images.shape == (100, 3, 32, 32) and data.test_images.shape == (20, 3, 32, 32)
    assert data.train_labels.tolist() == [n % 10 for n in range(20)] * 5
    assert data.provenance.source == "CIFAR-10-layout train=100 test=20 side=32"
    rows = pickle.loads((tmp_path / place / "data_batch_1").read_bytes())
    assert np.array_equal(data.train_images[0].reshape(-1), rows[b"data" if keys is bytes else "data"][0])


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    write_cifar(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps({b"data": Evil(), b"labels": []}, protocol=2))
    with pytest.raises(DataError, match="data_batch_3 cannot be read as a pickle of arrays: it asks for"):
        small_images.load_images(tmp_path, "auto", "full")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"no pickle", "cannot be read"),
        (b"c_codecs\nencode\n(Va\nVnone such\ntR.", "cannot be read as a pickle of arrays: unknown encoding"),
        (pickle.dumps([1, 2], protocol=2), "is no CIFAR-10 batch"),
        (pickle.dumps({b"data": [1]}, protocol=2), "is no CIFAR-10 batch"),
        (
            pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}, protocol=2),
            "labels outside 0 to 9",
        ),
        (pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}, protocol=2), "data float64"),
        (
            pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, float("nan")]}, protocol=2),
            "labels float64, not integers",
        ),
        (
            pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0.5, 1]}, protocol=2),
            "labels float64, not integers",
        ),
        (
            pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": ["cat", "dog"]}, protocol=2),
            "labels <U3, not integers",
        ),
    ],
)
def test_a_damaged_batch_file_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    write_cifar(tmp_path)
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match=f"test_batch.*{message}"):
        small_images.load_images(tmp_path, "auto", "full")


def test_a_part_of_cifar_names_what_is_missing(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    (tmp_path / "data_batch_5").unlink()
    with pytest.raises(DataError, match="missing: data_batch_5"):
        cifar.find_cifar(tmp_path)


def test_an_empty_folder_of_cifar_is_not_replaced_by_other_images(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match="cifar-10-batches-py holds nothing of CIFAR-10"):
        small_images.load_images(tmp_path, "auto", "reduced")


def test_missing_cifar_names_layout_and_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)CIFAR-10 not found.*data_batch_1.*cs\.toronto\.edu"):
        small_images.load_images(tmp_path, "original", "full")


def test_photographs_are_cut_so_that_no_pixel_trains_and_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_module = pytest.importorskip("PIL.Image")
    folder = tmp_path / "skimage" / "data"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise ImportError('only its files are wanted')")
    columns = np.tile(np.arange(200, dtype=np.uint8), (60, 1))
    for name in photos.PHOTOS:
        image_module.fromarray(columns).save(folder / name, quality=100)
    monkeypatch.syspath_prepend(str(tmp_path))
    data = small_images.load_images(None, "packaged", "full")
    assert data.provenance.source == "scikit-image/photos train=10000 test=2000 side=32"
    assert data.train_labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    png = data.train_labels == 0, data.test_labels == 0
    assert data.train_images[png[0]].max() < 150 <= data.test_images[png[1]].min()


def test_drawings_are_balanced_bright_and_the_same_every_time() -> None:
    images, labels = drawings.draw_images(1200, seed=1)
    again, _ = drawings.draw_images(1200, seed=1)
    other, _ = drawings.draw_images(1200, seed=2)
    assert images.shape == (1200, 3, 32, 32) and images.dtype == np.uint8
    assert np.array_equal(images, again) and not np.array_equal(images, other)
    assert np.bincount(labels).tolist() == [120] * 10
    assert 60 < images.mean() < 190 and images.std() > 30


def test_reduced_images_are_means_of_squares() -> None:
    images = np.zeros((1, 3, 32, 32), np.uint8)
    images[0, 0, :4, :4] = 100
    images[0, 1, 0, 0] = 16
    small = small_images.shrink(images)
    assert small.shape == (1, 3, 8, 8)
    assert small[0, 0, 0, 0] == 100 and small[0, 1, 0, 0] == 1 and small.sum() == 101


def test_crops_are_shifts_and_flips_of_the_image() -> None:
    import torch
    from _kit.team import Team

    image = torch.arange(3 * 8 * 8, dtype=torch.uint8).reshape(1, 3, 8, 8)
    images = image.repeat(64, 1, 1, 1)
    batches = residual_training.ShiftedBatches(images, torch.zeros(64), batch_size=64, seed=1, team=Team(0, 1))
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))[0]
    windows = [padded[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    possible = {window.numpy().tobytes() for window in [*windows, *(window.flip(2) for window in windows)]}
    cut = batches._cut(padded.repeat(64, 1, 1, 1), *batches._draw(64))
    seen = {one.numpy().tobytes() for one in cut}
    assert seen <= possible and len(seen) > 10


@pytest.mark.parametrize(
    ("epochs", "warm_up", "quirk", "expected"),
    [
        (1, False, False, [1]),
        (1, True, False, [1]),
        (4, False, False, [1, 1, 0.1, 0.01]),
        (4, True, False, [0.1, 1, 0.1, 0.01]),
        (4, True, True, [0.1, 0.1, 0.01, 0.001]),
        (4, False, True, [1, 1, 0.1, 0.01]),
    ],
)
def test_the_learning_rate_drops_at_a_half_and_at_three_quarters(
    epochs: int, warm_up: bool, quirk: bool, expected: list[float]
) -> None:
    factor = residual_training.rate_factor(epochs, warm_up, quirk)
    assert [factor(epoch) for epoch in range(epochs)] == pytest.approx(expected)
    standard = residual_training.rate_factor(200, False, False)
    assert [standard(epoch) for epoch in (0, 99, 100, 149, 150, 199)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Training]:
    """Base and changed trainings, other depths, a control, forked from one process."""
    cases = {name: (*BASE, flag, repr(value)) for name, (flag, value) in CHANGES.items()}
    cases |= {"base": BASE, "again": BASE, "bfloat16": (*BASE, "--amp", "bfloat16")}
    cases["resnet32"] = (*BASE, "--model", "resnet32")
    cases["warm"] = (*BASE, "--model", "resnet110", "--epochs", "1", "--upstream-lr-quirk")
    cases["float16"] = (*BASE, "--amp", "float16")
    cases["learns"] = ("--size", "reduced", "--epochs", "40", "--batch-size", "32")
    return train_many("pytorch_resnet_cifar10", tmp_path_factory.mktemp("resnets"), cases)


@pytest.mark.train
def test_the_event_contract(trainings: Mapping[str, Training]) -> None:
    training = trainings["base"]
    assert training.exit_code == 0, training.log
    assert not undeclared_metrics("pytorch_resnet_cifar10", "resnet20", training)
    assert [event["event"] for event in training.events] == ["config", "ready", "epoch", "epoch", "done"]
    assert training.event("config")["data_source"] == "generated/drawings train=128 test=200 side=8"
    assert training.event("done")["epochs"] == 2
    assert 0 <= training.metrics["test_accuracy"] <= 1
    assert {path.name for path in training.folder.iterdir()} == {"checkpoint.pt", "events.jsonl", "training.log"}


@pytest.mark.train
@pytest.mark.parametrize("change", ["base", *CHANGES])
def test_effective_values_are_the_requested_ones_bit_for_bit(change: str, trainings: Mapping[str, Training]) -> None:
    wanted = REQUESTED | ({change: CHANGES[change][1]} if change in CHANGES else {})
    check_effective(trainings[change], wanted)


@pytest.mark.train
def test_every_hyperparameter_changes_the_training(trainings: Mapping[str, Training]) -> None:
    base = trainings["base"].curve("train_loss")
    assert trainings["again"].curve("train_loss") == base
    for name in ("learning_rate", "weight_decay", "momentum", "batch_size", "seed"):
        assert trainings[name].curve("train_loss") != base, name
    assert trainings["epochs"].event("done")["epochs"] == 3


@pytest.mark.train
def test_depth_precision_and_the_quirk_are_real(trainings: Mapping[str, Training]) -> None:
    facts = {name: training.event("config")["facts"] for name, training in trainings.items() if name != "float16"}
    assert facts["resnet32"]["parameters"] > facts["base"]["parameters"]
    assert facts["bfloat16"]["precision"] == "bfloat16"
    assert trainings["bfloat16"].curve("train_loss") != trainings["base"].curve("train_loss")
    assert facts["warm"]["first_learning_rate"] == pytest.approx(0.1 * REQUESTED["learning_rate"])
    assert trainings["warm"].effective["learning_rate"] == REQUESTED["learning_rate"]
    assert trainings["float16"].exit_code == 2 and "needs a GPU" in trainings["float16"].log


@pytest.mark.train
def test_a_reduced_training_learns(trainings: Mapping[str, Training]) -> None:
    assert trainings["learns"].metrics["test_accuracy"] > 0.25, trainings["learns"].log
