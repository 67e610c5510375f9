"""Reads clone sets in the original layout: a table of programs with their trees, three files of pairs, a dictionary.

It knows the three sets OJClone, GCJ and BCB by their file names, and cuts nothing.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from _kit.data import missing_data
from _kit.errors import DataError
from trees import Node, parse

SETS = {"OJClone": "OJClone_train.csv", "GCJ": "GCJ_train11.csv", "BCB": "BCB_train.csv"}
FOLDERS = ("MRT-OAST/origindata", "origindata", "MRT-OAST", ".")
OWN_FOLDERS = FOLDERS[:2]
SOURCE = "the split archive in the folder origindata of https://github.com/UnbSky/MRT-OAST"
TREE_COLUMNS = {"AST": 3, "OAST": 4}
COLUMNS = 5
LARGEST_FIELD = 2**31 - 1

Program = tuple[str, str]
Pair = tuple[Program, Program, int]


@dataclass(frozen=True)
class CloneTables:
    """A set by name: the tree of each program, the pairs with label 1 (clones) or 0, labels by id (from 1)."""

    name: str
    trees: dict[Program, Node]
    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]
    dictionary: list[str]


def file_names(name: str, ast_type: str) -> tuple[str, ...]:
    """The files of a set: programs, train, valid and test pairs, dictionary."""
    pairs = (SETS[name], f"{name}_valid.csv", f"{name}_test.csv")
    return (f"{name}_with_AST+OAST.csv", *pairs, f"{name}_{ast_type}_dictionary.txt")


def find(root: Path, dataset: str, ast_type: str) -> CloneTables | None:
    """The named set below the data root, or with "auto" the first of all; None when there is none.

    DataError when only a part of a set is there, when it is not in its layout, or when there is none in the sets' own
    folder.
    """
    for name in SETS if dataset == "auto" else (dataset,):
        files = file_names(name, ast_type)
        folder = _complete_folder(root, name, files)
        if folder is not None:
            return _read(name, [folder / file for file in files], TREE_COLUMNS[ast_type])
    if any((root / folder).is_dir() for folder in OWN_FOLDERS):
        raise missing(dataset, ast_type, root)
    return None


def missing(dataset: str, ast_type: str, root: Path | None) -> DataError:
    """The error for a set that was asked for and is not there."""
    names = list(SETS) if dataset == "auto" else [dataset]
    layout = "; or ".join(f"origindata/{{{', '.join(file_names(name, ast_type))}}}" for name in names)
    places = [root / folder for folder in FOLDERS] if root is not None else []
    return missing_data("a set of clones" if dataset == "auto" else dataset, layout, SOURCE, places)


def _complete_folder(root: Path, name: str, files: tuple[str, ...]) -> Path | None:
    for folder in (root / place for place in FOLDERS):
        absent = [file for file in files if not (folder / file).is_file()]
        if not absent:
            return folder
        if len(absent) < len(files):
            raise DataError(f"{folder} holds only a part of {name}; missing: {', '.join(absent)}\n  source: {SOURCE}")
    return None


def _read(name: str, paths: list[Path], column: int) -> CloneTables:
    train, valid, test = (list(_pairs(path)) for path in paths[1:4])
    needed = {program for pairs in (train, valid, test) for pair in pairs for program in pair[:2]}
    trees = _trees(paths[0], column, needed)
    absent = sorted(needed - trees.keys())
    if absent:
        raise DataError(f"{paths[0]}: {len(absent)} programs of the pairs are not in it, the first is {absent[0]}")
    return CloneTables(name, trees, train, valid, test, _dictionary(paths[4]))


def _trees(path: Path, column: int, needed: set[Program]) -> dict[Program, Node]:
    texts: dict[Program, str] = {}
    trees: dict[Program, Node] = {}
    for number, row in _rows(path, COLUMNS):
        program = (row[0].strip(), row[1].strip())
        if program not in needed:
            continue
        if texts.setdefault(program, row[column]) != row[column]:
            raise DataError(f"{path}: row {number}: the program {program} is in an earlier row with another tree")
        try:
            trees[program] = parse(row[column])
        except ValueError as error:
            raise DataError(f"{path}: row {number}: {error}") from error
    return trees


def _dictionary(path: Path) -> list[str]:
    try:
        labels = path.read_text(encoding="utf-8-sig").split()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error}") from error
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        raise DataError(f"{path} lists the label {repeated[0]!r} more than once; a label has one line, its id")
    return labels


def _pairs(path: Path) -> Iterator[Pair]:
    for number, row in _rows(path, COLUMNS):
        index1, file1, index2, file2, label = (field.strip() for field in row[:COLUMNS])
        if label not in ("-1", "0", "1"):
            raise DataError(f"{path}: row {number}: a label is 1, 0 or -1, not {label!r}")
        yield (index1, file1), (index2, file2), int(label == "1")


def _rows(path: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """The rows behind the header, numbered from 1."""
    csv.field_size_limit(LARGEST_FIELD)
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        for number, row in enumerate(csv.reader(file)):
            if number and row:
                if len(row) < columns:
                    raise DataError(f"{path}: row {number} has {len(row)} columns, not {columns}")
                yield number, row
