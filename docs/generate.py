"""Makes the documents whose content is declared in code: `python docs/generate.py`, or with `--check` only compares.

Each entry of DOCUMENTS is a file and the function that gives its whole text.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from profiler.cli.markdown import cli_markdown  # noqa: E402
from profiler.config import load  # noqa: E402
from profiler.config.keys import KEYS, REFUSED, Key  # noqa: E402
from profiler.hyperparameters import HyperparameterSpec  # noqa: E402
from profiler.legacy.document import import_markdown  # noqa: E402
from profiler.mutation import Range  # noqa: E402
from profiler.planner import Plan, make_plan  # noqa: E402
from profiler.store.document import dataset_markdown, verdicts_markdown  # noqa: E402
from profiler.workloads import Catalog, ModelSpec, RepoSpec, load_catalog  # noqa: E402

_CONFIGURATION = """# Configuration

A config is a YAML file (presets lie in [configs/](../configs/README.md)), an old JSON settings file, or a dict in
Python. `profiler plan CONFIG` shows every run that it means and starts nothing. Anything wrong (an unknown key, model
or hyperparameter, a wrong type, a value out of its bounds) is told all at once, with the key's path, the value and
what is allowed; nothing is started then.

```yaml
name: my_study                # the campaign
mode: mutation
seed: 7                       # the same seed gives the same plan
runs_per_config: 5
experiments:
  - repo: examples            # an item: five runs, each with another learning rate and number of epochs
    model: mnist_cnn
    mutate: [learning_rate, epochs]
  - mode: parallel            # an item: a measured training beside one that loads the same device
    foreground: {repo: examples, model: siamese, mode: default}
    background: {repo: examples, model: mnist_rnn}
```

## Keys

Levels: **C** campaign (top of the file), **E** experiment (an item of `experiments`), **F** `foreground`,
**B** `background`. A value on a lower level wins. Mappings of hyperparameters on an item and on its `foreground` count
together; for a name that both have, the foreground's entry wins.

"""

_RULES = """
## Rules

* Hyperparameters, their types, defaults and ranges: [hyperparameters.md](hyperparameters.md), or `profiler list`. A
  range bounds what is drawn, not what you write: an explicit value only has to have the right type and keep the hard
  bounds.
* With `mutate: [a, b]`, each run changes a *and* b. `runs_per_config: N` gives N such runs, all different, none equal
  to the default. Where fewer different ones exist, that is an error that says how many there are.
* `values` replaces drawing by a grid: every combination of the listed values, `runs_per_config` times each. Names under
  `mutate` that have no list are drawn afresh for each point.
* `hyperparameters` stay fixed beside what mutates. In mode `default` they are the values of the run.
* With `use_deduplication`, values that a listed history ran validly, for the same repository, model and mode, are not
  drawn again, and points of a grid that it has are left out (the plan says so). In a summary.csv of the old tool an
  empty cell means the default; a row of this tool counts only if it tells every value, which a trainer that does not
  report its values cannot do.
* Relative paths are taken from the current directory.
* YAML is read by the rules of version 1.2 where numbers are concerned: `1e-3` is a number, `010` is ten. A key that is
  written twice is an error.

## Overriding

`--set KEY=VALUE` (any number of times) changes any key of a config; the value is read as YAML. The key is a path with
dots, list positions count from 0:

```
profiler plan configs/quickstart.yaml --set seed=7 --set experiments.0.runs_per_config=5 --set cooling.seconds=0
```

## Old settings files

JSON files of the older tool load unchanged. Keys that it ignored in silence are errors here:

"""


def configuration() -> str:
    """docs/configuration.md, from the declaration of the keys."""
    rows = [(f"`{_title(key)}`", " ".join(key.levels), _words(key), key.default or "none", key.meaning) for key in KEYS]
    refused = [(f"`{old}`", f"`{new}`" if " " not in new else new) for old, new in REFUSED.items()]
    return (
        _CONFIGURATION
        + _table(("key", "level", "type", "default", "meaning"), rows)
        + _RULES
        + _table(("old key", "use"), refused)
    )


def _title(key: Key) -> str:
    return key.title("B") if key.levels == "B" else key.name


def _words(key: Key) -> str:
    return key.kind.words


_HYPERPARAMETERS = """# Hyperparameters

Made from the manifests `repos/<repo>/workload.yaml`. *Bounds* hold for every value; *mutated* says what is drawn from
when the hyperparameter is mutated (U uniform, L log-uniform, both ends included), and stays empty where there is no
range: such a one can only be listed under `values` or given a range in the config. `mutate: all` takes each one that
has a range. A default of *none* leaves the choice to the trainer.

