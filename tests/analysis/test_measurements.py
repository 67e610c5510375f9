"""Files of measurements: what is read from them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profiler.analysis.measurements import read_measurements
from profiler.errors import UsageError

ONE = {"argv": ["x"], "exit_code": 0, "duration_s": 1.0, "null_reasons": {}}


def written(folder: Path, text: str) -> Path:
    file = folder / "file.json"
    file.write_text(text)
    return file


def test_measurements_one_after_another(tmp_path: Path) -> None:
    text = "\n".join(json.dumps({**ONE, "duration_s": seconds}, indent=2) for seconds in (1.0, 1.2, 1.1))
    assert [row["duration_s"] for row in read_measurements(written(tmp_path, text))] == [1.0, 1.2, 1.1]


def test_a_list_and_repetitions(tmp_path: Path) -> None:
    repeated = {**ONE, "repetitions": [{**ONE, "duration_s": 2.0}, {**ONE, "duration_s": 3.0}]}
    rows = read_measurements(written(tmp_path, json.dumps([ONE, repeated])))
    assert [row["duration_s"] for row in rows] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not json", "neither a session folder nor the output"),
        ('{"runs": []}', "something else than measurements"),
        ("[]", "holds no measurement"),
        (json.dumps({**ONE, "versus": ONE}), "already compares two commands"),
    ],
)
def test_files_that_are_no_measurement(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(UsageError, match=said) as caught:
        read_measurements(file)
    assert str(file) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "file.json", tmp_path):
        with pytest.raises(UsageError, match="cannot read"):
            read_measurements(path)
