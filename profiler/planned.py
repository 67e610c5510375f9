"""What a plan is made of: planned runs, the background of a pair, the plan itself. Plain data; decides nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, overload

from profiler.config import Campaign, Cooling
from profiler.mutation import Scalar

if TYPE_CHECKING:
    import pandas as pd


TrainingKey = tuple[str, str, str]


def training_key(repo: str, model: str, values: Mapping[str, Any], but: Collection[str]) -> TrainingKey:
    """Equal for trainings of one model whose values differ at most in those that `but` names."""
    kept = {name: value for name, value in values.items() if name not in but}
    return repo, model, json.dumps(kept, sort_keys=True)


@dataclass(frozen=True)
class Background:
    """The training that loads the device during a run; `hyperparameters` is complete."""

    repo: str
    model: str
    hyperparameters: Mapping[str, Scalar | None]
    mode: Literal["loop", "reuse"] = "loop"
    fraction: float = 0.3
    cpus: float | None = None
    timeout_seconds: float | None = None
    startup_timeout_seconds: float = 120.0
    startup_wait_seconds: float | None = None
    min_busy_share: float | None = None
    data: str | None = None
    size: str = "full"
    checkout: str | None = None
    python: str | None = None

    @property
    def longest_start_s(self) -> float:
        """How long it is waited for: the fixed time where there is one."""
        return self.startup_timeout_seconds if self.startup_wait_seconds is None else self.startup_wait_seconds


@dataclass(frozen=True)
class PlannedRun:
    """One training to be measured. `hyperparameters` is complete, under canonical names.

    `index` counts from 1 over the plan; `item` is the position of its experiment in the config, from 0. `memory_mib`:
    estimate of GPU memory of one device, both trainings together. `gpus`: of one node, all of one kind; `gpu_model`:
    part of the name that they must have; `resources`: what else of Ray it takes. The estimates of time and energy are
    of the foreground at full size on the card they were taken on; None where nobody measured.
    """

    index: int
    experiment_id: str
    repo: str
    model: str
    mode: Literal["default", "mutation", "parallel"]
    foreground_mode: Literal["default", "mutation"]
    hyperparameters: Mapping[str, Scalar | None]
    mutated: tuple[str, ...]
    background: Background | None
    max_retries: int
    timeout_seconds: float | None
    fraction: float
    cpus: float | None
    cooling: Cooling
    memory_mib: float
    data: str | None
    size: str
    note: str
    item: int
    sharing: Literal["time_slice", "mps"] = "time_slice"
    mps_active_threads: Literal["all", "fractions"] = "all"
    estimated_seconds: float | None = None
    estimated_gpu_energy_j: float | None = None
    checkout: str | None = None
    python: str | None = None
    gpus: int = 1
    gpu_model: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)

    def sm_percent(self, fraction: float) -> float:
        """The percent of the SMs that a partner with this `fraction` may use under MPS; 100: no limit."""
        return round(100 * fraction, 2) if self.mps_active_threads == "fractions" else 100.0

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON carries them."""
        out = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        out["hyperparameters"] = dict(self.hyperparameters)
        out["mutated"] = list(self.mutated)
        out["resources"] = dict(self.resources)
        out["cooling"] = self.cooling.to_dict()
        if self.background is not None:
            out["background"] = {
                **{entry.name: getattr(self.background, entry.name) for entry in fields(self.background)},
                "hyperparameters": dict(self.background.hyperparameters),
            }
        return out

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PlannedRun:
        """The run that `to_json` wrote."""
        background = document["background"]
        return cls(
            **{
                **document,
                "mutated": tuple(document["mutated"]),
                "cooling": Cooling(**document["cooling"]),
                "background": None if background is None else Background(**background),
            }
        )


@dataclass(frozen=True)
class Plan(Sequence[PlannedRun]):
    """All runs of a campaign, in order. `notes` says what a reader should know, such as points that history has."""

    campaign: Campaign
    seed: int
    runs: tuple[PlannedRun, ...]
    notes: tuple[str, ...] = field(default=())

    @overload
    def __getitem__(self, index: int) -> PlannedRun: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[PlannedRun, ...]: ...
    def __getitem__(self, index: int | slice) -> PlannedRun | tuple[PlannedRun, ...]:
        return self.runs[index]

    def __len__(self) -> int:
        return len(self.runs)

    def to_json(self) -> dict[str, Any]:
        """{"name", "seed", "runs": [...], "notes": [...]}; the same campaign and seed give the same."""
        return {
            "name": self.campaign.name,
            "seed": self.seed,
            "runs": [run.to_json() for run in self.runs],
            "notes": list(self.notes),
        }

    @property
    def digest(self) -> str:
        """SHA-256 of seed and runs as canonical JSON: equal digests, equal plans."""
        content = {"seed": self.seed, "runs": [run.to_json() for run in self.runs]}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_pandas(self) -> pd.DataFrame:
        """One row a run; hyperparameters as columns hp_<name>, the background's as background_hp_<name>."""
        import pandas as pd

        return pd.DataFrame([_flat(run.to_json()) for run in self.runs])


def _flat(run: dict[str, Any]) -> dict[str, Any]:
    values, background = run.pop("hyperparameters"), run.pop("background")
    run["background_repo"] = background["repo"] if background else None
    run["background_model"] = background["model"] if background else None
    flat = {f"hp_{name}": value for name, value in values.items()}
    partner = background["hyperparameters"] if background else {}
    return {**run, **flat, **{f"background_hp_{name}": value for name, value in partner.items()}}
