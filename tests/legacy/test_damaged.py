"""Damaged old files: each is told, none stops the others, and nothing half-made stays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from profiler.errors import CannotRunError, SessionError
from profiler.legacy.found import search
from profiler.legacy.importer import import_tree
from profiler.store.read import open_session
from tests.legacy.old_tree import OldRun, later, write_summary


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ('{"experiment_id": "examples_mnist_001", "repos', "is cut short or no JSON"),
        ("[1, 2]", "holds list, not a record"),
        ('{"hello": 1}', "no record of the older tool"),
        ("\xff\xfe", "cannot be read"),
    ],
    ids=["empty", "cut", "list", "other", "bytes"],
)
def test_a_damaged_record_leaves_its_trace_and_the_other_runs(tmp_path: Path, text: str, problem: str) -> None:
    source = tmp_path / "old"
    bad, good = OldRun(), later(100, name="examples_siamese_002", model="siamese")
    (bad.write(source) / "experiment.json").write_bytes(text.encode("latin-1"))
    good.write(source)
    folder, audit = import_tree(source, tmp_path / "results")
    session = open_session(folder.root)
    by_model = {row["model"]: row for row in session.rows()}
    assert by_model["siamese"]["verdict"] == "contaminated"
    broken = by_model["mnist_cnn"]
    assert broken["verdict"] == "failed"
    assert "imported_unproven" in broken["reasons"]
    assert broken["gpu_energy_integral_j"] == pytest.approx(bad.trapezoid_j)
    assert len(session.samples(broken["run_id"])) == 10
    assert broken["duration_s"] is None
    told = next(run for run in audit["runs"] if run["model"] == "mnist_cnn")
    evidence = {one["name"]: one["evidence"] for one in told["findings"]}
    assert problem in evidence["record_missing"]


def test_a_row_of_the_summary_speaks_for_a_damaged_record(tmp_path: Path) -> None:
    source = tmp_path / "old"
    run = OldRun()
    (run.write(source) / "experiment.json").write_text("{")
    write_summary(source / "summary.csv", [run.row()])
    folder, audit = import_tree(source, tmp_path / "results")
    (row,) = open_session(folder.root).rows()
    assert row["duration_s"] == run.duration_s
    assert row["metrics"]["test_accuracy"] == 0.96
    assert row["verdict"] == "contaminated"
    assert "record_damaged" in audit["findings"]


def test_torn_lines_and_odd_cells_of_the_trace(tmp_path: Path) -> None:
    source = tmp_path / "old"
    run = OldRun()
    energy = run.write(source) / "energy"
    lines = (energy / "gpu_power.csv").read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace("80.25", "NaN")
    lines[3] = lines[3].replace("90.0", "ninety")
    (energy / "gpu_power.csv").write_text("".join(lines[:-1]) + "17600")
    (energy / "gpu_utilization.csv").write_text("")
    (energy / "gpu_temperature.csv").unlink()
    folder, audit = import_tree(source, tmp_path / "results")
    session = open_session(folder.root)
    (row,) = session.rows()
    told = {one["name"]: one["evidence"] for one in audit["runs"][0]["findings"]}["damaged_files"]
    for part in ("gpu_power.csv:3", "'NaN'", "'ninety'", "gpu_power.csv:11 is torn", "gpu_utilization.csv is empty"):
        assert part in told
    trace = session.samples(row["run_id"])
    assert len(trace) == 9
    assert trace["power_w"].notna().sum() == 7
    assert row["gpu_temp_mean_c"] == 60.0  # the record has it
    assert row["gpu_energy_integral_j"] is not None


def test_a_summary_with_rows_that_do_not_fit_its_header(tmp_path: Path) -> None:
    source = tmp_path / "old"
    path = write_summary(source / "summary.csv", [OldRun().row(), later(100, name="examples_mnist_002").row()])
    lines = path.read_text().splitlines()
    whole, cells = lines[1], lines[2].split(",")
    path.write_text("\n".join([lines[0], whole, ",".join([*cells, "1", "2"]), ",".join(cells[:5])]))
    folder, audit = import_tree(source, tmp_path / "results")
    assert len(open_session(folder.root).rows()) == 1
    problems = {one["path"].rpartition(":")[2]: one["problem"] for one in audit["skipped"]}
    assert f"{len(cells) + 2} cells under {len(cells)} columns" in problems["3"]
    assert "cut short" in problems["4"]
    assert all(one["lost"] for one in audit["skipped"])


def test_a_summary_without_its_last_line_end(tmp_path: Path) -> None:
    path = write_summary(tmp_path / "old" / "summary.csv", [OldRun().row()])
    path.write_text(path.read_text().rstrip("\n"))
    _, audit = import_tree(path.parent, tmp_path / "results")
    assert "summary_cut" in audit["findings"]


def test_folders_with_nothing_in_them_are_named(tmp_path: Path) -> None:
    source = tmp_path / "old"
    OldRun().write(source)
    (source / "examples_mnist_009").mkdir()
    folder, audit = import_tree(source, tmp_path / "results")
    assert len(open_session(folder.root).rows()) == 1
    assert [Path(one["path"]).name for one in audit["skipped"]] == ["examples_mnist_009"]


def test_an_unknown_model_is_kept_and_never_valid(tmp_path: Path) -> None:
    source = tmp_path / "old"
    OldRun(name="strange/../repo_net_001".replace("/", "_"), repo="strange/repo", model="net").write(source)
    folder, audit = import_tree(source, tmp_path / "results")
    (row,) = open_session(folder.root).rows()
    assert (row["repo"], row["model"], row["valid"]) == ("strange/repo", "net", False)
    assert row["experiment_id"] == "strange_repo_net_001"
    assert "unknown_model" in audit["findings"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "nothing at"),
        (lambda path: path.write_text("x"), "is a file"),
        (lambda path: path.mkdir(), "no old results"),
        (lambda path: (path / "dataset" / "runs").mkdir(parents=True), "a session of this tool already"),
    ],
    ids=["missing", "file", "empty", "session"],
)
def test_what_is_no_result_tree(tmp_path: Path, make: object, words: str) -> None:
    source = tmp_path / "old"
    make(source)  # type: ignore[operator]
    with pytest.raises(SessionError, match=words):
        import_tree(source, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_sessions_of_this_tool_inside_the_tree_are_passed_over(tmp_path: Path) -> None:
    source = tmp_path / "old"
    OldRun().write(source / "default")
    import_tree(source, source)
    _, audit = import_tree(source, tmp_path / "results")
    assert audit["counts"]["runs"] == 1
    assert audit["skipped"][0]["lost"] is False


def test_a_tree_of_damaged_summaries_only(tmp_path: Path) -> None:
    source = tmp_path / "old"
    source.mkdir()
    (source / "summary.csv").write_text("experiment_id,training_success\nonly_one_cell\n")
    with pytest.raises(SessionError, match="could be read"):
        import_tree(source, tmp_path / "results")


def test_an_import_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "old"
    folder = OldRun().write(source)
    results = tmp_path / "results"
    (folder / "energy" / "gpu_power.csv.extra").symlink_to("/dev/full")
    os.mkfifo(folder / "energy" / "pipe")
    import_tree(source, results)  # what is no plain file is passed over
    assert len(list(results.iterdir())) == 1
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(CannotRunError, match="cannot make a session folder"):
        import_tree(source, blocked)


def test_the_tree_is_only_read(tmp_path: Path) -> None:
    source = tmp_path / "old"
    OldRun().write(source)
    state = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in source.rglob("*") if path.is_file()}
    import_tree(source, tmp_path / "results")
    assert state == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in source.rglob("*") if path.is_file()}


def test_a_hundred_times_the_record_is_found_by_its_header_only(tmp_path: Path) -> None:
    """A CSV that is no summary is no source, whatever it is called."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "summary.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SessionError):
        search(tmp_path / "old")
    write_summary(tmp_path / "old" / "all_of_it.csv", [OldRun().row()])
    assert [path.name for path in search(tmp_path / "old").summaries] == ["all_of_it.csv"]


def test_json_of_the_audit_is_strict(tmp_path: Path) -> None:
    source = tmp_path / "old"
    folder = OldRun().write(source)
    record = (folder / "experiment.json").read_text().replace("10.4", "NaN")
    (folder / "experiment.json").write_text(record)
    session, _ = import_tree(source, tmp_path / "results")
    (row,) = open_session(session.root).rows()
    assert row["duration_s"] is None

    def refuse(name: str) -> None:
        raise ValueError(name)

    for path in (session.root / "audit.json", session.experiment_json(row["experiment_id"])):
        json.loads(path.read_text(), parse_constant=refuse)
