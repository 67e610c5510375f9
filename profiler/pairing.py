"""Proposes pairs of models that fit a GPU: each model in the foreground once, partners spread evenly. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from profiler.memory import Estimate
from profiler.models import ModelSpec

Tier = Literal["small", "medium", "large"]


@dataclass(frozen=True)
class Candidate:
    """A model and what it needs."""

    model: ModelSpec
    need: Estimate


@dataclass(frozen=True)
class Proposal:
    """A pair that fits; `tier`: its need by the GPU's memory (up to a third, two thirds, more)."""

    foreground: Candidate
    background: Candidate
    tier: Tier

    @property
    def mib(self) -> float:
        return self.foreground.need.mib + self.background.need.mib

    def to_item(self) -> dict[str, Any]:
        """The pair as an item of a config."""
        front, back = self.foreground.model, self.background.model
        return {
            "mode": "parallel",
            "foreground": {"repo": front.repo, "model": front.name, "mode": "default"},
            "background": {"repo": back.repo, "model": back.name},
            "note": f"{self.tier}: {front.name} {self.foreground.need.mib:.0f} MiB + {back.name} "
            f"{self.background.need.mib:.0f} MiB",
        }


def propose(candidates: Sequence[Candidate], memory_mib: float) -> tuple[list[Proposal], list[str]]:
    """Pairs that fit `memory_mib`, smallest first, and a line for each model that fits none or of which nobody knows
    what it needs. Models that use no GPU are left aside."""
    unknown = [candidate for candidate in candidates if candidate.need.unknown_for(candidate.model)]
    on_gpu = [candidate for candidate in candidates if candidate.model.uses_gpu and candidate not in unknown]
    used: Counter[tuple[str, str]] = Counter()
    found = []
    alone = [
        f"{one.model.name}: its manifest says no memory_mib, and no session of --history has measured it"
        for one in unknown
    ]
    for front in sorted(on_gpu, key=lambda candidate: -candidate.need.mib):
        partner = _partner(front, on_gpu, memory_mib, used)
        if partner is None:
            smallest = min(on_gpu, key=lambda candidate: candidate.need.mib)
            alone.append(
                f"{front.need.text(front.model.name)} + {smallest.need.text(smallest.model.name)} = "
                f"{front.need.mib + smallest.need.mib:.0f} MiB > {memory_mib:g} MiB: no partner fits beside it"
            )
            continue
        used[partner.model.repo, partner.model.name] += 1
        found.append(Proposal(front, partner, _tier(front.need.mib + partner.need.mib, memory_mib)))
    return sorted(found, key=lambda proposal: proposal.mib), alone


def _partner(
    front: Candidate, all_: Sequence[Candidate], memory_mib: float, used: Mapping[tuple[str, str], int]
) -> Candidate | None:
    """The one that was taken least so far, and among those the largest that fits; another model than the foreground's
    where there is one."""
    fitting = [candidate for candidate in all_ if front.need.mib + candidate.need.mib <= memory_mib]
    others = [candidate for candidate in fitting if candidate.model is not front.model] or fitting
    return min(
        others,
        key=lambda one: (used.get((one.model.repo, one.model.name), 0), -one.need.mib),
        default=None,
    )


def _tier(mib: float, memory_mib: float) -> Tier:
    share = mib / memory_mib
    return "small" if share <= 1 / 3 else "medium" if share <= 2 / 3 else "large"
