"""`import profiler` from a user's own script: lazy, complete, and safe against modules of the same names beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import profiler
from profiler.errors import UsageError

HEAVY = ("ray", "pandas", "pyarrow", "torch", "pydantic", "numpy", "rich", "yaml")


def run_script(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """A user's driver script in `folder`, started from elsewhere."""
    script = folder / "experiment.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False, cwd="/"
    )


ASK = """
import profiler
from profiler.errors import CannotRunError
try:
    profiler.run(None)
except CannotRunError as error:
    print("refused:", error)
"""


def test_importing_it_imports_nothing_heavy(tmp_path: Path) -> None:
    ended = run_script(
        tmp_path,
        f"import sys, profiler\nprofiler.__version__, dir(profiler), profiler.run\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])",
    )
    assert ended.stdout == "[]\n", ended.stderr


def test_every_public_name_is_there() -> None:
    for name in profiler.__all__:
        assert getattr(profiler, name) is not None
    assert set(profiler.__all__) <= set(dir(profiler))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="runn"):
        _ = profiler.runn


def test_planning_stays_a_function_after_the_modules_are_loaded() -> None:
    for name in ("planner", "measurement", "energy.meter", "config", "store.read"):
        __import__(f"profiler.{name}")
    assert all(callable(getattr(profiler, name)) for name in ("load", "plan", "run", "open", "measure", "meter"))


@pytest.mark.parametrize("given", [None, {}, {"name": "x"}, "q.yaml", Path("q.yaml"), 3])
@pytest.mark.parametrize("function", ["plan", "run"])
def test_what_is_no_campaign_is_refused_with_what_to_do(function: str, given: Any, tmp_path: Path) -> None:
    more = {"results": tmp_path} if function == "run" else {}
    with pytest.raises(UsageError) as caught:
        getattr(profiler, function)(given, **more)
    assert repr(given) in str(caught.value) and "profiler.load" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("function", ["open", "effects"])
@pytest.mark.parametrize("given", [None, 3, b"x", {}])
def test_what_is_no_path_is_refused_with_what_to_do(given: Any, function: str) -> None:
    with pytest.raises(UsageError) as caught:
        getattr(profiler, function)(given)
    assert repr(given) in str(caught.value) and "folder" in str(caught.value)


def test_a_module_called_cluster_beside_the_script_is_named(tmp_path: Path) -> None:
    (tmp_path / "cluster.py").write_text("print('decoy imported')\n")
    ended = run_script(tmp_path, ASK)
    assert "refused:" in ended.stdout, ended.stderr
    assert str(tmp_path / "cluster.py") in ended.stdout
    assert "rename it" in ended.stdout
    assert "decoy imported" not in ended.stdout


def test_a_package_called_actors_beside_the_script_is_named(tmp_path: Path) -> None:
    (tmp_path / "actors").mkdir()
    (tmp_path / "actors" / "__init__.py").write_text("")
    ended = run_script(tmp_path, ASK)
    assert f"refused: {tmp_path / 'actors'} hides the package 'actors'" in ended.stdout, ended.stderr


def test_both_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "cluster.py").write_text("")
    (tmp_path / "actors").mkdir()
    (tmp_path / "actors" / "__init__.py").write_text("")
    ended = run_script(tmp_path, ASK)
    assert str(tmp_path / "cluster.py") in ended.stdout, ended.stderr
    assert str(tmp_path / "actors") in ended.stdout


def test_a_stranger_that_is_imported_already_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "cluster.py").write_text("")
    ended = run_script(tmp_path, f"import cluster\n{ASK}")
    assert str(tmp_path / "cluster.py") in ended.stdout, ended.stderr


def test_a_plain_folder_of_the_same_name_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "actors").mkdir()
    (tmp_path / "cluster").mkdir()
    ended = run_script(tmp_path, "from profiler import _own\nprint(_own.driver().__file__)")
    assert Path(ended.stdout.strip()).parent.parent == Path(profiler.__file__).parent.parent, ended.stderr


def test_a_missing_ray_is_named(tmp_path: Path) -> None:
    hide = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'ray': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    ended = run_script(tmp_path, hide + ASK)
    assert "refused: Ray is not installed" in ended.stdout, ended.stderr
    assert "pip install ray" in ended.stdout
