"""A user's own, unmodified clone of the original repository in place of the trainer here.

What a manifest says of it, the model as it then is, the copy that a run works in, the commit. It starts no training and
changes no clone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from profiler.hyperparameters import Frozen
from profiler.patterns import checked_pattern

if TYPE_CHECKING:
    from profiler.models import ModelSpec

COPY_NAME = "checkout"
COMMIT_NAME = "checkout.commit"
LARGE_FILE_BYTES = 1 << 20
MANY_FILES = 1000
GIT_TIMEOUT_S = 20
_LEFT_OUT = {".git", "__pycache__"}


class CheckoutSpec(Frozen):
    """How a manifest's `checkout` describes the original repository.

    `files` must be there: they tell that a folder is a clone of it. `flags` maps each hyperparameter that the original
    can be told to its flag; it is told no other. `folder`, below the clone, is the working directory. `metrics` maps
    names to keys of a metric (such as `pattern`) that lie over the manifest's.
    """

    files: tuple[str, ...] = Field(min_length=1)
    command: tuple[str, ...] = Field(min_length=1)
    flags: dict[str, str] = Field(default_factory=dict)
    folder: str = "."
    metrics: dict[str, dict[str, Any]]
    ready_pattern: str | None = None
    completion_pattern: str
    completion_count: int = Field(default=1, ge=1)
    epoch_pattern: str | None = None
    effective_patterns: dict[str, str] = Field(default_factory=dict)
    minimum: dict[str, float] = Field(default_factory=dict)

    @field_validator("ready_pattern", "completion_pattern", "epoch_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return checked_pattern(pattern, groups=0)

    @field_validator("folder")
    @classmethod
    def _inside(cls, folder: str) -> str:
        if Path(folder).is_absolute() or ".." in Path(folder).parts:
            raise ValueError("must lie inside the checkout")
        return folder


class OwnCheckout(Frozen):
    """The clone that a model is trained from. `withheld`: hyperparameters for which the original has no flag."""

    path: Path
    python: str | None
    folder: str
    withheld: tuple[str, ...]


def problem(model: ModelSpec, path: Path) -> str:
    """Why `path` cannot be the clone of `model`'s original; "" if it can."""
    spec = model.checkout
    if spec is None:
        return f"{model.repo} / {model.name} says nothing of checkouts of its original in its manifest"
    if not path.is_dir():
        return f"there is no folder {path}"
    missing = [name for name in spec.files if not (path / name).is_file()]
    if missing:
        return f"{path} does not look like a clone of the original of {model.repo}: {', '.join(missing)} not there"
    return ""


def with_checkout(model: ModelSpec, path: Path, python: str | None) -> ModelSpec:
    """`model` as its original in `path` trains it: its command line, its log, only the hyperparameters it can be told.

    Raises ValueError where the manifest says nothing of checkouts.
    """
    spec = model.checkout
    if spec is None:
        raise ValueError(problem(model, path))
    told = {
        name: parameter.model_copy(
            update={"flag": spec.flags[name], "minimum": spec.minimum.get(name, parameter.minimum)}
        )
        for name, parameter in model.hyperparameters.items()
        if name in spec.flags
    }
    aliases = {alias: name for alias, name in model.hyperparameter_aliases.items() if name in told}
    withheld = tuple(
        name for name in (*model.hyperparameters, *model.hyperparameter_aliases) if name not in {*told, *aliases}
    )
    metrics = {name: model.metrics[name].model_copy(update=dict(own)) for name, own in spec.metrics.items()}
    return model.model_copy(
        update={
            "command": spec.command,
            "hyperparameters": told,
            "hyperparameter_aliases": aliases,
            "metrics": metrics,
            "ready_pattern": spec.ready_pattern,
            "completion_pattern": spec.completion_pattern,
            "completion_count": spec.completion_count,
            "epoch_pattern": spec.epoch_pattern,
            "effective_patterns": dict(spec.effective_patterns),
            "trust_argv": True,
            "can_repeat": False,
            "multi_gpu": None,
            "own_checkout": OwnCheckout(path=path, python=python, folder=spec.folder, withheld=withheld),
        }
    )


def working_copy(checkout: OwnCheckout, work: Path) -> Path:
    """Copy the clone into the run's work directory, note its commit beside it, and return the folder to work in.

    Files above 1 MiB and folders of more than 1,000 files (data sets) are linked, not copied; `.git` is left out.
    """
    target = work / COPY_NAME
    _copy(checkout.path, target)
    (work / COMMIT_NAME).write_text(commit(checkout.path) or "")
    return target / checkout.folder


def recorded_commit(work: Path) -> str | None:
    """The commit that `working_copy` noted, None if there was none."""
    path = work / COMMIT_NAME
    return (path.read_text() if path.is_file() else "") or None


def commit(path: Path) -> str | None:
    """The clone's commit, with `-dirty` behind it where a tracked file was changed; None if git does not know."""
    head = _git(path, "rev-parse", "HEAD")
    changes = _git(path, "status", "--porcelain", "--untracked-files=no")
    if not head or changes is None:
        return None
    return f"{head}-dirty" if changes else head


def _git(path: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(path), *arguments], capture_output=True, text=True, timeout=GIT_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    for entry in sorted(source.iterdir()):
        if entry.name in _LEFT_OUT:
            continue
        place = target / entry.name
        if entry.is_symlink() or _is_large(entry):
            place.symlink_to(entry.resolve())
        elif entry.is_dir():
            _copy(entry, place)
        elif entry.is_file():
            shutil.copy2(entry, place)


def _is_large(entry: Path) -> bool:
    if entry.is_dir():
        return any(number >= MANY_FILES for number, _ in enumerate(entry.iterdir()))
    return entry.is_file() and entry.stat().st_size > LARGE_FILE_BYTES
