"""Old hyperparameters: which were mutated, which reached the trainer, which are not recorded. It reads no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from profiler.legacy.findings import Seen
from profiler.legacy.identity import Identity, canonical_values
from profiler.legacy.knowledge import DECIMALS, NOT_APPLIED, OLD_DEFAULTS
from profiler.legacy.sources import OldRun


@dataclass(frozen=True)
class Values:
    """`requested`: as recorded. `effective`: without those the trainer did not use, rounded as it got them; None where
    nothing is recorded. `nulls`: hyperparameters.<name> -> why it is not known."""

    requested: Mapping[str, Any]
    effective: Mapping[str, Any] | None
    mutated: tuple[str, ...]
    nulls: Mapping[str, str]

    @property
    def foreground_mode(self) -> str:
        return "mutation" if self.mutated else "default"


def read_values(run: OldRun, identity: Identity) -> tuple[Values, list[Seen]]:
    """The values of a run, and what was wrong with them."""
    requested = canonical_values(run.record.hyperparameters, identity.spec)
    nulls: dict[str, str] = {}
    if not requested:
        return Values({}, None, (), nulls), []
    seen = [Seen("values_not_confirmed", ", ".join(requested)), *_gaps(requested, identity)]
    effective = _applied(requested, identity, nulls, seen)
    mutated = _mutated(requested, identity)
    why = f"{', '.join(mutated)} differ from the defaults" if mutated else "all recorded values are the defaults"
    if identity.spec is not None:
        seen.append(Seen("mode_inferred", why))
    return Values(requested, effective, mutated, nulls), seen


def _gaps(requested: Mapping[str, Any], identity: Identity) -> list[Seen]:
    spec = identity.spec
    if spec is None:
        return []
    unknown = [name for name in requested if name not in spec.hyperparameters]
    absent = [p.name for p in spec.hyperparameters.values() if p.range is not None and p.name not in requested]
    seen = [Seen("unknown_parameter", ", ".join(f"{name}={requested[name]!r}" for name in unknown))] if unknown else []
    return seen + ([Seen("values_incomplete", f"not recorded: {', '.join(absent)}")] if absent else [])


def _applied(
    requested: Mapping[str, Any], identity: Identity, nulls: dict[str, str], seen: list[Seen]
) -> dict[str, Any]:
    """What the trainer got. Adds to `nulls` and `seen`."""
    ignored = NOT_APPLIED.get(identity.key, {})
    effective: dict[str, Any] = {}
    for name, value in requested.items():
        if name in ignored:
            seen.append(Seen("parameter_not_applied", f"{name}: recorded {value!r}; {ignored[name]}"))
            nulls[f"hyperparameters.{name}"] = "parameter_not_applied"
            continue
        passed = round(value, DECIMALS) if isinstance(value, float) else value
        if passed != value:
            seen.append(Seen("value_rounded", f"{name}: recorded {value!r}, passed as {passed:.{DECIMALS}f}"))
        effective[name] = passed
    return effective


def _mutated(requested: Mapping[str, Any], identity: Identity) -> tuple[str, ...]:
    """Names whose recorded value is neither the manifest's default nor the older tool's."""
    if identity.spec is None:
        return ()
    old = OLD_DEFAULTS.get(identity.key, {})
    known = identity.spec.hyperparameters
    return tuple(
        name
        for name, value in requested.items()
        if name in known and value != known[name].default and value != old.get(name, known[name].default)
    )
