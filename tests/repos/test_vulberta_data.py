"""C lexer, byte-pair encoding, generated functions, and the loaders of the original layouts on small made-up files."""

import csv
import json
import pickle
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.repos.trainings import REPOS, outputs_of_processes

sys.path.append(str(REPOS / "VulBERTa"))

import bpe
import c_functions
import encoded_functions
import vulnerability_sets
from _kit.errors import DataError
from c_lexer import lex

FUNCTION = "int f(int a)\n{\n  return a; /* fine */\n}\n"
FAULTY = "int g(char *p)\n{\n  strcpy(buf, p); // not fine\n}\n"


def functions(count: int) -> list[dict[str, object]]:
    """Rows in Devign's form; every third one is faulty."""
    return [
        {"func": FAULTY if i % 3 == 0 else FUNCTION, "target": int(i % 3 == 0), "project": "p"} for i in range(count)
    ]


def write_devign(root: Path, count: int = 60) -> Path:
    """A small set in Devign's layout below the data root."""
    folder = root / "VulBERTa/data/finetune/devign"
    folder.mkdir(parents=True)
    (folder / "Devign.json").write_text(json.dumps(functions(count)))
    rows = np.arange(count)
    for name, part in (("train", rows[:-24]), ("valid", rows[-24:-12]), ("test", rows[-12:])):
        (folder / f"{name}.txt").write_text("\n".join(map(str, part)) + "\n")
    return folder


