"""Configs: YAML, old JSON settings or a dict into one frozen Campaign, or all faults at once. Plans and starts nothing.

campaign = load("configs/quickstart.yaml", overrides=["seed=7"])
campaign = load({"name": "mine", "experiments": [...]})
campaign = campaign_from_options("examples", "mnist_cnn", "learning_rate", runs=3, seed=7)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from profiler.config.faults import Faults
from profiler.config.model import (
    BackgroundSpec,
    Campaign,
    Cooling,
    Experiment,
    ForegroundSpec,
    Gate,
    TrainingSpec,
)
from profiler.config.overrides import apply_overrides
from profiler.config.reader import CampaignReader
from profiler.documents import DocumentError, plain, read_document, type_name
from profiler.errors import ConfigError, ConfigIssue
from profiler.workloads import Catalog, load_catalog

__all__ = [
    "BackgroundSpec",
    "Campaign",
    "Cooling",
    "Experiment",
    "ForegroundSpec",
    "Gate",
    "TrainingSpec",
    "campaign_from_options",
    "load",
]


def load(
    source: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] = (),
    catalog: Catalog | None = None,
) -> Campaign:
    """The campaign that `source` describes: the path of a YAML or JSON file, or a mapping of the same shape.

    `overrides` are `KEY=VALUE` options with dotted paths. `catalog` defaults to the repositories known here. A campaign
    without seed gets a random one. Raises ConfigError with all faults at once.
    """
    if isinstance(source, Mapping):
        return _load(source, "config", overrides, catalog)
    if not isinstance(source, (str, os.PathLike)):
        message = f"must be a path or a mapping, not {type_name(source)}"
        raise ConfigError([ConfigIssue("config", "", repr(source)[:80], message)])
    path = Path(source)
    try:
        document = read_document(path)
    except DocumentError as error:
        raise ConfigError(error.issues) from error
    # Settings files of the older tool need no name. A name that is not printable could not be stored.
    named_by_file = path.suffix.lower() == ".json" and path.stem.isprintable()
    return _load(document, str(path), overrides, catalog, path.stem if named_by_file else None)


def campaign_from_options(
    repo: str,
    model: str,
    mutate: str | Sequence[str],
    runs: int = 1,
    governor: str | None = None,
    max_retries: int = 2,
    seed: int | None = None,
    overrides: Sequence[str] = (),
    catalog: Catalog | None = None,
    checkout: str | None = None,
    python: str | None = None,
) -> Campaign:
    """The campaign of one model that `profiler run -r REPO -m MODEL -mt PARAMS` means.

    `mutate` is "all" or names, as a list or separated by commas. An override wins over the argument of the same
    meaning. Raises ConfigError with all faults at once.
    """
    names = [name.strip() for name in mutate.split(",")] if isinstance(mutate, str) else list(mutate)
    document: dict[str, Any] = {
        "name": f"{repo}_{model}",
        "mode": "mutation",
        "runs_per_config": runs,
        "max_retries": max_retries,
        "experiments": [{"repo": repo, "model": model, "mutate": "all" if names == ["all"] else names}],
    }
    own = {"checkout": checkout, "python": python}
    document["experiments"][0].update({key: value for key, value in own.items() if value is not None})
    if governor is not None:
        document["governor"] = governor
    if seed is not None:
        document["seed"] = seed
    return _load(document, "command line", overrides, catalog)


def _load(
    source: Mapping[Any, Any],
    file: str,
    overrides: Sequence[str],
    catalog: Catalog | None,
    default_name: str | None = None,
) -> Campaign:
    faults = Faults(file)
    try:
        document = apply_overrides(plain(source), overrides, faults)
    except (RecursionError, ValueError) as error:
        message = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError([ConfigIssue(file, "", None, message)]) from error
    return CampaignReader(document, load_catalog() if catalog is None else catalog, faults, default_name).read()
