"""The event file: one whole line a write, appended, stamped; nothing without a path."""

import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest
from _kit.events import Events, plain


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_event_is_a_line_with_a_monotonic_stamp(tmp_path: Path) -> None:
    stamps = iter([10, 20])
    events = Events(str(tmp_path / "e"), clock_ns=lambda: next(stamps))
    events.emit("ready")
    events.emit("epoch", epoch=1, metrics={"a": 0.1})
    assert read(tmp_path / "e") == [
        {"event": "ready", "t_ns": 10},
        {"event": "epoch", "t_ns": 20, "epoch": 1, "metrics": {"a": 0.1}},
    ]


def test_an_existing_file_is_appended_to(tmp_path: Path) -> None:
    for name in ("a", "b"):
        events = Events(str(tmp_path / "e"))
        events.emit(name)
        events.close()
        events.emit("dropped")
    assert [event["event"] for event in read(tmp_path / "e")] == ["a", "b"]


def test_lines_of_several_writers_never_mix(tmp_path: Path) -> None:
    def write(name: str) -> None:
        events = Events(str(tmp_path / "e"))
        for number in range(200):
            events.emit(name, number=number, padding="x" * 300)

    writers = [threading.Thread(target=write, args=(f"writer{n}",)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(read(tmp_path / "e")) == 800


@pytest.mark.parametrize("value", ["", None])
def test_without_a_path_nothing_happens(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("PROFILER_EVENTS", raising=False)
    else:
        monkeypatch.setenv("PROFILER_EVENTS", value)
    events = Events.from_environment()
    events.emit("ready")
    events.close()


def test_a_path_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Events(str(tmp_path / "absent" / "e"))


def test_floats_keep_every_bit_and_odd_values_stay_visible(tmp_path: Path) -> None:
    values = plain({"sum": 0.1 + 0.2, "numpy": np.float64(1 / 3), "lost": math.nan})
    Events(str(tmp_path / "e")).emit("done", metrics=values)
    metrics = json.loads((tmp_path / "e").read_text())["metrics"]
    assert metrics["sum"] == 0.1 + 0.2
    assert metrics["numpy"] == 1 / 3
    assert math.isnan(metrics["lost"])
