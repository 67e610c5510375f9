"""Person re-identification: sizes of the networks, pictures, the ranking's scores, and what each option does."""

import importlib
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from _kit.errors import DataError

from tests.repos.trainings import REPOS, Training, check_effective, train_many, undeclared_metrics

torch = pytest.importorskip("torch")
sys.path.append(str(REPOS / "Person_reID_baseline_pytorch"))
market, person_networks, person_sets, persons, reid_training, retrieval, shots = (
    importlib.import_module(name)
    for name in ("market", "person_networks", "person_sets", "persons", "reid_training", "retrieval", "shots")
)
RATE = 0.0312345678912345
BASE = (
    "--model",
    "densenet121",
    "--size",
    "reduced",
    "--epochs",
    "2",
    "--batch-size",
    "64",
    "--learning-rate",
    repr(RATE),
)
REQUESTED = {"epochs": 2, "learning_rate": RATE, "dropout": 0.5, "batch_size": 64, "seed": 1334, "size": "reduced"}
CHANGES: dict[str, tuple[str, object]] = {
    "epochs": ("--epochs", 3),
    "learning_rate": ("--learning-rate", 0.05),
    "dropout": ("--dropout", 0.123456789),
    "batch_size": ("--batch-size", 32),
    "seed": ("--seed", 6),
}
NAMES = ("0001_c1s1_000151_01.jpg", "0001_c2s1_000151_01.jpg", "0002_c1s1_000151_01.jpg", "0002_c3s1_000151_01.jpg")


def write_market(root: Path, train: str = "bounding_box_train", gallery: str = "bounding_box_test") -> None:
    """Small pictures in the published layout; two persons to train on, two others to look for."""
    image_module = pytest.importorskip("PIL.Image")
    for folder, first in ((train, 1), ("query", 11), (gallery, 11)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(NAMES):
            person = first + int(name[:4]) - 1
            colour = (20 * person % 256, 60 * number, 90)
            image_module.new("RGB", (64, 128), colour).save(root / folder / f"{person:04d}{name[4:]}")
    for name in ("-1_c1s1_000151_01.jpg", "0000_c2s1_000151_01.jpg"):
        image_module.new("RGB", (30, 80)).save(root / gallery / name)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "count"), [("densenet121", 8_889_943), ("hrnet18", 20_685_379), ("pcb", 29_865_410)])
def test_the_networks_have_the_originals_sizes(model: str, count: int) -> None:
    from _kit.effective import parameter_count

    with torch.device("meta"):
        network = person_networks.build(model, "full", 751, 0.5)
        form = person_networks.FORMS[model, "full"]
        logits = network(torch.empty(2, 3, form.height, form.width))
    assert parameter_count(network) == count
    assert [part.shape for part in logits] == [(2, 751)] * (6 if model == "pcb" else 1)


@pytest.mark.parametrize("model", ["densenet121", "hrnet18", "pcb"])
def test_heads_learn_ten_times_as_fast_and_dropout_reaches_them(model: str) -> None:
    from _kit.effective import dropout

    network = person_networks.build(model, "reduced", 5, 0.25)
    heads, rest = reid_training.make_optimizer(network, 0.04, 5e-4).param_groups
    assert (heads["lr"], rest["lr"]) == (0.04, pytest.approx(0.004))
    assert sum(p.numel() for group in (heads, rest) for p in group["params"]) == sum(
        p.numel() for p in network.parameters()
    )
    assert dropout(network) == 0.25


def test_drawn_persons_are_the_same_every_time_and_strangers_to_each_other() -> None:
    counts = persons.Counts(4, 12, 3, 6, 9, 2, 64)
    sets, again = persons.draw_sets(counts), persons.draw_sets(counts)
    assert sets.train.images.shape == (12, 3, 64, 32) and sets.train.images.dtype == np.uint8
    assert np.array_equal(sets.gallery.images, again.gallery.images)
    assert not set(sets.train.persons) & set(sets.query.persons)
    assert sets.gallery.persons.tolist() == [5, 6, 7] * 3 + [shots.STRANGER] * 2
    assert set(sets.query.cameras) <= set(range(1, 7))
    larger = persons.draw_sets(persons.Counts(4, 12, 3, 6, 9, 2, 128))
    assert larger.train.images.shape == (12, 3, 128, 64)


def test_a_person_looks_more_like_itself_than_like_others() -> None:
    drawn = persons.draw_sets(persons.Counts(8, 48, 1, 1, 1, 0, 64)).train
    middle = drawn.images[:, :, 16:32, 12:20].astype(float).mean(axis=(2, 3))
    own = np.mean([middle[drawn.persons == person].std(axis=0) for person in range(1, 9)])
    assert own < 0.8 * middle.std(axis=0).mean()


