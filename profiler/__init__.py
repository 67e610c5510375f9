"""Mutation-Based Training Energy Profiler: the public face. Imports nothing heavy; each name comes on first use.

campaign = profiler.load("configs/quickstart.yaml")     a config, checked; also from a dict
plan = profiler.plan(campaign)                          the runs that it means
session = profiler.run(campaign)                        runs them; blocks
session = profiler.open("results/run_20260101_000000")  results: session.runs(safe=True), session.samples(run_id)
everything = profiler.open("results")                   the same of all sessions in a folder, as one
result = profiler.measure(["python", "train.py"])       one command, contained and measured
result = profiler.effects(session)                      what each hyperparameter does to energy and accuracy
with profiler.meter("epoch 1") as window: ...           one block of your own script; then window.gpu_energy_j
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from profiler._version import __version__

if TYPE_CHECKING:
    from profiler._own import run as run
    from profiler.analysis.opened import effects_of as effects
    from profiler.config import load as load
    from profiler.energy.meter import meter as meter
    from profiler.measurement import measure_command as measure
    from profiler.planner import make_plan as plan
    from profiler.store.collection import open_results as open

__all__ = ["__version__", "effects", "load", "measure", "meter", "open", "plan", "run"]

_HOMES = {
    "effects": ("profiler.analysis.opened", "effects_of"),
    "load": ("profiler.config", "load"),
    "measure": ("profiler.measurement", "measure_command"),
    "meter": ("profiler.energy.meter", "meter"),
    "open": ("profiler.store.collection", "open_results"),
    "plan": ("profiler.planner", "make_plan"),
    "run": ("profiler._own", "run"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'profiler' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
