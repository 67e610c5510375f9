"""A user's own, unmodified clone of the original repository in place of the trainer here.

What a manifest says of it, the model as it then is, the copy that a run works in, the commit. It starts no training and
changes no clone."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from profiler.hyperparameters import Frozen
from profiler.patterns import checked_pattern
from profiler.store.layout import SessionFolder

if TYPE_CHECKING:
    from profiler.models import ModelSpec

COPY_NAME = "checkout"
COMMIT_NAME = "checkout.commit"
PYTHON_NAME = "python"
LARGE_FILE_BYTES = 1 << 20
MANY_FILES = 1000
VIRTUAL_ENVIRONMENT = "pyvenv.cfg"
GIT_TIMEOUT_S = 20
WORK_NAME = ".work"
_LEFT_OUT = {".git", "__pycache__"}


class CheckoutSpec(Frozen):
    """How a manifest's `checkout` describes the original repository.

    `files` must be there: they tell that a folder is a clone of it. `outputs` are the files and folders, below the
    clone, that the original writes. `flags` maps each hyperparameter that the original can be told to its flag; it is
    told no other. `folder`, below the clone, is the working directory. `metrics` maps names to keys of a metric (such
    as `pattern`) that lie over the manifest's.
    """

    files: tuple[str, ...] = Field(min_length=1)
    outputs: tuple[str, ...] = ()
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
    def _is_inside(cls, folder: str) -> str:
        if _leaves(folder):
            raise ValueError("must lie inside the checkout")
        return folder

    @field_validator("outputs")
    @classmethod
    def _are_inside(cls, outputs: tuple[str, ...]) -> tuple[str, ...]:
        for output in outputs:
            if _leaves(output) or not Path(output).parts:
                raise ValueError(f"{output!r} must be a file or folder inside the checkout")
        return outputs


def _leaves(path: str) -> bool:
    return Path(path).is_absolute() or ".." in Path(path).parts


class OwnCheckout(Frozen):
    """The clone that a model is trained from: `files`, `outputs` and `folder` as CheckoutSpec has them. `withheld`:
    hyperparameters for which the original has no flag."""

    path: Path
    python: str | None
    files: tuple[str, ...]
    outputs: tuple[str, ...]
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
            "own_checkout": OwnCheckout(
                path=path,
                python=python,
                files=spec.files,
                outputs=spec.outputs,
                folder=spec.folder,
                withheld=withheld,
            ),
        }
    )


def python_words(python: str) -> list[str]:
    """What a config's `python` starts: one program, or the words of a command of an environment that starts one, such
    as `conda run -n old python`. Raises ValueError for a quotation mark without its other one."""
    return [python] if Path(python).is_file() else shlex.split(python)


def python_program(python: str, work: Path) -> str:
    """One program that does what `python` says: for a command of several words a script in the run's work directory."""
    words = python_words(python)
    if len(words) == 1:
        return words[0]
    script = work / PYTHON_NAME
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    script.chmod(0o755)
    return str(script)


class CopyError(Exception):
    """The clone cannot be copied: it is gone, unreadable, or there is no room for the copy."""


def working_copy(checkout: OwnCheckout, work: Path) -> Path:
    """Copy the clone into the run's work directory, note its commit beside it, and return the folder to work in.

    Files above 1 MiB, folders of more than 1,000 files (data sets) and virtual environments are linked, not copied.
    `.git` and results of the profiler are left out, and so is what the original writes: a folder of it is empty in the
    copy. Raises CopyError.
    """
    clone, target = Path(os.path.realpath(checkout.path)), Path(os.path.realpath(work)) / COPY_NAME
    outputs = frozenset(clone / output for output in checkout.outputs)
    try:
        _Copy(clone, target, outputs).copy_folder(clone, target)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise CopyError(f"cannot copy the clone {checkout.path}: {error}") from error
    with suppress(CommitUnknownError):
        (work / COMMIT_NAME).write_text(commit(checkout.path, checkout.files) or "")
    return work / COPY_NAME / checkout.folder


