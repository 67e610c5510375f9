"""Every command of the READMEs is run, and both READMEs show the same ones."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

ROOT = Path(__file__).resolve().parent.parent
NEEDS_TRAINING = ("make demo", "make test", ".venv/bin/profiler run configs/quickstart.yaml")


def console_commands(readme: str) -> list[str]:
    """Lines that begin with `$ ` inside console blocks, without their remarks."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / readme).read_text(), re.S)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line.split("#")[0].strip() for line in lines]


def test_both_readmes_show_the_same_commands() -> None:
    assert console_commands("README.md") == console_commands("README.zh.md")
    assert len(console_commands("README.md")) >= 8


def test_set_up_commands_come_first() -> None:
    for readme in ("README.md", "README.zh.md"):
        head = "\n".join((ROOT / readme).read_text().splitlines()[:20])
        assert "$ make demo" in head
        assert "$ make test" in head


@pytest.mark.parametrize("line", [c for c in console_commands("README.md") if c not in NEEDS_TRAINING])
def test_a_command_works(line: str) -> None:
    words = shlex.split(line)
    assert words[0] == ".venv/bin/profiler"
    result = subprocess.run(
        [sys.executable, "-m", "profiler", *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_the_python_example_runs_as_far_as_it_starts_nothing(tmp_path: Path) -> None:
    source = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[0]
    lines = [line for line in source.splitlines() if "session" not in line]
    program = tmp_path / "example.py"
    program.write_text("\n".join(lines))
    result = subprocess.run([sys.executable, str(program)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_links_lead_somewhere(readme: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / readme).read_text())
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.ray
@pytest.mark.train
def test_make_demo_trains_real_digits_and_every_view_has_the_same_number(tmp_path: Path) -> None:
    copy = tmp_path / "clone"
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listing.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    installed = f"{sys.prefix}/.demo"  # as it is: installing the copy would point everybody's environment to it
    demo = subprocess.run(
        ["make", "-o", installed, "demo", f"VENV={sys.prefix}"], cwd=copy, capture_output=True, text=True, timeout=280
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    session = next((copy / "results").glob("run_*"))
    shown = subprocess.run(
        [sys.executable, "-m", "profiler", "show", str(session), "--json"], capture_output=True, text=True, check=True
    )
    runs = json.loads(shown.stdout)["runs"]
    assert len(runs) == 3
    table = pyarrow.parquet.read_table(session / "dataset" / "runs").to_pylist()
    stored = {row["experiment_id"]: dict(row["metrics"])["test_accuracy"] for row in table}
    for row in runs:
        accuracy = row["metrics"]["test_accuracy"]
        record = json.loads((session / row["experiment_id"] / "experiment.json").read_text())
        assert row["valid"], row["reasons"]  # other tests may use the CPUs, which the verdict would tell
        assert accuracy > 0.85
        assert accuracy == stored[row["experiment_id"]] == record["performance_metrics"]["test_accuracy"]
        assert str(accuracy) in (session / "summary.csv").read_text()
        assert row["hyperparameters"]["learning_rate"] == row["requested_hyperparameters"]["learning_rate"]
