"""Workload manifests: what each repository can train, with which hyperparameters, and what it reports.

Reads `<root>/<repo>/workload.yaml` files into frozen models. It starts nothing and looks at no data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from profiler.checkouts import with_checkout
from profiler.documents import DocumentError, nearest, read_document, reportable, show
from profiler.errors import ConfigError, ConfigIssue
from profiler.hyperparameters import HyperparameterSpec
from profiler.models import NAME_PATTERN, DataNeed, MetricSpec, ModelSpec
from profiler.mutation import Scalar

__all__ = [
    "Catalog",
    "DataNeed",
    "HyperparameterSpec",
    "MetricSpec",
    "ModelSpec",
    "RepoSpec",
    "Scalar",
    "UnknownWorkloadError",
    "load_catalog",
    "load_manifest",
    "manifest_roots",
]

MANIFEST_NAME = "workload.yaml"


@dataclass(frozen=True)
class RepoSpec:
    """One repository: its models in declared order, and the folder of its manifest."""

    name: str
    folder: Path
    models: Mapping[str, ModelSpec]
    description: str = ""
    origin: str = ""


_PLAIN_WORDS = {
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "mapping_type": "must be a mapping",
    "model_type": "must be a mapping",
    "string_type": "must be a text",
}
"""pydantic's kinds of error that name Python's types -> words for people who write YAML."""


class Training(Protocol):
    """Whatever names a training: of a config, or of a plan."""

    @property
    def repo(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def checkout(self) -> str | None: ...
    @property
    def python(self) -> str | None: ...


class UnknownWorkloadError(LookupError):
    """No such repository or model. `what` ("repo" or "model"), `value`, `allowed` and the nearest `suggestion`."""

    def __init__(self, what: Literal["repo", "model"], value: Any, allowed: Sequence[str], place: str = "") -> None:
        self.what: Literal["repo", "model"] = what
        self.value = value
        self.allowed = tuple(allowed)
        self.suggestion = nearest(value, allowed)
        super().__init__(f"unknown {what} {show(value)}{place}; known: {', '.join(allowed)}")


@dataclass(frozen=True)
class Catalog:
    """All repositories known here, in order of the manifests' folders."""

    repos: Mapping[str, RepoSpec] = field(default_factory=dict)

    def resolve(self, repo: str, model: str) -> ModelSpec:
        """The model by its name or alias. Raises UnknownWorkloadError."""
        if repo not in self.repos:
            raise UnknownWorkloadError("repo", repo, list(self.repos))
        models = self.repos[repo].models
        if model in models:
            return models[model]
        for spec in models.values():
            if model in spec.aliases:
                return spec
        known = [name for spec in models.values() for name in (spec.name, *spec.aliases)]
        raise UnknownWorkloadError("model", model, known, f" of {repo}")

    def of(self, training: Training) -> ModelSpec:
        """The model of a training, as its original in the user's own checkout where it has one."""
        model = self.resolve(training.repo, training.model)
        return model if training.checkout is None else with_checkout(model, Path(training.checkout), training.python)

    def models(self) -> Iterator[ModelSpec]:
        for repo in self.repos.values():
            yield from repo.models.values()


def manifest_roots(extra: Sequence[Path] = ()) -> list[Path]:
    """The folders that hold repositories, in order; what comes later replaces an earlier one of the same name.

    The project's own, then `repos` of the current directory, then those in PROFILER_REPOS (separated like PATH).
    """
    package = Path(__file__).resolve().parent
    source = package.parent / "repos"
    own = source if (package.parent / "pyproject.toml").is_file() and source.is_dir() else package / "_data" / "repos"
    named = [Path(part) for part in os.environ.get("PROFILER_REPOS", "").split(os.pathsep) if part]
    roots: list[Path] = []
    for root in (own, Path("repos"), *named, *extra):
        resolved = root.expanduser().resolve()
        if resolved not in roots:
            roots.append(resolved)
    return roots


def load_catalog(extra: Sequence[Path] = ()) -> Catalog:
    """Every repository that has a manifest here. Raises ConfigError with the faults of all bad manifests."""
    repos: dict[str, RepoSpec] = {}
    issues: list[ConfigIssue] = []
    for root in manifest_roots(extra):
        for manifest in _manifests(root):
            try:
                repo = _known_manifest(manifest, _state(manifest))
            except ConfigError as error:
                issues.extend(error.issues)
            else:
                repos[repo.name] = repo
    if issues:
        raise ConfigError(issues)
    return Catalog(repos)


def _manifests(root: Path) -> list[Path]:
    """The manifests in `root`, or its own if it is a repository itself. A dangling link counts: reading it faults."""
    if (root / MANIFEST_NAME).is_file():
        return [root / MANIFEST_NAME]
    try:
        folders = sorted(root.iterdir(), key=lambda path: path.name.lower())
    except OSError:
        return []
    return [folder / MANIFEST_NAME for folder in folders if os.path.lexists(folder / MANIFEST_NAME)]


@lru_cache(maxsize=256)
def _known_manifest(path: Path, state: tuple[int, int]) -> RepoSpec:
    """`load_manifest`, once for each state of the file."""
    return load_manifest(path)


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # a dangling link: reading it will say so
        return 0, 0
    return status.st_mtime_ns, status.st_size


