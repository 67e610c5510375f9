"""The declaration of every config key: where it stands, its kind, its default, what it means. Nothing is read here.

Levels: C campaign (top of the file), E experiment (an item of `experiments`), F `foreground`, B `background`.
"""

from __future__ import annotations

from dataclasses import dataclass

from profiler.config.kinds import (
    AnyMapping,
    Choice,
    Flag,
    FreeText,
    Group,
    Integer,
    Items,
    Kind,
    ListOf,
    MapOf,
    Names,
    Number,
    Text,
)
from profiler.config.limits import Limits
from profiler.config.paths import FilePath, PathOrMap
from profiler.config.resources import Resources

LEVEL_NAMES = {"C": "the campaign (top level)", "E": "an experiment item", "F": "`foreground`", "B": "`background`"}
MAX_RUNS = 1_000_000


@dataclass(frozen=True)
class Key:
    """One key. `optional`: null means the same as leaving it out."""

    name: str
    levels: str
    kind: Kind
    default: str
    meaning: str
    optional: bool = False

    def title(self, level: str) -> str:
        """The name as people write it: what only a background has is `background.<name>`."""
        return f"background.{self.name}" if level == "B" and self.levels in ("B", "CB") else self.name


COOLING = Group(
    "{seconds: N} or {until: idle, temperature_margin_c: 2, max_seconds: 120}",
    {
        "seconds": Number(low=0),
        "until": Choice("idle"),
        "temperature_margin_c": Number(low=0),
        "max_seconds": Number(above=0),
    },
)
GATE = Group(
    "{max_wait_seconds, memory_margin_mib, temperature_c}",
    {"max_wait_seconds": Number(low=0), "memory_margin_mib": Number(low=0), "temperature_c": Number(above=0)},
)
SAMPLING = Group("{rate_hz: 1..100}", {"rate_hz": Number(low=1, high=100)})
RANGE = Group(
    "{min, max, distribution, zero_probability}",
    {
        "min": Number(),
        "max": Number(),
        "distribution": Choice("uniform", "log_uniform"),
        "zero_probability": Number(low=0, high=1),
    },
)
_RUNS = Integer(1, MAX_RUNS)
_SCALARS = AnyMapping("mapping hyperparameter -> value")