"""


def hyperparameters() -> str:
    """docs/hyperparameters.md, from the manifests."""
    return _HYPERPARAMETERS + "\n".join(_repository(repo) for repo in own_catalog().repos.values())


def _repository(repo: RepoSpec) -> str:
    groups: dict[str, list[ModelSpec]] = {}
    for model in repo.models.values():
        groups.setdefault(repr((model.hyperparameters, model.hyperparameter_aliases)), []).append(model)
    origin = f" ([original]({repo.origin}))" if repo.origin else ""
    parts = [f"## {repo.name}\n\n{repo.description}{origin}\n\n{_models(repo.models.values())}"]
    for models in groups.values():
        title = f"### {', '.join(model.name for model in models)}\n\n" if len(groups) > 1 else ""
        parts.append(title + _specs(models[0]))
    return "\n".join(parts)


def _models(models: Iterable[ModelSpec]) -> str:
    rows = []
    for model in models:
        metric = model.metrics[model.primary_metric]
        better = "higher is better" if metric.direction == "maximize" else "lower is better"
        memory = f"{model.memory_mib:g}" if model.uses_gpu else "uses no GPU"
        names = ", ".join((f"`{model.name}`", *(f"`{alias}`" for alias in model.aliases)))
        trainer = "yes" if model.command is not None else "not yet"
        rows.append((names, model.description, f"`{model.primary_metric}`, {better}", memory, trainer))
    return _table(
        ("model (and aliases)", "what it is", "primary metric", "GPU memory, MiB (estimate)", "trainer"), rows
    )


def _specs(model: ModelSpec) -> str:
    aliases = {target: alias for alias, target in model.hyperparameter_aliases.items()}
    rows = []
    for spec in model.hyperparameters.values():
        name = f"`{spec.name}`" + (f" (alias `{aliases[spec.name]}`)" if spec.name in aliases else "")
        drawn = spec.mutation_range()
        rows.append((name, spec.type, _value(spec.default), _bounds(spec), _range(drawn), spec.unit, spec.description))
    return _table(("hyperparameter", "type", "default", "bounds", "mutated", "unit", "meaning"), rows)


def _value(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _bounds(spec: HyperparameterSpec) -> str:
    if spec.choices is not None:
        return " / ".join(map(str, spec.choices))
    parts = [f">= {spec.minimum:.10g}"] if spec.minimum is not None else []
    parts += [f"<= {spec.maximum:.10g}"] if spec.maximum is not None else []
    return ", ".join(parts)


def _range(drawn: Range | None) -> str:
    if drawn is None:
        return ""
    text = f"{drawn.low:g} to {drawn.high:g} {'L' if drawn.distribution == 'log_uniform' else 'U'}"
    return text + (f", exactly 0 with probability {drawn.zero_probability:g}" if drawn.zero_probability else "")


_PRESETS = """# Presets

`profiler plan configs/NAME.yaml` shows the runs of a preset, `profiler run configs/NAME.yaml` runs them. *Runs here*:
yes, or what is missing so far. None of them sets a CPU governor; add `governor: performance` (or
`--set governor=performance`) where you may.

"""


def presets() -> str:
    """configs/README.md, from the presets' plans."""
    rows = []
    catalog = own_catalog()
    for path in preset_files():
        plan = make_plan(load(path, catalog=catalog), catalog)
        name = f"[{path.stem}]({path.name})"
        rows.append((name, str(len(plan)), plan.campaign.description, _missing(plan, catalog) or "yes"))
    return _PRESETS + _table(("preset", "runs", "what for", "runs here"), rows)


def preset_files() -> list[Path]:
    """The presets, the quick start first."""
    return sorted((ROOT / "configs").glob("*.yaml"), key=lambda path: (path.stem != "quickstart", path.stem))


def _missing(plan: Plan, catalog: Catalog) -> str:
    wanted = {(run.repo, run.model) for run in plan}
    wanted |= {(run.background.repo, run.background.model) for run in plan if run.background is not None}
    absent = sorted({repo for repo, model in wanted if catalog.resolve(repo, model).command is None})
    parts = [f"trainers of {', '.join(absent)}"] if absent else []
    return f"not yet: {'; '.join(parts)}" if parts else ""


def own_catalog() -> Catalog:
    """The project's own repositories, whatever else is known on this machine."""
    repos = {
        name: repo
        for name, repo in load_catalog([ROOT / "repos"]).repos.items()
        if repo.folder.parent == ROOT / "repos"
    }
    return Catalog(repos)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


DOCUMENTS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("docs/cli.md", cli_markdown),
    ("docs/configuration.md", configuration),
    ("docs/hyperparameters.md", hyperparameters),
    ("docs/dataset.md", dataset_markdown),
    ("docs/verdicts.md", verdicts_markdown),
    ("docs/import.md", import_markdown),
    ("configs/README.md", presets),
)


def stale(documents: Mapping[str, str]) -> list[str]:
    """The documents whose file differs from what the code says, or is missing."""
    out = []
    for name, text in documents.items():
        path = ROOT / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            out.append(name)
    return out


def main(arguments: Sequence[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: python docs/generate.py [--check]", file=sys.stderr)
        return 2
    documents = {name: render() for name, render in DOCUMENTS}
    changed = stale(documents)
    for name in changed:
        if arguments:
            print(f"{name} is stale; run: python docs/generate.py")
        else:
            (ROOT / name).write_text(documents[name], encoding="utf-8")
            print(f"wrote {name}")
    return 1 if changed and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
