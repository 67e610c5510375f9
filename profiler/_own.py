"""Imports the packages `cluster` and `actors` of this distribution, and refuses strangers of the same name.

Both names are generic: a `cluster.py` beside a user's script comes first on Python's path and would be taken instead.
This module is the one place where `profiler` reaches up to the driver; it starts nothing by itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from profiler.errors import CannotRunError

if TYPE_CHECKING:
    from profiler.config import Campaign
    from profiler.store.read import Session

HOME = Path(__file__).resolve().parent.parent
NAMES = ("actors", "cluster")


def driver() -> ModuleType:
    """The module `cluster.driver`. Raises CannotRunError naming all files that shadow it, or what Ray lacks."""
    return _module("cluster.driver")


def on_every_node(address: str, function: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
    """What `function` answers on each node of the cluster (`cluster.everywhere`)."""
    answers: list[dict[str, Any]] = _module("cluster.everywhere").on_every_node(address, function)
    return answers


def survey(address: str, require: Sequence[str]) -> list[dict[str, Any]]:
    """What is known of each node of the cluster (`cluster.survey`)."""
    rows: list[dict[str, Any]] = _module("cluster.survey").survey(address, require)
    return rows


def _module(name: str) -> ModuleType:
    _refuse_strangers()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == "ray":
            raise CannotRunError("Ray is not installed in this Python\ninstall it: pip install ray") from error
        raise


def run(
    campaign: Campaign,
    address: str | None = None,
    *,
    results: str | Path = "results",
    observer: Callable[[dict[str, Any]], None] | None = None,
    governor_optional: bool = False,
    allow_uncontained: bool = False,
) -> Session:
    """Runs the campaign and returns its session; blocks. Ctrl-C stops everything and raises CampaignInterruptedError.

    `address` is a running Ray cluster's, None for Ray inside this process. `results` is the folder where the session is
    made, or a URI that its files are copied to. `observer` is called with each progress event, a plain dict. Raises
    CannotRunError where this machine or cluster lacks what the campaign needs.
    """
    session: Session = driver().run_campaign(
        campaign,
        results=results,
        address=address,
        observer=observer,
        governor_optional=governor_optional,
        allow_uncontained=allow_uncontained,
    )
    return session


def _refuse_strangers() -> None:
    """All of them at once, so that nobody renames one and meets the next."""
    origins = {name: _origin(name) for name in NAMES}
    strangers = {name: found for name, found in origins.items() if found is None or found.parent.parent != HOME}
    if not strangers:
        return
    lines = [
        f"the package {name!r} of profiler is missing beside {HOME / 'profiler'}; install it again"
        if found is None
        else f"{_shown(found)} hides the package {name!r} that belongs to profiler"
        for name, found in strangers.items()
    ]
    if any(found is not None for found in strangers.values()):
        lines.append(
            "rename it, or start your script from another folder: Python looks for modules in the script's folder first"
        )
    raise CannotRunError("\n".join(lines))


def _origin(name: str) -> Path | None:
    """The file that `import name` has taken or would take; None if there is none."""
    module = sys.modules.get(name)
    spec = module.__spec__ if module is not None else importlib.util.find_spec(name)
    origin = getattr(module, "__file__", None) or (spec.origin if spec is not None else None)
    return Path(origin).resolve() if origin else None


def _shown(origin: Path) -> Path:
    return origin.parent if origin.name == "__init__.py" else origin
