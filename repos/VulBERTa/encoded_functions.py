"""From labelled C functions to arrays of token ids: choice of the set, its size, the vocabulary; needs numpy only.

The vocabulary is learnt from the training functions alone. Generated functions are the same for every seed, so that
a seed changes the training and never the data.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import bpe
import numpy as np
import vulnerability_sets
from _kit.data import Provenance, data_root, digest, missing_data
from _kit.errors import DataError
from c_functions import generate
from c_lexer import lex
from vulnerability_sets import Functions, Split

GENERATED_SEED = 20_220_718


@dataclass(frozen=True)
class DataSize:
    """Ids in the vocabulary, ids per function, the most functions to take, and what to generate without a set."""

    vocabulary: int
    length: int
    generated: tuple[int, int, int]
    most: tuple[int, int, int] | None
    fillers: tuple[int, int]
    integers: int


SIZES = {
    "full": DataSize(50_000, 1024, (4643, 596, 618), None, (1, 8), 4),
    "reduced": DataSize(2_000, 80, (800, 300, 600), (800, 300, 600), (0, 1), 2),
}


@dataclass(frozen=True)
class Encoded:
    """Ids uint16 [n, length] and labels uint8 [n] of the three splits."""

    train: tuple[np.ndarray, np.ndarray]
    valid: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    size: str
    symbols: int
    provenance: Provenance


def load(
    data: Path | None,
    source: str = "auto",
    dataset: str = "auto",
    size: str = "full",
    allow_pickle: bool = False,
    shuffle_seed: int | None = None,
) -> Encoded:
    """The functions for one training; DataError when a set that was asked for is missing.

    `source` is "auto", "original" or "generated"; no package is known that has such functions. `shuffle_seed` permutes
    the labels that the training sees (train and valid): the control that cannot learn.
    """
    chosen = SIZES[size]
    functions = _functions(data, source, dataset, allow_pickle, chosen)
    if chosen.most is not None:
        functions = _thinned(functions, chosen.most)
    if shuffle_seed is not None:
        functions = _shuffled(functions, shuffle_seed)
    return encode(functions, size)


def encode(functions: Functions, size: str) -> Encoded:
    """Lex and encode the three splits with a vocabulary learnt from the first."""
    chosen = SIZES[size]
    splits = (functions.train, functions.valid, functions.test)
    for name, (_, labels) in zip(("train", "valid", "test"), splits, strict=True):
        if len(set(labels)) != 2:
            raise DataError(f"{functions.name}: the {name} functions need both labels; found {sorted(set(labels))}")
    words = [lex(text) for text in functions.train[0]]
    vocabulary = bpe.train(Counter(word for function in words for word in function), chosen.vocabulary)
    train, valid, test = (_arrays(vocabulary, split, chosen.length) for split in splits)
    counts = f"train={len(train[1])} valid={len(valid[1])} test={len(test[1])}"
    provenance = Provenance(f"{functions.name} {counts}", digest([*train, *valid, *test]))
    return Encoded(train, valid, test, size, len(vocabulary.vocabulary), provenance)


def _functions(data: Path | None, source: str, dataset: str, allow_pickle: bool, chosen: DataSize) -> Functions:
    if source in ("auto", "original"):
        root = data_root(data)
        found = vulnerability_sets.find(root, dataset, allow_pickle) if root is not None else None
        if found is not None:
            return found
        if source == "original" or dataset != "auto":
            raise vulnerability_sets.missing(dataset, root)
    if source == "packaged":
        raise missing_data("a package with labelled C functions", "none is known", "use --data-source generated")
    return _generated(chosen)


def _generated(chosen: DataSize) -> Functions:
    train, valid, _test = chosen.generated
    made = generate(sum(chosen.generated), GENERATED_SEED, chosen.fillers, chosen.integers)
    rows = made[:train], made[train : train + valid], made[train + valid :]
    return Functions(
        "generated/c-functions", *(([code for code, _ in part], [label for _, label in part]) for part in rows)
    )


def _thinned(functions: Functions, most: tuple[int, int, int]) -> Functions:
    splits = zip((functions.train, functions.valid, functions.test), most, strict=True)
    return Functions(functions.name, *(_evenly(split, count) for split, count in splits))


def _evenly(split: Split, most: int) -> Split:
    texts, labels = split
    rows = np.unique(np.linspace(0, len(texts) - 1, min(most, len(texts))).astype(int)).tolist()
    return [texts[row] for row in rows], [labels[row] for row in rows]


def _shuffled(functions: Functions, seed: int) -> Functions:
    draw = np.random.default_rng(seed)
    train, valid = ((texts, draw.permutation(labels).tolist()) for texts, labels in (functions.train, functions.valid))
    return Functions(f"{functions.name} shuffled-labels", train, valid, functions.test)


def _arrays(vocabulary: bpe.Bpe, split: Split, length: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([vocabulary.encode(lex(text), length) for text in split[0]], dtype=np.uint16)
    return ids, np.array(split[1], dtype=np.uint8)
