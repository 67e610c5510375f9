"""Scores a ranked gallery: mean average precision and rank-n, by the rules of Market-1501 (needs torch); no network.

Pictures of the wanted person by the same camera, and junk, count neither for nor against. A query without any right
answer in the gallery is left out.
"""

import math
from dataclasses import dataclass

import torch
from shots import JUNK

RANKS = (1, 5, 10)
CHUNK = 256


@dataclass(frozen=True)
class Described:
    """Pictures as vectors float [n, d] of length 1, with persons and cameras int64 [n]; all on one device."""

    vectors: torch.Tensor
    persons: torch.Tensor
    cameras: torch.Tensor


def scores(query: Described, gallery: Described) -> dict[str, float]:
    """`map`, `rank1`, `rank5`, `rank10` over the queries; all NaN when a vector is not finite or nothing can be found.

    Average precision is the area under the stepped curve of precision over recall by the trapezoid rule, as the
    original computes it.
    """
    names = ("map", *(f"rank{rank}" for rank in RANKS))
    if not all(bool(torch.isfinite(side.vectors).all()) for side in (query, gallery)):
        return dict.fromkeys(names, math.nan)
    totals = torch.zeros(len(names), dtype=torch.float64)
    queries = 0
    for start in range(0, len(query.persons), CHUNK):
        rows = slice(start, start + CHUNK)
        part = Described(query.vectors[rows], query.persons[rows], query.cameras[rows])
        found = _each(part, gallery)
        totals += found.sum(dim=0).cpu()
        queries += len(found)
    means = totals / queries if queries else torch.full_like(totals, math.nan)
    return dict(zip(names, means.tolist(), strict=True))


def _each(query: Described, gallery: Described) -> torch.Tensor:
    """Average precision and rank-n hits float64 [q, 1 + ranks] of those queries that have an answer."""
    order = torch.sort(query.vectors @ gallery.vectors.T, dim=1, descending=True, stable=True).indices
    persons, cameras = gallery.persons[order], gallery.cameras[order]
    same_person, same_camera = persons == query.persons[:, None], cameras == query.cameras[:, None]
    right = same_person & ~same_camera
    junk = (persons == JUNK) | (same_person & same_camera)
    place = torch.cumsum(~junk, dim=1).double()
    hits = torch.cumsum(right, dim=1).double()
    precision = hits / place.clamp(min=1)
    before = torch.where(place > 1, (hits - 1) / (place - 1).clamp(min=1), torch.ones_like(place))
    answers = right.sum(dim=1)
    average = (torch.where(right, (precision + before) / 2, 0.0).sum(dim=1)) / answers.clamp(min=1)
    ranks = [(right & (place <= rank)).any(dim=1).double() for rank in RANKS]
    return torch.stack((average, *ranks), dim=1)[answers > 0]
