"""Loader of the original clone tables on small made-up files, clones of the standard library, thresholds."""

import ast
import csv
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.repos.trainings import REPOS, outputs_of_processes

sys.path.append(str(REPOS / "MRT-OAST"))

import clone_pairs
import clone_tables
import stdlib_programs
import thresholds
from _kit.errors import DataError
from trees import preorder

TREES = ("Root [ If [ a b ] Call ]", "Root [ For [ c ] b b ]")
DICTIONARY = ("Root", "If", "For", "Call", "a", "b", "c")


def write_table(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_ojclone(root: Path, programs: int = 16) -> Path:
    """A small set in OJClone's layout: programs of two problems; pairs of one problem are clones."""
    folder = root / "MRT-OAST/origindata"
    folder.mkdir(parents=True)
    rows: list[list[object]] = [
        [i % 2, f"{i}.txt", "int main() {\n}\n", "X [ Y ]", TREES[i % 2] if i < 2 else f"{TREES[i % 2][:-1]} c ]"]
        for i in range(programs)
    ]
    write_table(folder / "OJClone_with_AST+OAST.csv", ["index", "file", "code", "ast", "oast"], rows)
    pairs = [
        [i % 2, f"{i}.txt", j % 2, f"{j}.txt", 1 if i % 2 == j % 2 else (-1 if i else 0)]
        for i in range(programs)
        for j in range(i)
    ]
    for split, part in (("train", pairs[:48]), ("valid", pairs[48:72]), ("test", pairs[72:96])):
        write_table(folder / f"OJClone_{split}.csv", ["index1", "file1", "index2", "file2", "label"], part)
    (folder / "OJClone_OAST_dictionary.txt").write_text("\n".join(DICTIONARY) + "\n")
    return folder


def test_the_original_layout_becomes_sequences_and_pairs(tmp_path: Path) -> None:
    write_ojclone(tmp_path)
    data = clone_pairs.load(tmp_path, size="reduced")
    assert data.provenance.source == "OJClone OAST train=48 valid=24 test=24"
    assert data.vocabulary == len(DICTIONARY) + 1
    (left, right), label = data.train[0][0], data.train[1][0]
    # The first pair is (1, 0): rows of two different problems.
    assert label == 0
    rows = {tuple(data.preorder[row][:6]) for row in (left, right)}
    assert rows == {(1, 2, 5, 6, 4, 0), (1, 3, 7, 6, 6, 0)}
    assert tuple(data.postorder[left][:6]) in {(5, 6, 2, 4, 1, 0), (7, 3, 6, 6, 1, 0)}
    assert set(data.train[1].tolist()) == {0, 1}


def test_a_missing_set_is_described(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        clone_pairs.load(tmp_path, dataset="GCJ")
    assert "GCJ_train11.csv" in str(caught.value) and "source: " in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("folder", ["MRT-OAST/origindata", "origindata"])
def test_a_folder_of_the_sets_with_none_in_it_is_not_passed_over(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "origindata.z01").touch()
    with pytest.raises(DataError, match=r"(?s)a set of clones not found.*layout: .*source: the split archive"):
        clone_pairs.load(tmp_path, size="reduced")
    assert "python-stdlib" in clone_pairs.load(tmp_path, "packaged", size="reduced").provenance.source


def test_a_part_of_a_set_is_an_error_that_names_the_rest(tmp_path: Path) -> None:
    (write_ojclone(tmp_path) / "OJClone_valid.csv").unlink()
    with pytest.raises(DataError, match=r"only a part of OJClone; missing: OJClone_valid\.csv"):
        clone_tables.find(tmp_path, "auto", "OAST")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("OJClone_train.csv", "h\n0,0.txt,1,1.txt,2\n", "a label is 1, 0 or -1, not '2'"),
        ("OJClone_train.csv", "h\n0,0.txt,1\n", "row 1 has 3 columns, not 5"),
        ("OJClone_train.csv", "h\n0,0.txt,1,99.txt,1\n", "the first is"),
        ("OJClone_test.csv", "h\n0,0.txt,1,1.txt,0\n", "needs clones and others"),
        ("OJClone_OAST_dictionary.txt", "Root\n", "the dictionary lacks the label"),
        (
            "OJClone_OAST_dictionary.txt",
            "\n".join([*DICTIONARY, "If"]),
            r"dictionary\.txt lists the label 'If' more than once",
        ),
        (
            "OJClone_with_AST+OAST.csv",
            "h\n" + "".join(f"{i % 2},{i}.txt,,,A ]\n" for i in range(16)),
            "row 1: a bracket",
        ),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, file: str, text: str, message: str) -> None:
    (write_ojclone(tmp_path) / file).write_text(text)
    with pytest.raises(DataError, match=message):
        clone_pairs.load(tmp_path, size="reduced")


def test_files_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    folder = write_ojclone(tmp_path)
    plain = clone_pairs.load(tmp_path, size="reduced")
    for path in folder.iterdir():
        path.write_text(path.read_text(), encoding="utf-8-sig")
    assert clone_pairs.load(tmp_path, size="reduced").provenance == plain.provenance


def test_a_dictionary_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (write_ojclone(tmp_path) / "OJClone_OAST_dictionary.txt").write_bytes(b"Root\nIf\xff\n")
    with pytest.raises(DataError, match=r"OJClone_OAST_dictionary\.txt is no text in UTF-8"):
        clone_pairs.load(tmp_path, size="reduced")


def test_a_program_may_be_there_twice_only_with_the_same_tree(tmp_path: Path) -> None:
    path = write_ojclone(tmp_path) / "OJClone_with_AST+OAST.csv"
    once = clone_pairs.load(tmp_path, size="reduced")
    with path.open("a", newline="") as file:
        csv.writer(file).writerow([0, "0.txt", "int main() {\n}\n", "X [ Y ]", TREES[0]])
    assert clone_pairs.load(tmp_path, size="reduced").provenance == once.provenance
    with path.open("a", newline="") as file:
        csv.writer(file).writerow([0, "0.txt", "int main() {\n}\n", "X [ Y ]", TREES[1]])
    with pytest.raises(DataError, match=r"row 18: the program .*0\.txt.* is in an earlier row with another tree"):
        clone_pairs.load(tmp_path, size="reduced")


def test_functions_of_a_library_are_found_by_size_and_without_what_does_not_parse(tmp_path: Path) -> None:
    body = "\n".join(f"    v{i} = a + {i}" for i in range(8))
    (tmp_path / "good.py").write_text(f"def big(a):\n    'Says much.'\n{body}\n\ndef small(a):\n    return a\n")
    (tmp_path / "bad.py").write_text("def (:\n")
    (found,) = stdlib_programs.find_functions(tmp_path)
    assert found.name == "big" and isinstance(found.body[0], ast.Assign)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer modules and pairs than the reduced size has."""
    few = dataclasses.replace(clone_pairs.SIZES["reduced"], every_module=8, pairs=(200, 30, 40))
    monkeypatch.setitem(clone_pairs.SIZES, "reduced", few)


@pytest.mark.usefixtures("small")
def test_clones_of_the_own_library_are_balanced_repeatable_and_split_by_function() -> None:
    data = clone_pairs.load(None, size="reduced")
    version = ".".join(map(str, sys.version_info[:3]))
    assert data.provenance.source == f"python-stdlib-{version} OAST train=200 valid=30 test=40"
    seen = []
    for pairs, labels in (data.train, data.valid, data.test):
        assert labels.mean() == 0.5 and not (pairs[:, 0] == pairs[:, 1]).any()
        seen.append(set(pairs.flatten().tolist()))
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert data.preorder.max() == data.vocabulary - 1 and (data.preorder[:, 0] > 0).all()
    same = [np.array_equal(data.preorder[a], data.preorder[b]) for a, b in data.train[0][data.train[1] == 1]]
    assert np.mean(same) < 0.1


@pytest.mark.usefixtures("small")
def test_the_control_shuffles_what_training_sees_and_nothing_else(tmp_path: Path) -> None:
    write_ojclone(tmp_path)
    true = clone_pairs.load(tmp_path, size="reduced")
    control = clone_pairs.load(tmp_path, size="reduced", shuffle_seed=1)
    assert control.provenance.source.startswith("OJClone shuffled-labels OAST ")
    for split in ("train", "valid", "test"):
        (pairs, labels), (same_pairs, shuffled) = getattr(true, split), getattr(control, split)
        assert np.array_equal(pairs, same_pairs) and labels.sum() == shuffled.sum()
        assert np.array_equal(labels, shuffled) == (split == "test")


def test_clone_groups_hold_different_trees_of_one_function() -> None:
    functions = stdlib_programs.find_functions(stdlib_programs.library(), every_module=12)
    groups = stdlib_programs.clone_groups(functions, "OAST", variants=3, longest=60)
    assert len(groups) > 50
    for group in groups:
        assert 2 <= len(group) <= 4 and len(preorder(group[0])) <= 60
        assert all(tree not in group[:place] for place, tree in enumerate(group))


def test_the_best_threshold_has_the_highest_f1() -> None:
    labels, similarities = np.array([0, 0, 1, 1]), np.array([0.2, 0.55, 0.6, 0.9])
    assert thresholds.best(labels, similarities) == 0.55
    assert thresholds.decide(similarities, 0.55).tolist() == [0, 0, 1, 1]


def test_the_data_do_not_depend_on_the_order_of_sets() -> None:
    code = (
        "import clone_pairs as c, dataclasses as d; "
        "c.SIZES['reduced'] = d.replace(c.SIZES['reduced'], every_module=12, pairs=(100, 20, 20)); "
        "print(c.load(None, size='reduced').provenance)"
    )
    assert len(set(outputs_of_processes("MRT-OAST", code))) == 1
