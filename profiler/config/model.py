"""What a config says, resolved: a frozen Campaign of experiments. It reads nothing and checks nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from profiler.documents import dump_yaml
from profiler.mutation import Range, Scalar

RunMode = Literal["default", "mutation"]


@dataclass(frozen=True)
class Cooling:
    """The wait after a run. Neither `seconds` nor `until` stated: the node decides (with a GPU until
    it is idle, else no wait)."""

    seconds: float | None = None
    until: Literal["idle"] | None = None
    temperature_margin_c: float = 2.0
    max_seconds: float = 120.0

    def to_dict(self) -> dict[str, Any]:
        if self.until is not None:
            return {
                "until": self.until,
                "temperature_margin_c": self.temperature_margin_c,
                "max_seconds": self.max_seconds,
            }
        return {} if self.seconds is None else {"seconds": self.seconds}


@dataclass(frozen=True)
class Gate:
    """What must hold before each run: free memory within the margin, temperature below (None: not asked)."""

    max_wait_seconds: float = 300.0
    memory_margin_mib: float = 64.0
    temperature_c: float | None = None


@dataclass(frozen=True)
class TrainingSpec:
    """One training of an experiment. `hyperparameters` holds what the config says; the rest are the defaults."""

    repo: str
    model: str
    hyperparameters: Mapping[str, Scalar | None] = field(default_factory=dict)
    fraction: float | None = None
    cpus: float | None = None
    timeout_seconds: float | None = None
    data: str | None = None
    checkout: str | None = None
    python: str | None = None

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {"repo": self.repo, "model": self.model}
        if self.hyperparameters:
            out["hyperparameters"] = dict(self.hyperparameters)
        for name in ("fraction", "cpus", "timeout_seconds", "data", "checkout", "python"):
            if getattr(self, name) is not None:
                out[name] = getattr(self, name)
        return out


@dataclass(frozen=True)
class ForegroundSpec(TrainingSpec):
    """The measured training. `mutate` names what changes; each name is in `values` (a grid) or `ranges` (drawn)."""

    mode: RunMode = "mutation"
    mutate: tuple[str, ...] = ()
    values: Mapping[str, tuple[Scalar | None, ...]] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        out = {**super().to_dict(), "mode": self.mode}
        if self.mutate:
            out["mutate"] = list(self.mutate)
        if self.values:
            out["values"] = {name: list(values) for name, values in self.values.items()}
        if self.ranges:
            out["ranges"] = {name: _range_to_dict(drawn) for name, drawn in self.ranges.items()}
        return out


@dataclass(frozen=True)
class BackgroundSpec(TrainingSpec):
    """The training that loads the same device. `min_busy_share` None: not stated."""

    mode: Literal["loop", "reuse"] = "loop"
    startup_timeout_seconds: float = 120.0
    startup_wait_seconds: float | None = None
    min_busy_share: float | None = None

    def to_dict(self) -> dict[str, Any]:
        out = {**super().to_dict(), "mode": self.mode, "startup_timeout_seconds": self.startup_timeout_seconds}
        for name in ("startup_wait_seconds", "min_busy_share"):
            if getattr(self, name) is not None:
                out[name] = getattr(self, name)
        return out


@dataclass(frozen=True)
class Experiment:
    """One item of a campaign: `runs_per_config` runs (of each point, where there is a grid) and its baselines."""

    mode: Literal["default", "mutation", "parallel"]
    foreground: ForegroundSpec
    background: BackgroundSpec | None = None
    runs_per_config: int = 1
    baseline_runs: int = 0
    max_retries: int = 2
    cooling: Cooling = Cooling()
    memory_limit_mib: int | None = None
    sharing: Literal["time_slice", "mps"] = "time_slice"
    mps_active_threads: Literal["all", "fractions"] = "all"
    resources: Mapping[str, float] = field(default_factory=dict)
    gpus: int = 1
    gpu_model: str | None = None
    texts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """The free text of the item, for people."""
        for key in ("note", "description", "comment", "notes"):
            text = self.texts.get(key)
            if text:
                return text if isinstance(text, str) else " ".join(text)
        return ""

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {"mode": self.mode, **self.texts}
        if self.background is None:
            out = {**out, **self.foreground.to_dict(), "mode": self.mode}
        else:
            out.update(foreground=self.foreground.to_dict(), background=self.background.to_dict())
        out.update(runs_per_config=self.runs_per_config, max_retries=self.max_retries)
        optional = {
            "baseline_runs": self.baseline_runs,
            "cooling": self.cooling.to_dict(),
            "memory_limit_mib": self.memory_limit_mib,
            "sharing": self.sharing if self.sharing != "time_slice" else None,
            "mps_active_threads": self.mps_active_threads if self.mps_active_threads != "all" else None,
            "resources": dict(self.resources),
            "gpus": self.gpus if self.gpus != 1 else None,
            "gpu_model": self.gpu_model,
        }
        return {**out, **{key: value for key, value in optional.items() if value}}


@dataclass(frozen=True)
class Campaign:
    """A whole config, resolved: every item says everything itself. `to_dict()` loads back to the same campaign."""

    name: str
    seed: int
    experiments: tuple[Experiment, ...]
    mode: str = "mutation"
    texts: Mapping[str, Any] = field(default_factory=dict)
    governor: Literal["performance", "powersave", "ondemand"] | None = None
    require_energy: tuple[str, ...] = ()
    sampling_rate_hz: float = 10.0
    memory_limit_mib: int | None = None
    gate: Gate = Gate()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    use_deduplication: bool = False
    historical_csvs: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    order: Literal["as_written", "shuffled", "blocked", "longest_first"] = "as_written"
    isolation: Literal["node", "gpu"] = "node"
    file: str = field(default="", compare=False)

    @property
    def description(self) -> str:
        text = self.texts.get("description", "")
        return text if isinstance(text, str) else " ".join(text)

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {"name": self.name, **self.texts, "mode": self.mode, "seed": self.seed}
        optional = {
            "governor": self.governor,
            "require_energy": list(self.require_energy),
            "memory_limit_mib": self.memory_limit_mib,
            "thresholds": dict(self.thresholds),
            "historical_csvs": list(self.historical_csvs),
            "history": list(self.history),
            "order": self.order if self.order != "as_written" else None,
            "isolation": self.isolation if self.isolation != "node" else None,
        }
        out.update({key: value for key, value in optional.items() if value})
        out["use_deduplication"] = self.use_deduplication
        out["sampling"] = {"rate_hz": self.sampling_rate_hz}
        gate = {"max_wait_seconds": self.gate.max_wait_seconds, "memory_margin_mib": self.gate.memory_margin_mib}
        if self.gate.temperature_c is not None:
            gate["temperature_c"] = self.gate.temperature_c
        out["gate"] = gate
        out["experiments"] = [experiment.to_dict() for experiment in self.experiments]
        return out

    def to_yaml(self) -> str:
        return dump_yaml(self.to_dict())


def _range_to_dict(drawn: Range) -> dict[str, Any]:
    return {
        "min": drawn.low,
        "max": drawn.high,
        "distribution": drawn.distribution,
        "zero_probability": drawn.zero_probability,
    }
