"""Cuts ten photographs that scikit-image ships into 32x32 patches: a real ten-class set; the class is the photograph.

scikit-image is never imported (its files are read by path), and it is optional. Patches to train on come from the
left three quarters of a photograph, patches to test on from the rest: no pixel is in both.
"""

import importlib.util
from pathlib import Path

import numpy as np
from _kit.errors import DataError

PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "retina.jpg",
    "rocket.jpg",
    "motorcycle_left.png",
    "brick.png",
    "grass.png",
)
PATCH = 32
TRAIN_SHARE = 0.75
TRAIN_PATCHES, TEST_PATCHES = 1000, 200  # of each photograph


def photo_folder() -> Path | None:
    """The folder with the ten photographs in the installed scikit-image, None when it or one of them is absent."""
    spec = importlib.util.find_spec("skimage")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(location) / "data"
        if all((folder / name).is_file() for name in PHOTOS):
            return folder
    return None


def read_photos(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train patches uint8 [10000, 3, 32, 32], labels, test patches [2000, ...], labels; classes take turns."""
    photos = [_read(folder / name) for name in PHOTOS]
    train = np.stack([_patches(photo, 0, TRAIN_SHARE, TRAIN_PATCHES, seed) for seed, photo in enumerate(photos)], 1)
    test = np.stack([_patches(photo, TRAIN_SHARE, 1, TEST_PATCHES, 100 + i) for i, photo in enumerate(photos)], 1)
    labels = np.arange(len(PHOTOS), dtype=np.uint8)
    return (
        train.reshape(-1, 3, PATCH, PATCH),
        np.tile(labels, TRAIN_PATCHES),
        test.reshape(-1, 3, PATCH, PATCH),
        np.tile(labels, TEST_PATCHES),
    )


def _read(path: Path) -> np.ndarray:
    """The photograph as uint8 [3, height, width]; one channel becomes three equal ones."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("the photographs need Pillow: pip install pillow") from error
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def _patches(photo: np.ndarray, left: float, right: float, count: int, seed: int) -> np.ndarray:
    """`count` patches [count, 3, 32, 32] from the columns between the shares `left` and `right` of the width."""
    _, height, width = photo.shape
    draws = np.random.default_rng(seed)
    rows = draws.integers(0, height - PATCH + 1, count)
    columns = draws.integers(round(width * left), round(width * right) - PATCH + 1, count)
    windows = np.lib.stride_tricks.sliding_window_view(photo, (PATCH, PATCH), axis=(1, 2))
    return windows[:, rows, columns].transpose(1, 0, 2, 3)
