"""From trees to arrays: sequences of label ids, pairs of programs, their split; needs numpy only.

The pairs are the same for every seed, so that a seed changes the training and never the data.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import clone_tables
import numpy as np
import stdlib_programs
from _kit.data import Provenance, data_root, digest
from _kit.errors import DataError
from trees import Node, postorder, preorder

SPLIT_SEED = 20_250_427
TRAIN_SHARE, VALID_SHARE = 0.75, 0.1
NEIGHBOURHOOD = 5


@dataclass(frozen=True)
class DataSize:
    """Nodes per sequence, the most pairs to take, rewritten forms of each function; every_module-th module is read,
    and functions of more than longest nodes are left out (None: none are)."""

    length: int
    pairs: tuple[int, int, int]
    variants: int
    every_module: int
    longest: int | None


SIZES = {
    "full": DataSize(256, (40_000, 5_000, 5_000), 3, 1, None),
    "reduced": DataSize(32, (1024, 200, 400), 2, 2, 32),
}

Pairs = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class CloneData:
    """Sequences of label ids uint16 [programs, length], 0 behind their end; pairs int32 [n, 2] of rows, and labels
    uint8 [n], for three splits; the number of ids with 0."""

    preorder: np.ndarray
    postorder: np.ndarray
    train: Pairs
    valid: Pairs
    test: Pairs
    vocabulary: int
    size: str
    provenance: Provenance


def load(
    data: Path | None,
    source: str = "auto",
    dataset: str = "auto",
    ast_type: str = "OAST",
    size: str = "full",
    shuffle_seed: int | None = None,
) -> CloneData:
    """The pairs for one training; DataError when a set that was asked for is missing.

    `source` is "auto", "original" or "packaged" (the standard library). `shuffle_seed` permutes the labels that the
    training sees (train and valid): the control that cannot learn.
    """
    chosen = SIZES[size]
    name, trees, splits, dictionary = _from_tables(data, source, dataset, ast_type) or _from_library(ast_type, chosen)
    splits = [_thinned(pairs, most) for pairs, most in zip(splits, chosen.pairs, strict=True)]
    if shuffle_seed is not None:
        name += " shuffled-labels"
        draw = np.random.default_rng(shuffle_seed)
        splits[:2] = [(pairs, draw.permutation(labels)) for pairs, labels in splits[:2]]
    ids = {label: number for number, label in enumerate(dictionary, start=1)}
    before = _sequences((preorder(tree) for tree in trees), ids, chosen.length)
    behind = _sequences((postorder(tree) for tree in trees), ids, chosen.length)
    arrays = [before, behind, *(array for split in splits for array in split)]
    counts = " ".join(f"{part}={len(split[1])}" for part, split in zip(("train", "valid", "test"), splits, strict=True))
    provenance = Provenance(f"{name} {ast_type} {counts}", digest(arrays))
    return CloneData(before, behind, *splits, len(ids) + 1, size, provenance)


Source = tuple[str, list[Node], list[Pairs], list[str]]


def _from_tables(data: Path | None, source: str, dataset: str, ast_type: str) -> Source | None:
    if source == "packaged":
        return None
    root = data_root(data)
    tables = clone_tables.find(root, dataset, ast_type) if root is not None else None
    if tables is None:
        if source == "original" or dataset != "auto":
            raise clone_tables.missing(dataset, ast_type, root)
        return None
    rows = {program: row for row, program in enumerate(tables.trees)}
    splits = []
    for part in (tables.train, tables.valid, tables.test):
        if len({label for _, _, label in part}) != 2:
            raise DataError(f"{tables.name}: every file of pairs needs clones and others")
        pairs = np.array([(rows[left], rows[right]) for left, right, _ in part], dtype=np.int32)
        splits.append((pairs, np.array([label for _, _, label in part], dtype=np.uint8)))
    return tables.name, list(tables.trees.values()), splits, tables.dictionary


def _from_library(ast_type: str, chosen: DataSize) -> Source:
    functions = stdlib_programs.find_functions(stdlib_programs.library(), chosen.every_module)
    groups = stdlib_programs.clone_groups(functions, ast_type, chosen.variants, chosen.longest)
    trees = [tree for group in groups for tree in group]
    rows = np.split(np.arange(len(trees), dtype=np.int32), np.cumsum([len(group) for group in groups])[:-1])
    draw = np.random.default_rng(SPLIT_SEED)
    order = draw.permutation(len(rows))
    first, second = int(TRAIN_SHARE * len(rows)), int((TRAIN_SHARE + VALID_SHARE) * len(rows))
    parts = (order[:first], order[first:second], order[second:])
    lengths = np.array([len(preorder(group[0])) for group in groups])
    splits = [
        _drawn_pairs([rows[group] for group in part], lengths[part], count, draw)
        for part, count in zip(parts, chosen.pairs, strict=True)
    ]
    dictionary = sorted({label for tree in trees for label in preorder(tree)})
    return stdlib_programs.library_name(), trees, splits, dictionary


def _drawn_pairs(groups: Sequence[np.ndarray], lengths: np.ndarray, most: int, draw: np.random.Generator) -> Pairs:
    """Half clones (two forms of one function), half others; of these, every second one of a similar length."""
    clones = [(a, b) for group in groups for i, a in enumerate(group) for b in group[i + 1 :]]
    clones = [clones[row] for row in draw.permutation(len(clones))[: most // 2]]
    by_length = np.argsort(lengths, kind="stable")
    others = [_other_pair(groups, by_length, number % 2 == 0, draw) for number in range(len(clones))]
    order = draw.permutation(2 * len(clones))
    pairs = np.array(clones + others, dtype=np.int32)[order]
    return pairs, (order < len(clones)).astype(np.uint8)


def _other_pair(
    groups: Sequence[np.ndarray], by_length: np.ndarray, alike: bool, draw: np.random.Generator
) -> tuple[int, int]:
    """Forms of two different functions; `alike`: neighbours by length."""
    place = int(draw.integers(len(groups)))
    if alike:
        step = int(draw.integers(1, NEIGHBOURHOOD + 1))
        other = place + step if place + step < len(groups) else place - step
    else:
        other = (place + int(draw.integers(1, len(groups)))) % len(groups)
    left, right = groups[by_length[place]], groups[by_length[other]]
    return int(draw.choice(left)), int(draw.choice(right))


def _thinned(split: Pairs, most: int) -> Pairs:
    pairs, labels = split
    rows = np.unique(np.linspace(0, len(labels) - 1, min(most, len(labels))).astype(int))
    return pairs[rows], labels[rows]


def _sequences(orders: Iterable[list[str]], ids: dict[str, int], length: int) -> np.ndarray:
    try:
        rows = [[ids[label] for label in order[:length]] for order in orders]
    except KeyError as error:
        raise DataError(f"the dictionary lacks the label {error}") from error
    table = np.zeros((len(rows), length), dtype=np.uint16)
    for row, labels in enumerate(rows):
        table[row, : len(labels)] = labels
    return table
