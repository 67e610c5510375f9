"""Imports the statistics libraries on first use, and says which extra to install where one is missing. Nothing else."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from profiler.errors import CannotRunError


def library(name: str) -> ModuleType:
    """The module `name`, for example "scipy.stats". CannotRunError when its package is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = (error.name or name).partition(".")[0]
        raise CannotRunError(
            f"this analysis needs {package}, which is not installed; install the extra `report`: "
            "pip install 'mutation-energy-profiler[report]'"
        ) from error
