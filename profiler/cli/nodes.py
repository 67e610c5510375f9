"""The table of a cluster's nodes for people: what each has, whether it serves, and the lines that mend what is wrong.

It gathers and judges nothing; a node is a row of the dataset `nodes`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from profiler.cli.tables import Heading, lines_of

NodeRow = Mapping[str, Any]

HEADINGS = (
    *map(Heading, ("node", "address", "serves", "python", "ray", "profiler", "containment", "energy")),
    *(Heading(title, figures=True) for title in ("GPUs", "CPUs", "disk free", "clock ms")),
)


def node_lines(rows: Sequence[NodeRow]) -> list[str]:
    """The table, and below it what is wrong with each node that is not as it should be."""
    return [*lines_of(HEADINGS, [_cells(row) for row in rows], None), *_remarks(rows)]


def preflight_lines(event: Mapping[str, Any]) -> list[str]:
    """What to show of a preflight: of the one node of an embedded Ray only what is wrong with it."""
    if event["cluster"]:
        return node_lines(event["nodes"])
    return [f"warning: {line}" for line in _remarks(event["nodes"])]


def _cells(row: NodeRow) -> tuple[str, ...]:
    free_gib = row["disk_free_gib"]
    versions = (_text(row[f"{name}_version"]) for name in ("python", "ray", "profiler"))
    return (
        row["host"],
        row["address"],
        "yes" if row["serves"] else "no",
        *versions,
        _text(row["containment"]),
        ", ".join(row["energy_sources"]) or "none",
        str(len(row["gpus"])),
        str(row["cpus"]),
        "-" if free_gib is None else f"{free_gib:.0f} GiB",
        clock_text(row),
    )


def clock_text(row: NodeRow) -> str:
    """Offset and uncertainty in ms, for example ``+0.3 +- 0.8``; ``-`` where the node did not answer."""
    if row["clock_offset_s"] is None:
        return "-"
    return f"{row['clock_offset_s'] * 1e3:+.1f} +- {row['clock_uncertainty_s'] * 1e3:.1f}"


def _text(value: str | None) -> str:
    return "-" if value is None else value


def _remarks(rows: Sequence[NodeRow]) -> Iterator[str]:
    for row in rows:
        for remark in row["remarks"]:
            yield f"{row['host']}{'' if row['serves'] else ' is left out'}: {remark}"
