"""Expands a campaign into its runs, all of them, before anything starts. It starts nothing and knows no machine."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from profiler.config import Campaign, Cooling, Experiment, TrainingSpec
from profiler.config.keys import MAX_RUNS
from profiler.errors import ConfigError, ConfigIssue, UsageError
from profiler.history import History, memory_rows, read_history
from profiler.memory import Estimate, MemoryHistory
from profiler.mutation import Scalar, TooFewValuesError, Vector, draw_unique, stream, vector_of
from profiler.order import experiment_id, ordered
from profiler.planned import Background, Plan, PlannedRun
from profiler.workloads import Catalog, ModelSpec, UnknownWorkloadError, load_catalog

__all__ = ["Background", "Cooling", "Plan", "PlannedRun", "make_plan"]

Values = dict[str, Scalar | None]


def make_plan(campaign: Campaign, catalog: Catalog | None = None, history: History | None = None) -> Plan:
    """Every run that `campaign` means, with complete values. Starts nothing.

    `catalog` defaults to the repositories known here, `history` to what the campaign names (if it is to be used).
    Raises ConfigError with everything that cannot be planned: too few unique values, too little memory, too many runs,
    an unreadable history; UsageError where `campaign` is none.
    """
    if not isinstance(campaign, Campaign):
        raise UsageError(
            f"this is no campaign: {campaign!r:.80}\nmake one with profiler.load(CONFIG), a path or a dict"
        )
    catalog = load_catalog() if catalog is None else catalog
    notes: list[str] = []
    if history is None:
        history, notes = _history(campaign, catalog)
    return _Planner(campaign, catalog, history, notes).plan()


def _history(campaign: Campaign, catalog: Catalog) -> tuple[History, list[str]]:
    if campaign.use_deduplication:
        history = read_history(campaign.historical_csvs, campaign.history, catalog, campaign.file or "config")
        return history, list(history.notes)
    if campaign.historical_csvs or campaign.history:
        used = "tells of memory only" if campaign.history else "is not used"
        return History(), [f"use_deduplication is false: the listed history {used}"]
    return History(), []


def _memory_history(campaign: Campaign) -> MemoryHistory:
    """The peaks in the sessions that the config names; what cannot be read was refused with the history, or is not
    used."""
    return MemoryHistory.of_rows(row for folder in campaign.history for row in memory_rows(Path(folder)))


class _Planner:
    """Expands one campaign; faults are collected so that all are told at once."""

    def __init__(self, campaign: Campaign, catalog: Catalog, history: History, notes: list[str]) -> None:
        self.campaign, self.catalog, self.history, self.notes = campaign, catalog, history, notes
        self.issues: list[ConfigIssue] = []
        self.runs: list[PlannedRun] = []
        self.taken: defaultdict[tuple[str, str, str], set[Vector]] = defaultdict(set)
        self.alike: Counter[tuple[str, ...]] = Counter()
        self.memory = _memory_history(campaign)

    def plan(self) -> Plan:
        total = sum(map(_run_count, self.campaign.experiments))
        if total > MAX_RUNS:
            self._issue("experiments", total, f"these items make {total} runs; a plan has at most {MAX_RUNS}")
            raise ConfigError(self.issues)
        pairs = [(number, item, self._models(number, item)) for number, item in enumerate(self.campaign.experiments)]
        known = [_Item(number, item, *models) for number, item, models in pairs if models is not None]
        for item in known:
            self._reserve_grid(item)
        self._note_open_ends(known)
        self._note_unknown_memory(known)
        for item in known:
            first = len(self.runs)
            self._expand(item)
            self._check_memory(item, self.runs[first:])
        if not self.runs and not self.issues:
            self._issue("experiments", None, "nothing is left to run: the history has every point of it")
        if self.issues:
            raise ConfigError(self.issues)
        runs = ordered(self.runs, self.campaign.order, self.campaign.seed)
        return Plan(self.campaign, self.campaign.seed, tuple(runs), tuple(self.notes))

    def _models(self, number: int, item: Experiment) -> tuple[ModelSpec, ModelSpec | None] | None:
        front, back = item.foreground, item.background
        try:
            partner = self.catalog.of(back) if back is not None else None
            return self.catalog.of(front), partner
        except UnknownWorkloadError as error:
            self._issue(f"experiments[{number}]", error.value, str(error), error.suggestion)
            return None

    def _note_open_ends(self, items: Sequence[_Item]) -> None:
        """A foreign program without the line that ends it would train to its end each time, and every run fail."""
        for model in {item.key[:2]: item.model for item in items}.values():
            if model.has_open_end:
                self.notes.append(
                    f"{model.repo} / {model.name}: its manifest reads the log, but has no completion_pattern; "
                    "unless the trainer writes the event `done`, no run of it counts as finished"
                )

    def _note_unknown_memory(self, items: Sequence[_Item]) -> None:
        """Where it decides whether something fits, nothing known must not look like nothing needed."""
        told = [item for item in items if item.partner is not None or item.experiment.memory_limit_mib is not None]
        needs = [(model, need) for item in told for model, need in self._models_needs(item, item.base)]
        for model in {model.repo + model.name: model for model, need in needs if need.unknown_for(model)}.values():
            self.notes.append(
                f"{model.repo} / {model.name}: nothing tells how much GPU memory it needs, so it counts as 0 MiB; say "
                "memory_mib in its manifest, or name a session under `history` that has measured it"
            )

    def _check_memory(self, item: _Item, runs: Sequence[PlannedRun]) -> None:
        """The run that needs the most decides; it is told by the base values where those need as much, or no run is."""
        limit = item.experiment.memory_limit_mib
        whole = [run for run in runs if (run.background is None) == (item.partner is None)]
        largest = max(whole, key=lambda run: run.memory_mib, default=None)
        values, needs = item.base, self._needs(item, item.base)
        if largest is not None and largest.memory_mib != sum(need.mib for _, need in needs):
            values = dict(largest.hyperparameters)
            needs = self._needs(item, values)
        if limit is not None and sum(need.mib for _, need in needs) > limit:
            self._too_much(item, values, needs, limit)

    def _too_much(self, item: _Item, values: Values, needs: Sequence[tuple[str, Estimate]], limit: int) -> None:
        total_mib = sum(need.mib for _, need in needs)
        parts = " + ".join(need.text(name) for name, need in needs)
        if len(needs) > 1:
            parts += f" = {total_mib:.0f} MiB"
        drawn = ", ".join(f"{name} {value}" for name, value in values.items() if value != item.base.get(name))
        parts += f" with {drawn}" if drawn else ""
        message = f"needs more GPU memory than memory_limit_mib allows: {parts} > {limit} MiB"
        self._issue(f"experiments[{item.number}]", total_mib, message)

    def _needs(self, item: _Item, values: Values) -> list[tuple[str, Estimate]]:
        """Each training of an item, the foreground with these values, and the GPU memory that it needs."""
        return [(model.name, need) for model, need in self._models_needs(item, values)]

    def _models_needs(self, item: _Item, values: Values) -> list[tuple[ModelSpec, Estimate]]:
        needs = [(item.model, self.memory.estimate(item.model, values))]
        back = item.experiment.background
        if back is not None and item.partner is not None:
            needs.append((item.partner, self.memory.estimate(item.partner, complete(item.partner, back))))
        return needs

    def _reserve_grid(self, item: _Item) -> None:
        """Written values come first: what is drawn, anywhere in the plan, must not repeat them."""
        if item.experiment.foreground.values and not item.experiment.foreground.ranges:
            self.taken[item.key].update(vector_of({**item.base, **point}) for point in item.points())

    def _expand(self, item: _Item) -> None:
        experiment = item.experiment
        for _ in range(experiment.baseline_runs):
            self._add_baseline(item)
        if experiment.foreground.mode == "default":
            for _ in range(experiment.runs_per_config):
                self._add(item, item.base, ())
        elif experiment.foreground.ranges:
            self._add_drawn(item)
        else:
            self._add_grid(item)

    def _add_baseline(self, item: _Item) -> None:
        """A run of the default values: alone, and where there is a partner the partner alone and both together."""
        front, back = item.experiment.foreground, item.experiment.background
        self._add_solo(item, item.model, front, item.base)
        if back is not None and item.partner is not None:
            self._add_solo(item, item.partner, back, complete(item.partner, back))
            if front.mode == "mutation":
                self._add(item, item.base, (), foreground_mode="default")

    def _add_drawn(self, item: _Item) -> None:
        """Draw the names with ranges, afresh for every point of the grid (if there is one)."""
        experiment, front = item.experiment, item.experiment.foreground
        kind = (experiment.mode, front.repo, front.model, ",".join(sorted(front.mutate)))
        alike = self.alike[kind]
        self.alike[kind] += 1

        def streams(point: int) -> Callable[[int], random.Random]:
            return lambda draw: stream(self.campaign.seed, *kind, alike, point, draw)

        taken = self.taken[item.key]
        taken |= self.history.of(*item.key)
        for number, point in enumerate(item.points()):
            base = {**item.base, **point}
            try:
                drawn = draw_unique(
                    front.ranges,
                    experiment.runs_per_config,
                    base=base,
                    defaults={vector_of(item.model.defaults()), vector_of(item.base)},
                    taken=taken,
                    streams=streams(number),
                )
            except TooFewValuesError as error:
                place = f"experiments[{item.number}]" + (".foreground" if experiment.background else "")
                self._issue(f"{place}.mutate", list(front.mutate), str(error))
                return
            for values in drawn:
                self._add(item, {**base, **values}, front.mutate)

    def _add_grid(self, item: _Item) -> None:
        done = self.history.of(*item.key)
        points = [{**item.base, **point} for point in item.points()]
        left = [point for point in points if vector_of(point) not in done]
        if len(left) < len(points):
            self.notes.append(
                f"experiments[{item.number}]: {len(points) - len(left)} of {len(points)} points are left out, "
                "the history has valid runs of them"
            )
        for values in left:
            for _ in range(item.experiment.runs_per_config):
                self._add(item, values, item.experiment.foreground.mutate)

    def _add_solo(self, item: _Item, model: ModelSpec, spec: TrainingSpec, values: Values) -> None:
        self.runs.append(self._run(item, model, spec, values, mode="default", foreground_mode="default"))

    def _add(
        self,
        item: _Item,
        values: Values,
        mutated: tuple[str, ...],
        foreground_mode: Literal["default", "mutation"] | None = None,
    ) -> None:
        experiment = item.experiment
        self.runs.append(
            self._run(
                item,
                item.model,
                experiment.foreground,
                values,
                mode=experiment.mode,
                foreground_mode=foreground_mode or experiment.foreground.mode,
                mutated=mutated,
                background=item.background(),
            )
        )

    def _run(
        self,
        item: _Item,
        model: ModelSpec,
        spec: TrainingSpec,
        values: Values,
        *,
        mode: Literal["default", "mutation", "parallel"],
        foreground_mode: Literal["default", "mutation"],
        mutated: tuple[str, ...] = (),
        background: Background | None = None,
    ) -> PlannedRun:
        index = len(self.runs) + 1
        seconds = _estimated_seconds(model, values)
        watts = model.mean_gpu_power_w if background is None else None
        return PlannedRun(
            index=index,
            experiment_id=experiment_id(model.repo, model.name, index, background is not None),
            repo=model.repo,
            model=model.name,
            mode=mode,
            foreground_mode=foreground_mode,
            hyperparameters=values,
            mutated=mutated,
            background=background,
            max_retries=item.experiment.max_retries,
            timeout_seconds=spec.timeout_seconds,
            fraction=1.0 if background is None or spec.fraction is None else spec.fraction,
            cpus=spec.cpus,
            cooling=item.experiment.cooling,
            sharing=item.experiment.sharing if background is not None else "time_slice",
            mps_active_threads=item.experiment.mps_active_threads if background is not None else "all",
            memory_mib=self._memory_mib(model, values, background, item),
            data=spec.data,
            size=_size(values),
            note=item.experiment.note,
            item=item.number,
            estimated_seconds=seconds,
            estimated_gpu_energy_j=seconds * watts if seconds is not None and watts is not None else None,
            checkout=spec.checkout,
            python=spec.python,
            gpus=item.experiment.gpus,
            gpu_model=item.experiment.gpu_model,
            resources=item.experiment.resources,
        )

    def _memory_mib(self, model: ModelSpec, values: Values, background: Background | None, item: _Item) -> float:
        own = self.memory.estimate(model, values).mib
        if background is None or item.partner is None:
            return own
        return own + self.memory.estimate(item.partner, background.hyperparameters).mib

    def _issue(self, path: str, value: Any, message: str, suggestion: str | None = None) -> None:
        self.issues.append(ConfigIssue(self.campaign.file or "config", path, value, message, suggestion))


@dataclass(frozen=True)
class _Item:
    """One experiment with the models it names."""

    number: int
    experiment: Experiment
    model: ModelSpec
    partner: ModelSpec | None

    @property
    def key(self) -> tuple[str, str, str]:
        """Within this, no vector is drawn twice."""
        return self.model.repo, self.model.name, self.experiment.mode

    @property
    def base(self) -> Values:
        """The values of the foreground before anything mutates."""
        return complete(self.model, self.experiment.foreground)

    def points(self) -> Iterator[Values]:
        """Every combination of the listed values, the last name changing fastest; one empty point without a grid."""
        grid = self.experiment.foreground.values
        for combination in itertools.product(*grid.values()):
            yield dict(zip(grid, combination, strict=True))

    def background(self) -> Background | None:
        spec = self.experiment.background
        if spec is None or self.partner is None:
            return None
        values = complete(self.partner, spec)
        return Background(
            repo=spec.repo,
            model=spec.model,
            hyperparameters=values,
            mode=spec.mode,
            fraction=0.3 if spec.fraction is None else spec.fraction,
            cpus=spec.cpus,
            timeout_seconds=spec.timeout_seconds,
            startup_timeout_seconds=spec.startup_timeout_seconds,
            startup_wait_seconds=spec.startup_wait_seconds,
            min_busy_share=spec.min_busy_share,
            data=spec.data,
            size=_size(values),
            checkout=spec.checkout,
            python=spec.python,
        )


def complete(model: ModelSpec, spec: TrainingSpec) -> Values:
    """The complete vector of a training that is not mutated: what the config says over the defaults."""
    return {**model.defaults(), **spec.hyperparameters}


def _size(values: Mapping[str, Scalar | None]) -> str:
    return str(values.get("size") or "full")


def _run_count(item: Experiment) -> int:
    points = math.prod(len(values) for values in item.foreground.values.values())
    return points * item.runs_per_config + item.baseline_runs * (1 if item.background is None else 3)


def _estimated_seconds(model: ModelSpec, values: Mapping[str, Scalar | None]) -> float | None:
    epochs = values.get(model.epochs_parameter or "")
    if model.seconds_per_epoch is None or not isinstance(epochs, (int, float)) or _size(values) != "full":
        return None
    return model.seconds_per_epoch * epochs