@pytest.mark.parametrize(("train", "gallery"), [("bounding_box_train", "bounding_box_test"), ("train_all", "gallery")])
def test_both_layouts_are_found_and_read(train: str, gallery: str, tmp_path: Path) -> None:
    write_market(tmp_path / "Market", train, gallery)
    data = person_sets.load(tmp_path, "auto", "full")
    assert data.provenance.source == "Market-1501-layout train=4 query=4 gallery=6 persons=2"
    assert data.labels.tolist() == [0, 0, 1, 1] and data.shots.train.cameras.tolist() == [1, 2, 1, 3]
    assert data.shots.gallery.persons.tolist() == [-1, 0, 11, 11, 12, 12]
    assert data.shots.gallery.images.shape == (6, 3, 128, 64)
    assert abs(int(data.shots.train.images[0, 0].mean()) - 20) < 5  # red of person 1


def test_a_reduced_set_takes_persons_and_no_junk(tmp_path: Path) -> None:
    write_market(tmp_path)
    data = person_sets.load(tmp_path, "original", "reduced")
    assert data.shots.gallery.persons.tolist() == [11, 11, 12, 12]
    assert data.shots.query.images.shape == (4, 3, 64, 32)


def test_persons_behind_links_are_read(tmp_path: Path) -> None:
    write_market(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    for path in (tmp_path / "query").glob("0012*"):
        path.rename(tmp_path / "elsewhere" / path.name)
    (tmp_path / "query" / "0012").symlink_to(tmp_path / "elsewhere")
    data = person_sets.load(tmp_path, "auto", "full")
    assert data.shots.query.persons.tolist() == [11, 11, 12, 12]


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("again", ".", r"again: a link leads to .*query, which is read already"),
        ("0013", "nowhere", "0013 is a link that leads nowhere"),
    ],
)
def test_a_link_that_cannot_be_followed_is_named(name: str, target: str, message: str, tmp_path: Path) -> None:
    write_market(tmp_path)
    (tmp_path / "query" / name).symlink_to(target)
    with pytest.raises(DataError, match=message):
        market.find_market(tmp_path)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent cannot be read: No such file"):
        list(market._files(tmp_path / "absent"))


def test_a_picture_of_another_format_is_named_and_other_files_are_not_pictures(tmp_path: Path) -> None:
    write_market(tmp_path)
    (tmp_path / "query" / "Thumbs.db").touch()
    assert len(market.find_market(tmp_path).query) == 4
    (tmp_path / "query" / "0013_c1s1_000151_01.bmp").touch()
    with pytest.raises(DataError, match=r"0013_c1s1_000151_01\.bmp: the name is that of a picture.*\.jpg"):
        market.find_market(tmp_path)


@pytest.mark.parametrize(
    ("folders", "missing"),
    [
        (("Market/pytorch/train_all",), "missing: query, gallery"),
        (("Market/pytorch/gallery",), "missing: train_all, query"),
        (("Market/pytorch/query",), "missing: train_all, gallery"),
        (("Market/pytorch/val", "Market/pytorch/query", "Market/pytorch/gallery"), "missing: train\n"),
        (("Market-1501-v15.09.15/bounding_box_train",), "missing: query, bounding_box_test"),
        (("Market-1501-v15.09.15/bounding_box_train", "Market-1501-v15.09.15/query"), "missing: bounding_box_test"),
        (("bounding_box_test",), "missing: bounding_box_train, query"),
        (("Market/pytorch",), "Market holds nothing of Market-1501"),
    ],
)
def test_a_part_of_the_set_is_not_replaced_by_drawn_persons(
    folders: tuple[str, ...], missing: str, tmp_path: Path
) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(DataError, match=missing):
        person_sets.load(tmp_path, "auto", "reduced")


def test_a_folder_of_any_data_set_is_no_part_of_this_one_and_a_whole_set_beside_a_part_is_read(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    assert market.find_market(tmp_path) is None
    (tmp_path / "Market" / "pytorch" / "train_all").mkdir(parents=True)
    write_market(tmp_path / "Market")
    assert len(market.find_market(tmp_path).train) == 4


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)Market-1501 not found.*layout:.*bounding_box_train.*source:.*layumi"):
        person_sets.load(tmp_path, "original", "full")
    write_market(tmp_path)
    damaged = tmp_path / "query" / f"0011{NAMES[0][4:]}"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"0011_c1s1_000151_01\.jpg cannot be read as a picture"):
        person_sets.load(tmp_path, "auto", "full")
    damaged.rename(tmp_path / "query" / "holiday.jpg")
    with pytest.raises(DataError, match=r"holiday\.jpg: the name does not say person and camera"):
        person_sets.load(tmp_path, "auto", "full")
    (tmp_path / "bounding_box_test").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="only a part of Market-1501; missing: bounding_box_test"):
        person_sets.load(tmp_path, "auto", "full")
    (tmp_path / "bounding_box_test").mkdir()
    for path in (tmp_path / "query").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="query holds no pictures"):
        person_sets.load(tmp_path, "auto", "full")


