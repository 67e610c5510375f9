"""`python -m tests.conformance`: every tool on every input; raw answers to --raw, the table to --out.

--peers none runs this project alone: no environments, no network. --render writes the page from stored answers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tests.conformance.cases import CASES, Case
from tests.conformance.environments import CACHE, CONSTRAINTS, PINS, ROOT, Peer, peers, prepare
from tests.conformance.judge import RIGHT, Judged, judge, unclaimed
from tests.conformance.stage import Run, libraries, perform
from tests.conformance.table import page
from tests.conformance.tools import Tool, of_peer, own

RAW = "docs/measurements/2026-11-22-conformance"
ANSWERS, MACHINE = "answers.jsonl", "machine.json"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    known = peers(PINS.read_text())
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument(
        "--peers", default="all", help=f"all, none, or names: {', '.join(sorted({p.name for p in known}))}"
    )
    parser.add_argument("--cases", default="all", help="names of inputs, or the beginning of several: cpu-wrap,gpu")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "conformance.md")
    parser.add_argument(
        "--raw", type=Path, default=ROOT / RAW, help="folder for the raw answers; runs found there are replaced"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="runs at a time; they mostly sleep, but importing needs a core"
    )
    parser.add_argument("--render", action="store_true", help="run nothing")
    return parser.parse_args(arguments)


def chosen_peers(text: str) -> list[Peer]:
    known = peers(PINS.read_text())
    if text in ("all", "none"):
        return list(known) if text == "all" else []
    names = {name.strip().lower() for name in text.split(",")}
    if unknown := names - {peer.name for peer in known}:
        raise SystemExit(f"--peers: {', '.join(sorted(unknown))} is not in {PINS}")
    return [peer for peer in known if peer.name in names]


def chosen_cases(text: str) -> list[Case]:
    wanted = tuple(text.split(","))
    found = [case for case in CASES if text == "all" or case.name.startswith(wanted)]
    if not found:
        raise SystemExit(f"--cases: no input is called {text}; there are {', '.join(case.name for case in CASES)}")
    return found


def run_all(cases: list[Case], chosen: list[Peer], jobs: int) -> list[Run]:
    """Every chosen tool on every case that it claims. A peer without environment gets the reason instead."""
    nvml, spoiler = libraries(CACHE / "libraries")
    refused = {peer: prepare(peer) for peer in chosen}
    tools = [*own(), *(tool for peer in chosen for tool in of_peer(peer))]

    def one(pair: tuple[Case, Tool]) -> Run:
        case, tool = pair
        why = refused.get(tool.peer) if tool.peer is not None else None
        run = Run(case.name, tool.name, tool.version, error=why) if why else perform(case, tool, nvml, spoiler)
        judged = judge(case, tool, run)
        print(
            f"{judged.verdict:13} {case.name:20} {tool.name} {tool.version}: {run.energy_j} {judged.note}", flush=True
        )
        return run

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, [(case, tool) for case in cases for tool in tools if unclaimed(case, tool) is None]))


def keep(runs: Iterable[Run], folder: Path) -> None:
    """Adds the runs to those stored; a run of the same case, tool and version is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = {_key(run): run for run in [*load(folder), *runs]}
    order = [case.name for case in CASES]
    ordered = sorted(stored.values(), key=lambda run: order.index(run.case))
    lines = [json.dumps(asdict(run)).replace(f"{ROOT}/", "") for run in ordered]
    (folder / ANSWERS).write_text("\n".join(lines) + "\n")
    (folder / MACHINE).write_text(json.dumps({"facts": facts()}, indent=1) + "\n")


def load(folder: Path) -> list[Run]:
    path = folder / ANSWERS
    if not path.exists():
        return []
    runs = [Run(**json.loads(line)) for line in path.read_text().splitlines()]
    return [run for run in runs if run.case in {case.name for case in CASES}]


def _key(run: Run) -> tuple[str, str, str]:
    return run.case, run.tool, run.version


def facts() -> list[str]:
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    machine = f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    return [f"made {made} on {machine}", f"what the peers depend on: `{CONSTRAINTS.relative_to(ROOT)}`"]


def judged_runs(runs: Iterable[Run]) -> list[Judged]:
    """Stored runs and, for the page, the pairs that were not run because nobody claims them."""
    tools = [*own(), *(tool for peer in peers(PINS.read_text()) for tool in of_peer(peer))]
    by = {_key(run): run for run in runs}
    judged = []
    for case in CASES:
        for tool in tools:
            run = by.get((case.name, tool.name, tool.version))
            if run is None and unclaimed(case, tool) is not None:
                run = Run(case.name, tool.name, tool.version)
            if run is not None:
                judged.append(judge(case, tool, run))
    return judged


def main(arguments: list[str] | None = None) -> int:
    """0: this project is right on every input that was run."""
    options = parse(arguments)
    if not options.render:
        keep(run_all(chosen_cases(options.cases), chosen_peers(options.peers), options.jobs), options.raw)
    judged = judged_runs(load(options.raw))
    stored = json.loads((options.raw / MACHINE).read_text())["facts"]
    options.out.write_text(page(judged, stored, "make conformance", os.path.relpath(options.raw, ROOT)))
    ours = [one for one in judged if one.tool.ours]
    right = sum(one.verdict == RIGHT for one in ours)
    print(f"this project: {right} of {len(ours)} right; the table is {options.out}")
    return 0 if right == len(ours) else 1


if __name__ == "__main__":
    sys.exit(main())
