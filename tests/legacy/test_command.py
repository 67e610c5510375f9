"""The command `profiler import` as people use it, and the page that explains its findings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from profiler.legacy.document import import_markdown
from profiler.legacy.findings import KINDS
from tests.cli.program import profiler, run
from tests.legacy.old_tree import OldRun, later

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_import_show_export(tmp_path: Path) -> None:
    source = tmp_path / "old"
    OldRun().write(source)
    later(100, name="examples_mnist_rnn_002_parallel", model="mnist_rnn", background=("VulBERTa", "mlp")).write(source)
    ended = profiler("import", source, "--results", tmp_path / "results", "--json")
    assert ended.code == 0, ended.err
    audit = ended.json()
    assert audit["counts"]["runs"] == 2
    session = Path(audit["path"])
    assert json.loads((session / "audit.json").read_text())["findings"] == audit["findings"]
    text = (session / "audit.md").read_text()
    assert all(f"`{name}`" in text for name in audit["findings"])
    shown = profiler("show", session, "--json").json()
    assert [run["model"] for run in shown["runs"]] == ["mnist_cnn", "mnist_rnn"]
    assert shown["runs"][1]["background_model"] == "mlp"
    exported = profiler("export", session, "--csv", tmp_path / "all.csv")
    assert exported.code == 0
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 3
    resumed = profiler("resume", session)
    assert resumed.code == 2
    assert "is an import of old results" in resumed.err
    again = profiler("import", source, "--results", tmp_path / "results")
    assert again.code == 0
    assert "was imported before" in again.err
    assert "gpu_joules_are_a_sum" in again.out


def test_exit_codes(tmp_path: Path) -> None:
    source = tmp_path / "old"
    (OldRun().write(source) / "experiment.json").write_text("{")
    damaged = profiler("import", source, "--results", tmp_path / "results")
    assert damaged.code == 1
    assert "record_missing" in damaged.out
    nothing = profiler("import", tmp_path / "nowhere", "--json")
    assert nothing.code == 2
    assert "nothing at" in nothing.json()["errors"][0]["message"]
    missing = profiler("import")
    assert missing.code == 2
    assert "DIR" in missing.err


def test_an_imported_session_is_shown_reported_and_covered_and_says_what_it_is(tmp_path: Path) -> None:
    source = tmp_path / "old"
    OldRun().write(source)
    session = profiler("import", source, "--results", tmp_path / "results", "--json").json()["path"]
    assert f"imported from {source}" in profiler("show", session).out
    page = tmp_path / "page.html"
    assert profiler("report", session, "-o", page).code == 0
    assert f"Imported from the old results in <code>{source}</code>" in page.read_text()
    covered = profiler("coverage", session, "-o", tmp_path / "holes.yaml")
    assert (covered.code, (tmp_path / "holes.yaml").exists()) == (0, True)
    assert "no session here has a config" in covered.err


def test_results_that_cannot_be_written(tmp_path: Path) -> None:
    source = tmp_path / "old"
    OldRun().write(source)
    ended = profiler("import", source, "--results", "/proc/nowhere")
    assert ended.code == 3, ended.out + ended.err
    assert "cannot make a session folder" in ended.err


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writing stops in the middle, as it does on a full one."""
    source, results = tmp_path / "old", tmp_path / "results"
    OldRun().write(source)
    line = ["bash", "-c", 'ulimit -f 4; exec "$@"', "bash", sys.executable, "-m", "profiler", "import"]
    ended = run([*line, str(source), "--results", str(results)], None, None, 120)
    assert ended.code == 3, ended.out + ended.err
    assert "disk full" in ended.err
    assert list(results.iterdir()) == []


def test_the_page_explains_every_finding() -> None:
    page = (ROOT / "docs" / "import.md").read_text()
    assert page == import_markdown()
    for name in KINDS:
        assert f"| `{name}` |" in page
