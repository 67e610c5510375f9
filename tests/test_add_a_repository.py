"""docs/add-a-repository.md followed literally: its files are made, its commands are run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from profiler.models import ModelSpec
from profiler.workloads import load_manifest

PAGE = (Path(__file__).parents[1] / "docs" / "add-a-repository.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The page's files, where its first comments say."""
    for _, text in BLOCKS:
        named = re.match(r"# (repos/\S+)\n", text)
        if named:
            path = tmp_path / named.group(1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return tmp_path


def test_the_pages_program_and_manifest_fit(folder: Path) -> None:
    model = load_manifest(folder / "repos" / "parabola" / "workload.yaml").models["plain"]
    argv = model.argv(model.defaults(), python="python")
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "using epochs=10 step=0.1" and lines[-1] == "finished" and len(lines) == 12
    for pattern in (model.ready_pattern, model.completion_pattern, *model.effective_patterns.values()):
        assert pattern is not None and any(re.search(pattern, line) for line in lines), pattern


def test_the_page_names_every_key_of_a_manifest() -> None:
    inner = {"repo", "name", "folder", "own_checkout", "aliases", "description"}
    missing = [name for name in ModelSpec.model_fields if name not in inner and f"`{name}`" not in PAGE]
    assert missing == []


def test_the_pages_campaign_is_one(folder: Path) -> None:
    text = next(text for kind, text in BLOCKS if kind == "yaml" and text.startswith("name:"))
    (item,) = yaml.safe_load(text)["experiments"]
    assert {"checkout", "python", "repo", "model", "mutate"} <= item.keys()


@pytest.mark.ray
@pytest.mark.slow
def test_the_pages_commands_run(folder: Path) -> None:
    (commands,) = [text for kind, text in BLOCKS if kind == "sh" and text.startswith("profiler list")]
    (folder / "bin").mkdir()
    program = folder / "bin" / "profiler"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m profiler "$@"\n')
    program.chmod(0o755)
    script = f"set -e\nPATH={folder / 'bin'}:$PATH\n{commands}\n"
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    records = [
        json.loads(path.read_text()) for path in (folder / "results").glob("run_*/parabola_plain_*/experiment.json")
    ]
    assert len(records) == 2 and all(record["training_success"] for record in records)
    assert {record["hyperparameters"]["epochs"] for record in records} == {10}
