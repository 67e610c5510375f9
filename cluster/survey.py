"""Looks at every node of a running cluster as a campaign would, for `doctor`. It starts nothing that stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster.nodes import Roster, needs_of
from cluster.session import open_ray

RATE_HZ = 10.0


def survey(address: str, require: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row of the dataset `nodes` for each alive node of the cluster at `address`.

    Raises CannotRunError when no cluster is there, or a node that `require` names cannot serve."""
    with open_ray(address) as session:
        roster = Roster(session, RATE_HZ, needs_of(), None, uses_gpu=True)
        reports = roster.open(require)
        roster.stop()
        return [report.row() for report in reports]
