"""Turns the holes of a coverage into a config that fills exactly them. It starts nothing and writes no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from profiler.analysis.coverage import GroupCoverage
from profiler.config import load
from profiler.documents import DocumentError, dump_yaml, read_document
from profiler.errors import ProfilerError
from profiler.planner import make_plan
from profiler.store.layout import SessionFolder
from profiler.workloads import Catalog, UnknownWorkloadError

MARK = "# made by `profiler coverage`"
_ITEM_KEYS = ("max_retries", "timeout_seconds", "cpus", "data", "cooling")
_USUAL = {"sharing": "time_slice", "mps_active_threads": "all", "gpus": 1, "gpu_model": None, "resources": {}}
"""Further keys of an item, which are written where they are not as usual."""
_BACKGROUND_KEYS = (
    "mode", "fraction", "cpus", "timeout_seconds", "startup_timeout_seconds", "startup_wait_seconds",
    "min_busy_share", "data", "checkout", "python",
)  # fmt: skip
_CAMPAIGN_KEYS = ("governor", "require_energy", "sampling", "gate", "thresholds", "memory_limit_mib", "isolation")


def hole_config(groups: Sequence[GroupCoverage], sessions: Sequence[Path], catalog: Catalog, target: int) -> str:
    """The config as YAML. Conditions (governor, gate, cooling, background ...) are those of the latest session and of
    each group's latest planned run. ProfilerError if it would not plan exactly the missing runs."""
    fillable = [one for one in groups if one.problem is None and one.missing_runs]
    runs = sum(one.missing_runs for one in fillable)
    document: dict[str, Any] = {
        "name": "coverage",
        "description": f"{runs} runs that are missing to {target} distinct values of each hyperparameter",
        "mode": "mixed",
        "seed": 0,
        **_conditions(sessions),
        "experiments": [item for one in fillable for item in _items(one, catalog)],
    }
    planned = len(make_plan(load(document, catalog=catalog), catalog))
    if planned != runs:
        raise ProfilerError(f"defect: the config plans {planned} runs, {runs} are missing")
    names = ", ".join(path.name for path in sessions[:5]) + (" ..." if len(sessions) > 5 else "")
    return f"{MARK} from {len(sessions)} sessions ({names}): every value below is one that none of them ran.\n" + (
        dump_yaml(document)
    )


def _conditions(sessions: Sequence[Path]) -> dict[str, Any]:
    """Keys of the campaign that decide how runs are measured, from the latest session that has a config."""
    for root in reversed(sessions):
        try:
            document = read_document(SessionFolder(root).campaign_yaml)
        except DocumentError:
            continue
        return {key: document[key] for key in _CAMPAIGN_KEYS if document.get(key) not in (None, {}, [])}
    return {}


def _items(one: GroupCoverage, catalog: Catalog) -> Iterable[dict[str, Any]]:
    """One item for the default run, one for each hyperparameter that lacks values."""
    if one.default_runs == 0:
        yield _item(one, {"mode": "default"}, catalog)
    for parameter in one.parameters:
        if parameter.proposed:
            values = {parameter.name: list(parameter.proposed)}
            yield _item(one, {"mode": "mutation", "mutate": [parameter.name], "values": values}, catalog)


def _item(one: GroupCoverage, how: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    spec, fixed = one.group.spec, one.group.setting_values
    training: dict[str, Any] = {"repo": spec.repo, "model": spec.name, **how}
    if fixed:
        training["hyperparameters"] = fixed
    for key in ("checkout", "python"):
        if one.planned.get(key):
            training[key] = one.planned[key]
    common = {key: one.planned[key] for key in _ITEM_KEYS if one.planned.get(key) not in (None, {})}
    common |= {key: one.planned[key] for key, usual in _USUAL.items() if one.planned.get(key, usual) != usual}
    background = one.planned.get("background")
    if one.group.mode == "mutation" or background is None:
        return {**training, **common}
    front = dict(training)
    front.update((key, common.pop(key)) for key in ("timeout_seconds", "cpus", "data") if key in common)
    if one.planned.get("fraction"):
        front["fraction"] = one.planned["fraction"]
    return {"mode": "parallel", "foreground": front, "background": _background(background, catalog), **common}


def _background(planned: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """The background of the planned run; its values only where they are not the defaults."""
    values = dict(planned.get("hyperparameters") or {})
    try:
        defaults = catalog.resolve(planned["repo"], planned["model"]).defaults()
    except UnknownWorkloadError:
        defaults = {}
    changed = {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}
    out = {"repo": planned["repo"], "model": planned["model"]}
    if changed:
        out["hyperparameters"] = changed
    return out | {key: planned[key] for key in _BACKGROUND_KEYS if planned.get(key) is not None}
