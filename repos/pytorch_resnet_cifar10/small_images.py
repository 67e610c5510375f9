"""Chooses the images of a training: CIFAR-10 where a data root has it, else photographs, else drawings; numpy only."""

from dataclasses import dataclass
from pathlib import Path

import cifar
import drawings
import numpy as np
import photos
from _kit.data import Provenance, data_root, digest, missing_data

FULL_DRAWN = (50_000, 10_000)
REDUCED_TRAIN, REDUCED_TEST = 128, 200
REDUCED_SIDE = 8
TRAIN_SEED, TEST_SEED = 11, 12

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Images:
    """Images uint8 [n, 3, side, side] and labels uint8 [n] to train and to test on; `size` made them."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    size: str
    provenance: Provenance


def load_images(
    data: Path | None, source: str, size: str, shuffle_seed: int | None = None, train_limit: int | None = None
) -> Images:
    """The images for one training; DataError when the wanted ones are nowhere.

    "reduced" takes 128 and 200 of them and averages them down to 8 x 8. `shuffle_seed` permutes the training labels.
    `train_limit`: only so many images to train on, the first.
    """
    name, arrays = _find(data, source, size)
    train_images, train_labels, test_images, test_labels = arrays
    if size == "reduced":
        train_images, train_labels = shrink(train_images[:REDUCED_TRAIN]), train_labels[:REDUCED_TRAIN]
        test_images, test_labels = shrink(test_images[:REDUCED_TEST]), test_labels[:REDUCED_TEST]
    train_images, train_labels = train_images[:train_limit], train_labels[:train_limit]
    if shuffle_seed is not None:
        name += " shuffled-labels"
        train_labels = np.random.default_rng(shuffle_seed).permutation(train_labels)
    used = (train_images, train_labels, test_images, test_labels)
    text = f"{name} train={len(train_images)} test={len(test_images)} side={train_images.shape[-1]}"
    return Images(*used, size=size, provenance=Provenance(text, digest(used)))


def shrink(images: np.ndarray) -> np.ndarray:
    """Images [n, 3, 8, 8]: the rounded means of squares of pixels."""
    count, channels, side, _ = images.shape
    step = side // REDUCED_SIDE
    squares = images.reshape(count, channels, REDUCED_SIDE, step, REDUCED_SIDE, step)
    return np.rint(squares.mean(axis=(3, 5))).astype(np.uint8)


def _find(data: Path | None, source: str, size: str) -> tuple[str, Arrays]:
    root = data_root(data)
    folder = cifar.find_cifar(root) if root is not None and source in ("auto", "original") else None
    if folder is not None:
        return "CIFAR-10" if cifar.is_original(folder) else "CIFAR-10-layout", cifar.read_cifar(folder)
    if source == "original":
        raise missing_data("CIFAR-10", cifar.LAYOUT, cifar.SOURCE, [root] if root is not None else [])
    pictures = photos.photo_folder() if source in ("auto", "packaged") else None
    if pictures is not None:
        return "scikit-image/photos", photos.read_photos(pictures)
    if source == "packaged":
        raise missing_data("scikit-image's photographs", ", ".join(photos.PHOTOS), "pip install scikit-image")
    train, test = (REDUCED_TRAIN, REDUCED_TEST) if size == "reduced" else FULL_DRAWN
    return "generated/drawings", (*drawings.draw_images(train, TRAIN_SEED), *drawings.draw_images(test, TEST_SEED))