KEYS: tuple[Key, ...] = (
    Key("name", "C", Text(), "required; a JSON file's own name", "The campaign's name."),
    Key("experiment_name", "C", Text(), "", "The old name of `name`."),
    Key("experiments", "C", Items(), "required", "The experiment items, in order."),
    *(Key(name, "CEFB", FreeText(), "", "Free text; kept, never read.", optional=True)
      for name in ("description", "notes", "note", "comment")),
    Key("mode", "C", Choice("default", "mutation", "parallel", "mixed", "batch"), "mutation",
        "What the items are, unless they say it themselves: `default` trains with the values as they are, `mutation`"
        " with mutated ones, `parallel` a foreground beside a background. `mixed`, `batch`: every item says its own."),
    Key("mode", "E", Choice("default", "mutation", "parallel"), "the campaign's", "The same for this item."),
    Key("mode", "F", Choice("default", "mutation"), "the campaign's, else mutation",
        "Whether the foreground's hyperparameters are mutated."),
    Key("mode", "B", Choice("loop", "reuse"), "loop",
        "`loop` starts a fresh process each time the background's training ends; `reuse` keeps one warm process that"
        " trains again and again, for trainers whose manifest says `can_repeat: true`."),
    Key("seed", "C", Integer(0, 2**63 - 1), "drawn and recorded",
        "Seed of everything random in the plan: the same seed gives the same plan.", optional=True),
    Key("runs_per_config", "CEF", _RUNS, "1",
        "Runs of an item (of each point of a grid, with `values`). The item's counts, else the foreground's, else the"
        " campaign's."),
    Key("max_retries", "CE", Integer(0, MAX_RUNS), "2", "Further attempts after a failed one."),
    Key("timeout_seconds", "CEFB", Number(above=0), "none",
        "Ends the training and everything it started after that time. A background takes only its own, in mode reuse"
        " none.",
        optional=True),
    Key("governor", "C", Choice("performance", "powersave", "ondemand"), "none",
        "CPU frequency governor during the campaign; refused before the first run where it cannot be set.",
        optional=True),
    Key("use_deduplication", "C", Flag(), "true if a history is given, else false",
        "Values that the history ran validly are not drawn again.", optional=True),
    Key("historical_csvs", "C", ListOf(FilePath()), "[]", "summary.csv files of earlier campaigns.", optional=True),
    Key("history", "C", ListOf(FilePath()), "[]", "Session folders of earlier campaigns.", optional=True),
    Key("repo", "EFB", Text(), "required", "The repository. Beside `foreground` it is a placeholder."),
    Key("model", "EFB", Text(), "required", "The model or an alias of it. Beside `foreground` it is a placeholder."),
    Key("mutate", "EF", Names(), "the names under `values`, `ranges`, `multipliers`; without any, all",
        'The hyperparameters that change; all of them change together in each run. "all": each one that has a range.'),
    Key("hyperparameters", "EFB", _SCALARS, "{}",
        "Values to use instead of the defaults; beside `mutate` they stay fixed.", optional=True),
    Key("fixed_hyperparameters", "EF", _SCALARS, "{}", "Values that stay fixed while others mutate.", optional=True),
    Key("values", "EF", AnyMapping("mapping hyperparameter -> list of values"), "{}",
        "A grid to go through instead of drawing: every combination of the listed values.", optional=True),
    Key("ranges", "EF", MapOf("mapping hyperparameter -> {min, max, distribution, zero_probability}", RANGE), "{}",
        "Draw from here instead of the manifest's range.", optional=True),
    Key("multipliers", "EF", MapOf("mapping hyperparameter -> [low, high]", ListOf(Number(low=0))), "{}",
        "Draw from default x low to default x high.", optional=True),
    Key("baseline_runs", "E", Integer(0, MAX_RUNS), "0",
        "That many runs with the default values, before the mutated ones; in parallel mode of each partner alone too."),
    Key("foreground", "E", AnyMapping("mapping"), "required in parallel mode", "The measured training."),
    Key("background", "E", AnyMapping("mapping"), "required in parallel mode",
        "The training that loads the same device meanwhile."),
    Key("fraction", "FB", Number(above=0, high=1), "0.7 and 0.3",
        "Share of the GPU; both together at most 1. Where only one is given, the other takes no more than is left."),
    Key("cpus", "CEFB", Number(above=0), "derived", "CPUs granted; the number of threads follows.", optional=True),
    Key("startup_timeout_seconds", "B", Number(above=0), "120", "The background must be ready within that time."),
    Key("startup_wait_seconds", "CB", Number(low=0), "none",
        "Wait that long for the background instead of watching for its readiness.", optional=True),
    Key("min_busy_share", "B", Number(low=0, high=1), "the threshold of `background_idle`, 0.5",
        "Below that share of working time the run is flagged `background_idle`.", optional=True),
    Key("cooling", "CE", COOLING, "{until: idle} with a GPU, else {seconds: 0}",
        "The rest after each run: until the GPU is as idle and, within the margin, as cool as before the first run, or"
        " a fixed time. Without a GPU `until: idle` waits for nothing.", optional=True),
    Key("order", "C", Choice("as_written", "shuffled", "blocked", "longest_first"), "as_written",
        "Order of the runs, part of the plan and drawn with its seed: `shuffled`, or `blocked`: one run of every item,"
        " then the next one of each, so that a drift meets all alike; a block runs on one node, so that a difference of"
        " nodes does so too. `longest_first`, by the estimates of the plan, is the soonest to end on several GPUs."),
    Key("isolation", "C", Choice("node", "gpu"), "node",
        "`node`: a run has its node to itself. `gpu`: its GPU only; the other GPUs may work at the same time, and the"
        " figures of the node's CPUs then cover all of them."),
    Key("sharing", "CE", Choice("time_slice", "mps"), "time_slice",
        "How two trainings share a GPU: in turns, or at the same time through a server of NVIDIA's MPS that the tool"
        " starts for each pair and ends with it."),
    Key("mps_active_threads", "CE", Choice("all", "fractions"), "all",
        "Under `sharing: mps`: whether each training may use all SMs, or only its `fraction` of them."),
    Key("memory_limit_mib", "CE", Integer(1, 10**9), "the device's",
        "A run whose models' estimates need more GPU memory is refused at plan time.", optional=True),
    Key("require_energy", "C", ListOf(Choice("gpu", "cpu", "dram")), "[]",
        "Energy sources without which no run starts.", optional=True),
    Key("gate", "C", GATE, "{max_wait_seconds: 300, memory_margin_mib: 64}",
        "What is checked before each run, and how long it may take.", optional=True),
    Key("sampling", "C", SAMPLING, "{rate_hz: 10}", "Samples a second, 1 to 100.", optional=True),
    Key("thresholds", "C", Limits(), "{}",
        "Limits of the verdicts, in the unit of each; stored with the session and used again by `profiler reprocess`.",
        optional=True),
    Key("data", "CEFB", PathOrMap(), "PROFILER_DATA", "Folder with the data sets, for all or by repository.",
        optional=True),
    Key("size", "CEFB", Choice("full", "reduced"), "full",
        "`reduced` trains a small version in seconds; sets the hyperparameter `size`."),
    Key("checkout", "EFB", FilePath(), "none",
        "Your own clone of the original repository: it trains instead of the trainer here, in a copy for each run.",
        optional=True),
    Key("python", "EFB", FilePath(), "the profiler's own",
        "Interpreter for that clone: a path, a name in PATH, or a command such as `conda run -n old python`.",
        optional=True),
    Key("resources", "CE", Resources(), "{}",
        "Extra Ray resources of a run; it goes only to nodes that offer them. CPUs and GPUs are `cpus` and `gpus`.",
        optional=True),
    Key("gpus", "CE", Integer(1, 1024), "1",
        "GPUs of one run, of one node and of one kind; more than one for trainers whose manifest says"
        " `multi_gpu: torchrun`."),
    Key("gpu_model", "CE", Text(), "none",
        "Only GPUs whose name has this in it, in any case, such as `H100`; without it a run takes any.", optional=True),
)  # fmt: skip

REFUSED: dict[str, str] = {
    "num_mutations": "runs_per_config",
    "mutate_params": "mutate (names) or ranges (names with min and max)",
    "mutation_type": "ranges (their distribution)",
    "mutation_strategy": "multipliers",
    "fixed_hyperparams": "fixed_hyperparameters",
    "timeout": "timeout_seconds",
    "repository": "repo",
    "global_settings": "the same keys at the top level",
    "cleanup_gpu_memory": "gate, which checks the GPU before every run",
}
"""Keys of old files that had no effect there, and what to write instead."""


def key_of(level: str, name: str) -> Key | None:
    """The declaration of `name` at `level`, or None if it has no place there."""
    return _BY_PLACE.get((level, name))


def names_at(level: str) -> list[str]:
    return [key.name for key in KEYS if level in key.levels]


def levels_of(name: str) -> str:
    return "".join(key.levels for key in KEYS if key.name == name)


def refused_hint(name: str) -> str | None:
    """What replaces the old key `name`, or None if it is not one."""
    if name in REFUSED:
        return REFUSED[name]
    return REFUSED["cleanup_gpu_memory"] if name.startswith("cleanup_") else None


_BY_PLACE = {(level, key.name): key for key in KEYS for level in key.levels}
