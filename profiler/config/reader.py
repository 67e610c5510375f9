"""Turns a document (a mapping) into a Campaign, or into all of its faults at once. Reads no files."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from profiler.config.faults import Faults
from profiler.config.model import (
    BackgroundSpec,
    Campaign,
    Cooling,
    Experiment,
    ForegroundSpec,
    Gate,
    RunMode,
)
from profiler.config.paths import absolute_path
from profiler.config.sections import Section
from profiler.config.trainings import TrainingReader, lookup, with_fractions
from profiler.workloads import Catalog


class CampaignReader:
    """Reads one document against one catalog; faults go to `faults`. Without `default_name` it has to say its name."""

    def __init__(
        self, document: Mapping[Any, Any], catalog: Catalog, faults: Faults, default_name: str | None = None
    ) -> None:
        self.catalog, self.faults, self.default_name = catalog, faults, default_name
        self.top = Section(document, "C", "", faults)

    def read(self) -> Campaign:
        """The campaign. Raises ConfigError with every fault of the document."""
        name = self._name()
        cooling = self._cooling(self.top)
        items = self.top.need("experiments", "is missing: a campaign has at least one experiment item") or []
        experiments = [
            experiment
            for number, item in enumerate(items)
            if item is not None
            for experiment in [self._experiment(item, f"experiments[{number}]", cooling)]
            if experiment is not None
        ]
        self.faults.raise_if_any()
        return self._campaign(name, tuple(experiments))

    def _name(self) -> str:
        top = self.top
        if top.said("name") and top.said("experiment_name"):
            message = "`experiment_name` is the old name of `name`, which is given too; keep one of them"
            self.faults.add("experiment_name", top.get("experiment_name"), message)
        if self.default_name is None and not top.said("name") and not top.said("experiment_name"):
            self.faults.add("name", None, "`name` is missing: a campaign needs one")
        return str(top.get("name", top.get("experiment_name", self.default_name)))

    def _campaign(self, name: str, experiments: tuple[Experiment, ...]) -> Campaign:
        get = self.top.get
        seed = get("seed")
        listed = bool(get("historical_csvs") or get("history"))
        gate = get("gate", {})
        return Campaign(
            name=name,
            seed=secrets.randbelow(2**31) if seed is None else seed,
            experiments=experiments,
            mode=get("mode", "mutation"),
            texts=self.top.texts(),
            governor=get("governor"),
            require_energy=tuple(dict.fromkeys(get("require_energy", []))),
            sampling_rate_hz=get("sampling", {}).get("rate_hz", 10.0),
            memory_limit_mib=get("memory_limit_mib"),
            gate=Gate(**gate),
            thresholds=get("thresholds", {}),
            use_deduplication=get("use_deduplication", listed),
            historical_csvs=tuple(map(absolute_path, get("historical_csvs", []))),
            history=tuple(map(absolute_path, get("history", []))),
            order=get("order", "as_written"),
            isolation=get("isolation", "node"),
            file=self.faults.file,
        )

    def _section(self, raw: Mapping[Any, Any], level: str, path: str) -> Section:
        return Section(raw, level, path, self.faults)

    def _experiment(self, raw: Mapping[Any, Any], path: str, cooling: Cooling) -> Experiment | None:
        item = self._section(raw, "E", path)
        mode = self._mode(item)
        sections = [item, self.top]
        background: BackgroundSpec | None = None
        if mode == "parallel" or (mode is None and item.has("foreground")):
            parts = self._parts(item)
            foreground, background = self._pair(item, parts)
            counting = [item, *(part for part in parts if part is not None and part.level == "F"), self.top]
        else:
            self._refuse_parts(item, mode)
            foreground = TrainingReader(sections, self.catalog, self.faults).foreground(mode)
            counting = sections
        baseline = self._baseline(item, mode)
        own_cooling = self._cooling(item, cooling)
        if mode == "parallel":
            self._limited_threads(item, sections)
        sharing: Literal["time_slice", "mps"] = lookup("sharing", sections) or "time_slice"
        if mode is None or foreground is None or (mode == "parallel" and background is None):
            return None
        return Experiment(
            mode=mode,
            foreground=foreground,
            background=background,
            runs_per_config=lookup("runs_per_config", counting) or 1,
            baseline_runs=baseline,
            max_retries=_or(lookup("max_retries", sections), 2),
            cooling=own_cooling,
            memory_limit_mib=lookup("memory_limit_mib", sections),
            sharing=sharing,
            mps_active_threads=lookup("mps_active_threads", sections) or "all" if sharing == "mps" else "all",
            resources=lookup("resources", sections) or {},
            gpus=lookup("gpus", sections) or 1,
            gpu_model=lookup("gpu_model", sections),
            texts=item.texts(),
        )

    def _limited_threads(self, item: Section, sections: Sequence[Section]) -> None:
        """A limit for clients of MPS is none where there is no MPS; an item may well leave the campaign's MPS."""
        limited = lookup("mps_active_threads", sections) == "fractions"
        left = item.said("sharing") and not item.said("mps_active_threads")
        if limited and lookup("sharing", sections) != "mps" and not left:
            message = "`mps_active_threads: fractions` needs `sharing: mps`: time slices have no limit of SMs"
            self.faults.add(item.at("mps_active_threads"), "fractions", message)

    def _mode(self, item: Section) -> Any:
        mode = item.get("mode")
        if mode is not None or item.said("mode") or "mode" in self.top.wrong:
            return mode
        inherited = self.top.get("mode", "mutation")
        if inherited in ("mixed", "batch"):
            message = f"`mode` is missing: the campaign's mode is {inherited}, so every item says its own"
            self.faults.add(item.at("mode"), None, f"{message} (default, mutation or parallel)")
            return None
        return inherited

    def _refuse_parts(self, item: Section, mode: str | None) -> None:
        for key in ("foreground", "background"):
            if mode is not None and item.said(key):
                message = f"`{key}` belongs to mode parallel; this item is of mode {mode}"
                self.faults.add(item.at(key), item.get(key), message, "mode: parallel")

    def _parts(self, item: Section) -> tuple[Section | None, Section | None]:
        """The sections `foreground` and `background` of a parallel item; a missing one is a fault."""
        sections: list[Section | None] = []
        for key, level in (("foreground", "F"), ("background", "B")):
            raw = item.need(key, "is missing: mode parallel needs a foreground and a background")
            sections.append(None if raw is None else self._section(raw, level, item.at(key)))
        return sections[0], sections[1]

    def _pair(
        self, item: Section, parts: tuple[Section | None, Section | None]
    ) -> tuple[ForegroundSpec | None, BackgroundSpec | None]:
        front, back = parts
        foreground = background = None
        if front is not None:
            reader = TrainingReader([front, item, self.top], self.catalog, self.faults)
            foreground = reader.foreground(self._run_mode(front))
        if back is not None:
            background = TrainingReader([back, item, self.top], self.catalog, self.faults).background()
        if front is None or back is None or foreground is None or background is None:
            return foreground, background
        return with_fractions(foreground, background, (front, back), self.faults)

    def _run_mode(self, front: Section) -> RunMode | None:
        """Whether a foreground mutates: it says so, else the campaign does; None where what it says is wrong."""
        if front.said("mode"):
            mode: RunMode | None = front.get("mode")
            return mode
        return "default" if self.top.get("mode") == "default" else "mutation"

    def _baseline(self, item: Section, mode: str | None) -> int:
        count = int(item.get("baseline_runs", 0))
        if count and mode == "default":
            message = "`baseline_runs` stand beside mutated runs; in mode default every run is one"
            self.faults.add(item.at("baseline_runs"), count, message, "runs_per_config")
        return count

    def _cooling(self, section: Section, inherited: Cooling | None = None) -> Cooling:
        said = section.get("cooling")
        if said is None:
            return inherited or Cooling()
        if "seconds" in said and len(said) > 1:
            message = "`seconds` is the fixed way and stands alone; the other keys go with `until: idle`"
            self.faults.add(section.at("cooling"), said, message)
        elif "seconds" not in said and "until" not in said:
            self.faults.add(section.at("cooling"), said, "needs either `seconds` or `until: idle`")
        return Cooling(**said)


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