def recorded_commit(work: Path) -> str | None:
    """The commit that `working_copy` noted, None if there was none."""
    path = work / COMMIT_NAME
    return (path.read_text() if path.is_file() else "") or None


def commit_null_reason(checkout: OwnCheckout | None, work: Path) -> dict[str, str]:
    """Why there is no commit although there is a clone, where it is not because that is under no git."""
    if checkout is None or (work / COMMIT_NAME).is_file():
        return {}
    return {"checkout_commit": "not_recorded" if (work / COPY_NAME).is_dir() else "not_started"}


class CommitUnknownError(Exception):
    """Git could not be asked for the commit: it is not there, or it did not answer in time."""


def commit(path: Path, files: tuple[str, ...]) -> str | None:
    """The clone's commit, with `-dirty` behind it where a tracked file was changed.

    None if it is under no git, or git does not track its `files`: a repository around the folder is a stranger's.
    Raises CommitUnknownError.
    """
    head = _git(path, "rev-parse", "HEAD")
    tracked = _git(path, "ls-files", "--error-unmatch", "--", *files)
    changes = _git(path, "status", "--porcelain", "--untracked-files=no")
    if not head or not tracked or changes is None:
        return None
    return f"{head}-dirty" if changes else head


def _git(path: Path, *arguments: str) -> str | None:
    """What git answers about the repository of `path`, whatever repository the environment names and whoever owns it;
    None where it refuses. It writes nothing. Raises CommitUnknownError."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment = {**own, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-c", f"safe.directory={path.resolve()}", "-C", str(path), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommitUnknownError(str(error)) from error
    return done.stdout.strip() if done.returncode == 0 else None


@dataclass(frozen=True)
class _Copy:
    """`clone` becomes `target`, which may lie in it. Both are real paths; `outputs` lie below the clone."""

    clone: Path
    target: Path
    outputs: frozenset[Path]

    def copy_folder(self, source: Path, place: Path) -> None:
        place.mkdir()
        for entry in sorted(source.iterdir()):
            if entry.name not in _LEFT_OUT and not self._is_of_the_profiler(entry):
                self._copy_entry(entry, place / entry.name)

    def _is_of_the_profiler(self, entry: Path) -> bool:
        """Whether it is a session, the work directories beside one, or the one that this copy is made in."""
        if entry.name == WORK_NAME:
            return entry in self.target.parents or any(_is_session(beside) for beside in entry.parent.iterdir())
        return entry == self.target.parent or _is_session(entry)

    def _copy_entry(self, entry: Path, place: Path) -> None:
        if entry in self.outputs:
            if entry.is_dir():
                place.mkdir()
        elif entry.is_symlink():
            place.symlink_to(self._link_target(entry))
        elif _is_large(entry) and not self._holds_outputs(entry):
            place.symlink_to(entry)
        elif entry.is_dir():
            self.copy_folder(entry, place)
        elif entry.is_file():
            shutil.copy2(entry, place)

    def _link_target(self, entry: Path) -> Path:
        """What the clone's link points to, in the copy if it lies in the clone. A link in a loop points to itself."""
        real = Path(os.path.realpath(entry))
        return self.target / real.relative_to(self.clone) if real.is_relative_to(self.clone) else real

    def _holds_outputs(self, entry: Path) -> bool:
        return any(entry in output.parents for output in self.outputs)


def _is_session(entry: Path) -> bool:
    """Not only by its names: the original may have a folder `run_*` with a `dataset` of its own."""
    session = SessionFolder(entry)
    return (entry / "dataset").is_dir() and session.ledger.is_file() and session.campaign_yaml.is_file()


def _is_large(entry: Path) -> bool:
    if entry.is_dir():
        many = any(number >= MANY_FILES for number, _ in enumerate(entry.iterdir()))
        return many or (entry / VIRTUAL_ENVIRONMENT).is_file()
    return entry.is_file() and entry.stat().st_size > LARGE_FILE_BYTES