def test_a_picture_of_too_many_pixels_is_named(tmp_path: Path) -> None:
    """More than Pillow opens, by the header alone."""
    write_market(tmp_path)
    (tmp_path / "query" / "0013_c1s1_000151_01.png").write_bytes(b"P6 65535 65535 255\n")
    with pytest.raises(DataError, match=r"0013_c1s1_000151_01\.png cannot be read as a picture: .*exceeds limit"):
        person_sets.load(tmp_path, "auto", "full")


def described(angles: list[float], names: list[int], cameras: list[int]) -> object:
    """Pictures whose vectors point into these directions."""
    vectors = torch.tensor([[math.cos(angle), math.sin(angle)] for angle in angles])
    return retrieval.Described(vectors, torch.tensor(names), torch.tensor(cameras))


def test_the_ranking_is_scored_as_market_1501_asks() -> None:
    query = described([0.0, 0.0], [1, 9], [1, 1])
    # In order: junk, the same camera, a stranger, right, another person, right.
    gallery = described([0.01, 0.02, 0.1, 0.2, 0.3, 0.4], [-1, 1, 0, 1, 2, 1], [2, 1, 2, 2, 2, 3])
    found = retrieval.scores(query, gallery)
    # Right answers at places 2 and 4: ((1/2 + 0/1) / 2 + (2/4 + 1/3) / 2) / 2; person 9 has no answer and is left out.
    assert found["map"] == pytest.approx(((1 / 2 + 0) / 2 + (2 / 4 + 1 / 3) / 2) / 2)
    assert (found["rank1"], found["rank5"], found["rank10"]) == (0, 1, 1)


def test_a_network_that_is_not_finite_has_no_score() -> None:
    query = described([0.0], [1], [1])
    assert retrieval.scores(query, described([0.0], [1], [2]))["map"] == 1
    assert all(map(math.isnan, retrieval.scores(query, described([math.nan], [1], [2])).values()))
    assert all(map(math.isnan, retrieval.scores(query, described([0.0], [2], [2])).values()))


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Training]:
    """Base and changed trainings, the other networks, a control, forked from one process."""
    cases = {name: (*BASE, flag, repr(value)) for name, (flag, value) in CHANGES.items()}
    cases |= {"base": BASE, "again": BASE, "weight_decay": (*BASE, "--weight-decay", "0.0123")}
    cases |= {model: (*BASE, "--model", model, "--epochs", "1") for model in ("hrnet18", "pcb")}
    cases["pcb-rate"] = (*cases["pcb"], "--learning-rate", "0.01")
    cases["pcb-dropout"] = (*cases["pcb"], "--dropout", "0.1")
    cases["shuffled"] = (*BASE, "--shuffle-labels")
    return train_many("Person_reID_baseline_pytorch", tmp_path_factory.mktemp("persons"), cases)


@pytest.mark.train
def test_the_event_contract(trainings: Mapping[str, Training]) -> None:
    for name in ("base", "hrnet18", "pcb"):
        training = trainings[name]
        epochs = ["epoch"] * training.effective["epochs"]
        assert [event["event"] for event in training.events] == ["config", "ready", *epochs, "done"], training.log
        source = training.event("config")["data_source"]
        assert source == "generated/persons train=192 query=48 gallery=144 persons=32"
        assert {"map", "rank1", "rank5", "rank10", "train_loss", "train_accuracy"} == set(training.metrics)
        assert 0 < training.metrics["map"] <= 1
        assert not undeclared_metrics("Person_reID_baseline_pytorch", "pcb", training)
    assert {path.name for path in trainings["base"].folder.iterdir()} == {
        "checkpoint.pt",
        "events.jsonl",
        "training.log",
    }


@pytest.mark.train
@pytest.mark.parametrize("change", ["base", *CHANGES])
def test_effective_values_are_the_requested_ones_bit_for_bit(change: str, trainings: Mapping[str, Training]) -> None:
    wanted = REQUESTED | ({change: CHANGES[change][1]} if change in CHANGES else {})
    check_effective(trainings[change], wanted)


@pytest.mark.train
def test_every_hyperparameter_changes_the_training(trainings: Mapping[str, Training]) -> None:
    base = trainings["base"]
    assert trainings["again"].curve("train_loss") == base.curve("train_loss")
    assert trainings["again"].metrics == base.metrics
    for name in ("learning_rate", "dropout", "batch_size", "seed", "weight_decay", "shuffled"):
        assert trainings[name].curve("train_loss") != base.curve("train_loss"), name
    assert trainings["epochs"].event("done")["epochs"] == 3
    for name in ("pcb-rate", "pcb-dropout"):
        # The loss of the only epoch is that of steps before and after the first change.
        assert trainings[name].curve("train_loss") != trainings["pcb"].curve("train_loss"), name
    assert " shuffled-labels " in trainings["shuffled"].event("config")["data_source"]