def write_d2a(root: Path, labelled_test: bool) -> None:
    folder = root / "finetune/d2a/function"
    folder.mkdir(parents=True)
    for split, count in (("train", 12), ("dev", 6), ("test", 9)):
        with (folder / f"d2a_lbv1_function_{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            labelled = split != "test" or labelled_test
            writer.writerow(["id", "label", "code"] if labelled else ["id", "code"])
            for i, row in enumerate(functions(count)):
                writer.writerow([i, row["target"], row["func"]] if labelled else [i, row["func"]])


def test_the_lexer_knows_cs_tokens_and_drops_comments_and_space() -> None:
    code = 'x>>=1; /* a\nb */ s = L"a\\"b"; // no\n if (p->n != 0x1Fu || c == \'\\n\') f(1.5e-3, ...);\n#define A'
    assert lex(code) == [
        *["x", ">>=", "1", ";", "s", "=", 'L"a\\"b"', ";", "if", "(", "p", "->", "n", "!=", "0x1Fu", "||", "c", "=="],
        *["'\\n'", ")", "f", "(", "1.5e-3", ",", "...", ")", ";", "#", "define", "A"],
    ]


def test_the_lexer_takes_whatever_comes() -> None:
    assert lex('char c = "open \x00 é') == ["char", "c", "=", '"', "open", "\x00", "é"]
    assert lex("a /* never closed") == ["a"]
    assert lex("") == []


def test_frequent_pairs_become_symbols_and_rare_words_stay_in_pieces() -> None:
    made = bpe.train(Counter({"free": 9, "from": 3, "xyz": 1}), 100)
    assert [made.vocabulary[symbol] for symbol in bpe.SPECIALS] == [0, 1, 2, 3, 4]
    assert made.word_ids("free") == [made.vocabulary["free"]]
    assert made.word_ids("frxq") == [made.vocabulary["fr"], made.vocabulary["x"], bpe.UNKNOWN]


def test_a_vocabulary_has_no_more_ids_than_asked_for_and_is_the_same_each_time() -> None:
    counts = Counter(word for code, _ in c_functions.generate(80, 1) for word in lex(code))
    first, second = bpe.train(counts, 120), bpe.train(dict(reversed(counts.items())), 120)
    assert len(first.vocabulary) == 120 and max(first.vocabulary.values()) == 119
    assert first.vocabulary == second.vocabulary
    words = lex(FAULTY)
    assert first.encode(words, 64) == second.encode(words, 64)


def test_encoded_functions_start_end_and_are_filled_up_or_cut() -> None:
    made = bpe.train(Counter({"ab": 5}), 20)
    symbol = made.vocabulary["ab"]
    assert made.encode(["ab", "ab"], 6) == [bpe.START, symbol, symbol, bpe.END, bpe.PAD, bpe.PAD]
    assert made.encode(["ab"] * 9, 4) == [bpe.START, symbol, symbol, bpe.END]


def test_generated_functions_repeat_and_have_both_labels_and_some_noise() -> None:
    made = c_functions.generate(400, 3)
    assert made == c_functions.generate(400, 3) != c_functions.generate(400, 4)
    assert 160 < sum(label for _, label in made) < 240
    unbounded = [label for code, label in made if "strcpy(" in code]
    assert 0.8 < np.mean(unbounded) < 1


def test_devign_is_read_by_its_row_numbers(tmp_path: Path) -> None:
    write_devign(tmp_path)
    found = vulnerability_sets.find(tmp_path, "auto", allow_pickle=False)
    assert found is not None and found.name == "devign"
    assert [len(split[1]) for split in (found.train, found.valid, found.test)] == [36, 12, 12]
    assert found.test[1] == [int(i % 3 == 0) for i in range(48, 60)]
    assert found.test[0][0] == FAULTY


@pytest.mark.parametrize("labelled", [True, False])
def test_d2a_is_tested_on_dev_where_the_test_file_has_no_labels(tmp_path: Path, labelled: bool) -> None:
    write_d2a(tmp_path, labelled)
    found = vulnerability_sets.find(tmp_path, "d2a", allow_pickle=False)
    assert found is not None
    assert (found.name, len(found.test[1])) == (("d2a", 9) if labelled else ("d2a test=dev", 6))


def test_pickles_are_read_only_with_permission(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    folder = tmp_path / "data/finetune/draper"
    folder.mkdir(parents=True)
    table = pandas.DataFrame({"functionSource": [FUNCTION, FAULTY], "combine": [False, True]})
    for split in ("train", "val", "test"):
        (folder / f"X_{split}.pkl").write_bytes(pickle.dumps(table))
    with pytest.raises(DataError, match="--allow-pickle"):
        vulnerability_sets.find(tmp_path, "auto", allow_pickle=False)
    found = vulnerability_sets.find(tmp_path, "auto", allow_pickle=True)
    assert found is not None and found.name == "draper" and found.train == ([FUNCTION, FAULTY], [0, 1])


def test_a_pickled_table_without_a_function_is_named_with_its_row(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    folder = tmp_path / "finetune/reveal"
    folder.mkdir(parents=True)
    for split, function in (("train", FUNCTION), ("val", None), ("test", FUNCTION)):
        table = pandas.DataFrame({"func": [FAULTY, function], "label": [1, 0]})
        (folder / f"X_{split}.pkl").write_bytes(pickle.dumps(table))
    with pytest.raises(DataError, match=r"X_val\.pkl, row 1 .*: the function is not a text but"):
        vulnerability_sets.find(tmp_path, "reveal", allow_pickle=True)


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_damaged_pickle_is_named(kept: int, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    folder = tmp_path / "finetune/reveal"
    folder.mkdir(parents=True)
    whole = pickle.dumps(pandas.DataFrame({"func": [FAULTY, FUNCTION], "label": [1, 0]}))
    for split in ("train", "val", "test"):
        (folder / f"X_{split}.pkl").write_bytes(whole if split == "train" else whole[:kept])
    with pytest.raises(DataError, match=r"X_val\.pkl cannot be read as a pickled table: "):
        vulnerability_sets.find(tmp_path, "reveal", allow_pickle=True)


def test_files_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    write_devign(tmp_path)
    write_d2a(tmp_path, labelled_test=True)
    plain = [vulnerability_sets.find(tmp_path, name, allow_pickle=False) for name in ("devign", "d2a")]
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        path.write_text(path.read_text(), encoding="utf-8-sig")
    assert plain == [vulnerability_sets.find(tmp_path, name, allow_pickle=False) for name in ("devign", "d2a")]


@pytest.mark.parametrize("folder", ["data/finetune/devign", "VulBERTa/finetune/d2a", "d2a"])
def test_a_folder_of_a_set_with_nothing_of_it_is_not_passed_over(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "function.json").touch()
    with pytest.raises(DataError, match=rf"(?s)holds nothing of {Path(folder).name}\n.*layout: .*source: "):
        encoded_functions.load(tmp_path, size="reduced")
    made = encoded_functions.load(tmp_path, "generated", size="reduced")
    assert made.provenance.source.startswith("generated/")


def test_a_part_of_a_set_is_an_error_that_names_the_rest(tmp_path: Path) -> None:
    (write_devign(tmp_path) / "valid.txt").unlink()
    with pytest.raises(DataError, match=r"only a part of devign; missing: valid\.txt"):
        vulnerability_sets.find(tmp_path, "auto", allow_pickle=False)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Devign.json", "{}}", "no list of objects"),
        ("Devign.json", "[" * 200_000, r"Devign\.json is no list of objects with func and target: RecursionError"),
        ("Devign.json", '[{"func": "x", "target": 2}]', "labels must be 0 or 1; found 2"),
        (
            "Devign.json",
            '[{"func": "x", "target": 0}, {"func": null, "target": 1}]',
            r"Devign\.json, row 1 .*: the function is not a text but None",
        ),
        ("train.txt", "0\n99\n", "row numbers must be from 0 to 59"),
        ("train.txt", "zero\n", "no list of row numbers"),
        ("test.txt", "1 2 4", "the test functions need both labels"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, file: str, text: str, message: str) -> None:
    (write_devign(tmp_path) / file).write_text(text)
    with pytest.raises(DataError, match=message):
        encoded_functions.load(tmp_path, size="reduced")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('0,0,"int f(int a) {', "line 2: unexpected end of data"),
        ('0,0,"int f(int a) {}"\n1,1\n', "line 3: the row has not as many fields as the header"),
        ("0,0,int f(int a, int b) {}\n", "line 2: the row has not as many fields as the header"),
    ],
)
def test_a_damaged_csv_is_named_with_its_line(tmp_path: Path, rows: str, message: str) -> None:
    write_d2a(tmp_path, labelled_test=True)
    (tmp_path / "finetune/d2a/function/d2a_lbv1_function_dev.csv").write_text(f"id,label,code\n{rows}")
    with pytest.raises(DataError, match=rf"function_dev\.csv, {message}"):
        vulnerability_sets.find(tmp_path, "d2a", allow_pickle=False)


def test_no_package_holds_functions_and_generated_ones_do_not_stand_for_one() -> None:
    with pytest.raises(DataError, match=r"(?s)a package with labelled C functions not found.*--data-source generated"):
        encoded_functions.load(None, source="packaged", size="reduced")


def test_a_missing_set_is_described(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        encoded_functions.load(tmp_path, source="original", dataset="devign")
    assert "devign/{Devign.json, train.txt, valid.txt, test.txt}" in str(caught.value)
    assert "source: " in str(caught.value) and str(tmp_path) in str(caught.value)
    with pytest.raises(DataError, match="d2a"):
        encoded_functions.load(None, dataset="d2a")


def test_without_a_set_functions_are_generated_and_say_so(tmp_path: Path) -> None:
    for data in (None, tmp_path):
        made = encoded_functions.load(data, size="reduced")
        assert made.provenance.source == "generated/c-functions train=800 valid=300 test=600"
    assert made.train[0].shape == (800, 80) and made.symbols <= 2000
    assert int(made.train[0].max()) < made.symbols
    again = encoded_functions.load(None, size="reduced")
    assert again.provenance == made.provenance


def test_the_control_shuffles_what_training_sees_and_nothing_else(tmp_path: Path) -> None:
    write_devign(tmp_path)
    true = encoded_functions.load(tmp_path, size="reduced")
    control = encoded_functions.load(tmp_path, size="reduced", shuffle_seed=1)
    assert control.provenance.source == "devign shuffled-labels train=36 valid=12 test=12"
    assert control.provenance.digest != true.provenance.digest
    for split in ("train", "valid", "test"):
        (ids, labels), (same_ids, shuffled) = getattr(true, split), getattr(control, split)
        assert np.array_equal(ids, same_ids) and labels.sum() == shuffled.sum()
        assert np.array_equal(labels, shuffled) == (split == "test")


def test_the_data_do_not_depend_on_the_order_of_sets() -> None:
    code = "import encoded_functions as e; print(e.load(None, size='reduced').provenance)"
    assert len(set(outputs_of_processes("VulBERTa", code))) == 1
