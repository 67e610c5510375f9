"""Perun: the `perun` decorator, with its own period of 1 s; the figure is in the JSON report that it writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from perun import perun

from tests.conformance.drivers.common import Driver


def energies(node: object, metric: str) -> Iterator[dict[str, Any]]:
    """The metric of the outermost nodes that have it; nodes lie in dicts and in lists of dicts."""
    if isinstance(node, dict) and metric in (node.get("metrics") or {}):
        yield node["metrics"][metric]
    elif isinstance(node, dict):
        for child in node.values():
            yield from energies(child, metric)
    elif isinstance(node, list):
        for child in node:
            yield from energies(child, metric)


def main() -> None:
    driver = Driver()
    out = driver.folder / "perun"
    measured = perun(data_out=str(out), format="json")(driver.run_block)
    driver.mark()
    measured()
    driver.mark()
    reports = [json.loads(path.read_text()) for path in out.rglob("*.json")]
    found = [entry for report in reports for entry in energies(report, f"{driver.device}_energy")]
    # One run: the mean over runs, where it gives one, is the run's figure.
    values = [entry.get("value", entry.get("mean")) for entry in found]
    driver.answer(values[0] if values else None, found, None if values else "no such metric in its report")


if __name__ == "__main__":
    main()