def load_manifest(path: Path) -> RepoSpec:
    """The repository that the manifest at `path` declares. Raises ConfigError with all its faults."""
    try:
        raw = read_document(path, "manifest")
    except DocumentError as error:
        raise ConfigError(error.issues) from error
    return _ManifestReader(path, raw).read()


_REPO_KEYS = ("repo", "description", "origin", "models")
_MODEL_KEYS = tuple(name for name in ModelSpec.model_fields if name not in {"repo", "name", "folder", "own_checkout"})
_SHARED_KEYS = tuple(name for name in _MODEL_KEYS if name not in {"aliases", "description"})


class _ManifestReader:
    """Merges what a manifest says for all models with what it says for each, and checks the result."""

    def __init__(self, path: Path, raw: Mapping[Any, Any]) -> None:
        self.path, self.raw = path, raw
        self.issues: list[ConfigIssue] = []

    def read(self) -> RepoSpec:
        name = self.raw.get("repo", self.path.parent.name)
        if not isinstance(name, str) or not NAME_PATTERN.match(name):
            self._issue("repo", name, "must be a name of letters, digits and . _ + -")
        self._check_keys(self.raw, (*_REPO_KEYS, *_SHARED_KEYS), "")
        models = self.raw.get("models")
        if not isinstance(models, Mapping) or not models:
            self._issue("models", models, "must be a mapping of at least one model")
            models = {}
        specs = {str(model): self._model(name, str(model), own) for model, own in models.items()}
        self._check_aliases(specs)
        if self.issues:
            raise ConfigError(self.issues)
        return RepoSpec(
            name=str(name),
            folder=self.path.parent,
            models={model: spec for model, spec in specs.items() if spec is not None},
            description=str(self.raw.get("description", "")),
            origin=str(self.raw.get("origin", "")),
        )

    def _model(self, repo: Any, model: str, own: Any) -> ModelSpec | None:
        own = {} if own is None else own
        if not isinstance(own, Mapping):
            self._issue(f"models.{model}", own, "must be a mapping")
            return None
        self._check_keys(own, _MODEL_KEYS, f"models.{model}.")
        merged: dict[str, Any] = {key: self.raw[key] for key in _SHARED_KEYS if key in self.raw}
        merged.update({key: value for key, value in own.items() if key in _MODEL_KEYS})
        for key in ("hyperparameters", "metrics"):
            merged[key] = self._merge_named(key, own)
        merged.update(repo=str(repo), name=model, folder=self.path.parent)
        try:
            return ModelSpec.model_validate(merged)
        except ValidationError as error:
            self._add(model, own, error)
            return None

    def _merge_named(self, key: str, own: Mapping[Any, Any]) -> Any:
        """Per name: what is said for all models, overlaid by what this model says; null takes a name away."""
        shared, mine = self.raw.get(key, {}), own.get(key, {})
        if not isinstance(shared, Mapping) or not isinstance(mine, Mapping):
            return shared if not isinstance(shared, Mapping) else mine
        out: dict[str, Any] = {}
        for name in (*shared, *(name for name in mine if name not in shared)):
            if name in mine and mine[name] is None:
                continue
            parts = [part[name] for part in (shared, mine) if name in part]
            if all(isinstance(part, Mapping) for part in parts):
                out[str(name)] = {**{k: v for part in parts for k, v in part.items()}, "name": str(name)}
            else:
                out[str(name)] = parts[-1]
        return out

    def _add(self, model: str, own: Mapping[Any, Any], error: ValidationError) -> None:
        for detail in error.errors(include_url=False):
            where = [str(part) for part in detail["loc"]]
            mine = bool(where) and _reaches(own, where[:2])
            prefix = f"models.{model}." if mine or not where or not _reaches(self.raw, where[:1]) else ""
            message = _PLAIN_WORDS.get(detail["type"]) or detail["msg"].removeprefix("Value error, ")
            unknown = detail["type"] == "extra_forbidden"
            known = HyperparameterSpec.model_fields if where[:1] == ["hyperparameters"] else MetricSpec.model_fields
            self._issue(
                (prefix + ".".join(where)).rstrip("."),
                detail["input"] if where else None,
                "unknown key" if unknown else message,
                nearest(where[-1], known) if unknown else None,
            )

    def _check_keys(self, mapping: Mapping[Any, Any], known: Sequence[str], prefix: str) -> None:
        for key, value in mapping.items():
            if key not in known:
                self._issue(f"{prefix}{key}", value, f"unknown key; known: {', '.join(known)}", nearest(key, known))

    def _check_aliases(self, specs: Mapping[str, ModelSpec | None]) -> None:
        seen: dict[str, str] = {name: name for name in specs}
        for spec in specs.values():
            for alias in spec.aliases if spec else ():
                if alias in seen:
                    self._issue("models", alias, f"the name {alias!r} stands for two models")
                seen[alias] = alias

    def _issue(self, path: str, value: Any, message: str, suggestion: str | None = None) -> None:
        issue = ConfigIssue(str(self.path), path, reportable(value), message, suggestion)
        if issue not in self.issues:  # a fault in what all models share is found once for each of them
            self.issues.append(issue)


def _reaches(mapping: Any, keys: Sequence[str]) -> bool:
    for key in keys:
        if not isinstance(mapping, Mapping) or key not in mapping:
            return False
        mapping = mapping[key]
    return True
