"""Finds out which repository and model an old record means. It decides no verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from profiler.legacy.findings import Seen
from profiler.legacy.records import OldBackground
from profiler.legacy.sources import OldRun, name_parts
from profiler.models import ModelSpec
from profiler.workloads import Catalog, UnknownWorkloadError

_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Identity:
    """Canonical names. `spec` is None where no manifest knows the model."""

    repo: str
    model: str
    spec: ModelSpec | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.repo, self.model


def identify(run: OldRun, catalog: Catalog) -> tuple[Identity, list[Seen]]:
    """The run's (foreground) model, and what was wrong in how the record names it."""
    record, seen = run.record, []
    repo, model = record.repo, record.model
    if record.nested:
        seen.append(Seen("repository_only_in_foreground", f"foreground.repository is {repo!r}"))
    if not repo or not model:
        repo, model = _from_id(record.original_id, catalog)
        seen.append(Seen("repository_from_id", f"{record.original_id!r} means {repo} / {model}"))
    identity = resolve(repo, model, catalog)
    if identity.spec is None:
        seen.append(Seen("unknown_model", f"{repo or _UNKNOWN} / {model or _UNKNOWN}"))
    return identity, seen


def resolve(repo: str, model: str, catalog: Catalog) -> Identity:
    """Canonical names where a manifest knows them, else the names as they are."""
    try:
        spec = catalog.resolve(repo, model)
    except UnknownWorkloadError:
        return Identity(repo or _UNKNOWN, model or _UNKNOWN)
    return Identity(spec.repo, spec.name, spec)


def background_of(back: OldBackground, catalog: Catalog) -> tuple[Identity, dict[str, Any]]:
    """The background's model, and its recorded values under canonical names."""
    identity = resolve(back.repo, back.model, catalog)
    return identity, canonical_values(back.hyperparameters, identity.spec)


def canonical_values(values: Mapping[str, Any], spec: ModelSpec | None) -> dict[str, Any]:
    """The values under the manifest's names and, where they fit, in its types."""
    if spec is None:
        return dict(values)
    out = {}
    for name, value in values.items():
        target = spec.hyperparameter_aliases.get(name, name)
        target = name if target != name and target in values else target
        out[target] = _typed(spec, target, value)
    return out


def _typed(spec: ModelSpec, name: str, value: Any) -> Any:
    parameter = spec.hyperparameters.get(name)
    if parameter is None or value is None:
        return value
    try:
        return parameter.from_text(str(value))
    except ValueError:
        return value


def _from_id(original_id: str, catalog: Catalog) -> tuple[str, str]:
    """Repository and model out of `<repo>_<model>_<NNN>`; the longest names that fit. What fits nothing stays one."""
    wanted = name_parts(original_id)
    fitting = [
        (spec.repo, name)
        for spec in catalog.models()
        for name in (spec.name, *spec.aliases)
        if wanted == f"{spec.repo}_{name}"
    ]
    if fitting:
        return max(fitting, key=lambda pair: len(pair[0]))
    repo, _, model = wanted.rpartition("_")
    return repo or wanted, model or _UNKNOWN


def folder_name(identity: Identity, index: int, *, parallel: bool) -> str:
    """`<repo>_<model>_<NNN>[_parallel]`, with nothing in it that is no part of a file name."""
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", f"{identity.repo}_{identity.model}").lstrip(".-") or _UNKNOWN
    return f"{name}_{index:03d}{'_parallel' if parallel else ''}"
