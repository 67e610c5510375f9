"""Reads CIFAR-10 from its Python pickles, without torchvision and without trusting them; numpy only.

A pickle can run any code. The reader here builds numpy arrays, dicts, lists and strings and refuses everything else.
"""

import hashlib
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from _kit.errors import DataError

FOLDERS = ("cifar-10-batches-py", "cifar10/cifar-10-batches-py", "data/cifar-10-batches-py", ".")
LAYOUT = "cifar-10-batches-py/ with data_batch_1 ... data_batch_5 and test_batch (the Python pickles)"
SOURCE = (
    "https://www.cs.toronto.edu/~kriz/cifar.html (CIFAR-10, Python version; tar md5 c58f30108f718f92721af3b95e74349a)"
)
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
TEST_FILE = "test_batch"
ROW = 3 * 32 * 32

_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),
}


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that knows numpy arrays and plain values only."""

    def find_class(self, module: str, name: str) -> Any:
        """The allowed constructor of that name, else UnpicklingError."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 file does")
        return _ALLOWED[module, name]


def find_cifar(root: Path) -> Path | None:
    """The folder with the six batch files, or None; DataError when only some are there, or none in the set's own
    folder."""
    for folder in (root / name for name in FOLDERS):
        missing = [name for name in MD5 if not (folder / name).is_file()]
        if not missing:
            return folder
        if len(missing) < len(MD5):
            raise DataError(f"{folder} holds only a part of CIFAR-10; missing: {', '.join(missing)}")
    if (root / FOLDERS[0]).is_dir():
        raise DataError(f"{root / FOLDERS[0]} holds nothing of CIFAR-10\n  layout: {LAYOUT}\n  source: {SOURCE}")
    return None


def read_cifar(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train images uint8 [n, 3, 32, 32], train labels uint8 [n], test images, test labels."""
    batches = [read_batch(folder / name) for name in MD5 if name != TEST_FILE]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    return images, labels, *read_batch(folder / TEST_FILE)


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 3, 32, 32] and labels uint8 [n] of one batch file; DataError when it is none."""
    with path.open("rb") as file:
        table = _load(file, path)
    try:
        values = {key.decode() if isinstance(key, bytes) else str(key): value for key, value in table.items()}
        rows, labels = np.asarray(values["data"]), np.asarray(values["labels"])
    except (AttributeError, KeyError, ValueError) as error:
        raise DataError(f"{path} is no CIFAR-10 batch: {error!r}") from error
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != ROW or labels.shape != rows.shape[:1]:
        raise DataError(f"{path} is no CIFAR-10 batch: data {rows.dtype} {rows.shape}, labels {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{path} is no CIFAR-10 batch: labels {labels.dtype}, not integers")
    if len(labels) == 0 or labels.min() < 0 or labels.max() > 9:
        raise DataError(f"{path} is no CIFAR-10 batch: labels outside 0 to 9")
    return rows.reshape(-1, 3, 32, 32), labels.astype(np.uint8)


def is_original(folder: Path) -> bool:
    """Whether all six files are the published ones, by their md5."""
    return all(hashlib.md5((folder / name).read_bytes()).hexdigest() == known for name, known in MD5.items())


def _load(file: BinaryIO, path: Path) -> Any:
    try:
        return ArrayUnpickler(file, encoding="bytes").load()
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle calls what is allowed with any arguments, and that raises anything
        raise DataError(f"{path} cannot be read as a pickle of arrays: {error}") from error
