"""Makes `_kit` importable and small data sets for the trainers' tests."""

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.repos.trainings import REPOS

if str(REPOS) not in sys.path:
    sys.path.append(str(REPOS))


def write_idx(path: Path, array: np.ndarray, packed: bool = False) -> None:
    """Write unsigned bytes as an idx file, gzipped if `packed`."""
    raw = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if packed else raw)


def small_digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [count, 28, 28] whose bright row tells the label, with noise, and labels [count]."""
    draws = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = draws.integers(0, 80, (count, 28, 28))
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 4 : 2 * label + 6, 6:22] += 170
    return images, labels


def write_mnist(folder: Path, train: int = 48, test: int = 20, packed: bool = False) -> None:
    """A whole set of MNIST's four files with made-up digits."""
    suffix = ".gz" if packed else ""
    for name, count, seed in (("train", train, 1), ("t10k", test, 2)):
        images, labels = small_digits(count, seed)
        write_idx(folder / f"{name}-images-idx3-ubyte{suffix}", images, packed)
        write_idx(folder / f"{name}-labels-idx1-ubyte{suffix}", labels, packed)


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with 48 + 20 made-up digits in MNIST's layout."""
    root = tmp_path_factory.mktemp("data")
    write_mnist(root / "MNIST" / "raw")
    return root


# `make models` runs the trainings of the larger repositories, `make test` does not.
LARGER = ("bug_localization", "mrt_oast", "person_reid", "resnet_cifar10", "vulberta")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("train") and any(name in item.path.name for name in LARGER):
            item.add_marker(pytest.mark.models)
