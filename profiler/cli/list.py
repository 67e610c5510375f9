"""``profiler list``: repositories, models, and hyper-parameters with default, range and distribution."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from profiler.cli import output
from profiler.cli.tables import Heading, print_table

if TYPE_CHECKING:
    from profiler.hyperparameters import HyperparameterSpec
    from profiler.workloads import Catalog, ModelSpec, RepoSpec


def execute(options: Namespace) -> int:
    """Prints the catalog. ConfigError where a manifest is wrong."""
    from profiler.workloads import load_catalog

    catalog = load_catalog()
    if getattr(options, "json", False):
        output.print_json(catalog_json(catalog))
        return 0
    for repo in catalog.repos.values():
        _print_repo(repo)
    output.print_result("run one: profiler run -r REPO -m MODEL -mt HYPERPARAMETERS   (* = no trainer for it here yet)")
    return 0


def catalog_json(catalog: Catalog) -> dict[str, Any]:
    """{"repos": [{"repo", "models": [{"model", "primary_metric", "hyperparameters": {...}}]}]} and more keys."""
    return {
        "repos": [
            {
                "repo": repo.name,
                "description": repo.description,
                "folder": str(repo.folder),
                "models": [_model_json(model) for model in repo.models.values()],
            }
            for repo in catalog.repos.values()
        ]
    }


def _model_json(model: ModelSpec) -> dict[str, Any]:
    return {
        "model": model.name,
        "aliases": list(model.aliases),
        "description": model.description,
        "can_run": model.command is not None,
        "primary_metric": model.primary_metric,
        "memory_mib": model.memory_mib or None,
        "hyperparameters": {name: _hyperparameter_json(spec) for name, spec in model.hyperparameters.items()},
        "hyperparameter_aliases": dict(model.hyperparameter_aliases),
    }


def _hyperparameter_json(spec: HyperparameterSpec) -> dict[str, Any]:
    return {
        "type": spec.type,
        "default": spec.default,
        "range": _range(spec),
        "distribution": spec.distribution if spec.range is not None else None,
        "zero_probability": spec.zero_probability,
        "minimum": spec.minimum,
        "maximum": spec.maximum,
        "choices": list(spec.choices) if spec.choices is not None else None,
        "unit": spec.unit,
    }


def _range(spec: HyperparameterSpec) -> list[float] | None:
    if spec.range is None:
        return None
    return [int(end) if spec.type == "int" else end for end in spec.range]


HEADINGS = tuple(map(Heading, ("hyper-parameter", "type", "default", "range", "distribution")))


def _print_repo(repo: RepoSpec) -> None:
    """Models that have the same hyper-parameters share one table."""
    output.print_result(f"{repo.name}: {repo.description}\n")
    groups: dict[str, list[ModelSpec]] = {}
    for model in repo.models.values():
        groups.setdefault(repr(model.hyperparameters), []).append(model)
    for models in groups.values():
        output.print_result("\n".join(f"  {_model_name(model):<34} {model.primary_metric}" for model in models) + "\n")
        specs = models[0].hyperparameters
        print_table(HEADINGS, [(name, *_cells(spec)) for name, spec in specs.items()])


def _model_name(model: ModelSpec) -> str:
    aliases = f" ({', '.join(model.aliases)})" if model.aliases else ""
    return f"{model.name}{aliases}{'' if model.command is not None else ' *'}"


def _cells(spec: HyperparameterSpec) -> tuple[str, ...]:
    default = "-" if spec.default is None else str(spec.default)
    if spec.range is not None:
        low, high = spec.range
        zero = f", 0 with {spec.zero_probability:.0%}" if spec.zero_probability else ""
        return spec.type, default, f"{low:g} .. {high:g}{zero}", spec.distribution
    choices = " | ".join(map(str, spec.choices)) if spec.choices is not None else "not mutated"
    return spec.type, default, choices, "-"
