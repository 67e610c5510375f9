"""Reads idx files (the format of MNIST), plain or .gz, and finds the four MNIST files below a data root."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from _kit.errors import DataError

UNSIGNED_BYTE = 0x08
MOST_DIMENSIONS = 3
MNIST_FOLDERS = ("MNIST/raw", "mnist", ".")
MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
MNIST_LAYOUT = f"{', '.join(MNIST_FILES)} (each plain or .gz) in MNIST/raw/, mnist/ or the data folder itself"
MNIST_SOURCE = "the MNIST database of handwritten digits (60,000 / 10,000 digits, 28 x 28)"


def read_idx(path: Path) -> np.ndarray:
    """The array of unsigned bytes in an idx file; DataError when the file is damaged or of another type."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != UNSIGNED_BYTE:
        raise DataError(f"{path} is no idx file of unsigned bytes: it starts with {raw[:4].hex() or 'nothing'}")
    dimensions = raw[3]
    if dimensions > MOST_DIMENSIONS:
        raise DataError(f"{path}: its header says {dimensions} dimensions; MNIST's have {MOST_DIMENSIONS} at most")
    header = 4 + 4 * dimensions
    if len(raw) < header:
        raise DataError(f"{path} ends inside its header")
    shape = tuple(np.frombuffer(raw, ">u4", dimensions, 4).tolist())
    if len(raw) == header or len(raw) - header != math.prod(shape):
        raise DataError(f"{path} holds {len(raw) - header} bytes of data, its header says {shape}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def find_mnist(root: Path) -> dict[str, Path] | None:
    """The four MNIST files by plain name, or None when no folder has any; DataError when only some are there, or none
    in MNIST/raw."""
    for folder in MNIST_FOLDERS:
        found = {name: path for name in MNIST_FILES if (path := _plain_or_gz(root / folder, name))}
        if len(found) == len(MNIST_FILES):
            return found
        if found:
            absent = ", ".join(name for name in MNIST_FILES if name not in found)
            raise DataError(f"{root / folder} holds only a part of MNIST; missing: {absent}")
    if (root / MNIST_FOLDERS[0]).is_dir():
        raise DataError(f"{root / MNIST_FOLDERS[0]} holds nothing of MNIST\n  layout: {MNIST_LAYOUT}")
    return None


def read_mnist(files: dict[str, Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train images [n,28,28], train labels [n], test images, test labels, all uint8."""
    arrays = tuple(read_idx(files[name]) for name in MNIST_FILES)
    for name, images, labels in ((MNIST_FILES[0], *arrays[:2]), (MNIST_FILES[2], *arrays[2:])):
        if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or labels.size == 0 or labels.max() > 9:
            raise DataError(f"{files[name]}: not MNIST: images {images.shape}, labels {labels.shape}")
    return arrays[0], arrays[1], arrays[2], arrays[3]


def _plain_or_gz(folder: Path, name: str) -> Path | None:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None
