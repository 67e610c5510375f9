"""Looks up what a catalog says about a model: scales of its hyperparameters, its metric, which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from profiler.hyperparameters import HyperparameterSpec
from profiler.workloads import Catalog, UnknownWorkloadError


@dataclass(frozen=True)
class ModelFacts:
    """What is declared of a model; empty where nobody declared it, which `note` says."""

    specs: Mapping[str, HyperparameterSpec] = field(default_factory=dict)
    metric_name: str | None = None
    metric_unit: str = ""
    direction: Literal["maximize", "minimize"] | None = None
    note: str = ""


def facts_of(catalog: Catalog | None, repo: str, model: str) -> ModelFacts:
    """The facts of one model."""
    try:
        spec = catalog.resolve(repo, model) if catalog is not None else None
    except UnknownWorkloadError:
        spec = None
    if spec is None:
        return ModelFacts(note="no manifest of this model is known here: every number is on the linear scale")
    metric = spec.metrics[spec.primary_metric]
    return ModelFacts(spec.hyperparameters, spec.primary_metric, metric.unit, metric.direction)
