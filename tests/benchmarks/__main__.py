"""What measuring costs: `make bench`, or with more time and rounds

    python -m tests.benchmarks --seconds 20 --pairs 60 --segment 4 [--real] [-o FILE]

First what each tool uses while it measures an idle machine: CPU time of all its processes and wake-ups, by rate and
number of GPUs. Then how much slower a training gets while a tool measures beside it: one training that goes on, each
tool on and off in turn (off on, on off, ...), with the 95 % interval over the pairs. Zeus and CodeCarbon do the same
in their own environments with pinned versions. GPUs are virtual unless --real. The figures are of this machine, and of
what else runs on it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.overhead import Overhead, overhead
from tests.benchmarks.side import Side, Tool, tools
from tests.benchmarks.slowdown import Slowdown, slowdown
from tests.fakes import nvml


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each tool is watched at each rate")
    parser.add_argument("--rates", default="1,10,100", help="samples a second")
    parser.add_argument("--gpus", default="1,8", help="numbers of virtual GPUs")
    parser.add_argument("--pairs", type=int, default=4, help="with and without, for each tool; 0: no training")
    parser.add_argument("--segment", type=float, default=2.5, help="seconds of training with, and without, in a pair")
    parser.add_argument("--peers", default="all", help="all, none, or names: zeus,codecarbon")
    parser.add_argument("--real", action="store_true", help="this machine's own GPUs")
    parser.add_argument("-o", "--output", type=Path, help="write the figures as JSON to this file")
    return parser.parse_args(arguments)


def virtual(folder: Path, gpus: int) -> dict[str, str]:
    """The environment of a process that sees `gpus` virtual GPUs of 300 W."""
    return nvml.FakeNvml(folder / f"nvml-{gpus}.state", nvml.build(folder), gpus=gpus, watts=300.0).env


def overheads(options: argparse.Namespace, chosen: list[Tool], folder: Path) -> Iterator[Overhead]:
    rates = [float(rate) for rate in options.rates.split(",")]
    for gpus in [1] if options.real else [int(count) for count in options.gpus.split(",")]:
        for tool in chosen:
            with Side(tool, {} if options.real else virtual(folder, gpus)) as side:
                for rate in rates:
                    if rate <= tool.max_rate_hz and side.error is None:
                        yield overhead(side, rate, gpus, options.seconds)


OVERHEAD_HEAD = f"{'tool':<34}{'Hz':>5}{'GPUs':>6}{'CPU % of a core':>17}{'wake-ups/s':>12}{'processes':>11}"


def overhead_line(one: Overhead) -> str:
    what = f"{one.tool:<34}{one.rate_hz:>5g}{one.gpus:>6}"
    if one.error is not None:
        return f"{what}  {one.error}"
    return f"{what}{one.cpu_percent:>17.2f}{one.wake_ups_per_s:>12.1f}{one.processes:>11}"


def slowdown_lines(found: list[Slowdown]) -> list[str]:
    lines = [f"{'tool':<34}{'pairs':>6}{'slower by %':>13}{'95 % interval':>20}"]
    for one in found:
        interval = "one pair tells none" if one.low is None else f"{one.low:+.2f} .. {one.high:+.2f}"
        mean = "" if one.percent is None else f"{one.percent:+.2f}"
        lines.append(f"{one.tool:<34}{len(one.pairs):>6}{mean:>13}{one.error or interval:>20}")
    return lines


def main() -> int:
    options = parse()
    chosen = tools(options.peers)
    document: dict[str, Any] = {"cpus": os.cpu_count(), "load_average_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = []
        print(OVERHEAD_HEAD)
        for one in overheads(options, chosen, folder):
            found.append(one)
            print(overhead_line(one), flush=True)
        slower = slowdown(chosen, {} if options.real else virtual(folder, 1), options.pairs, options.segment)
        print("\n".join(["", *slowdown_lines(slower)]) if slower else "", flush=True)
    document |= {"overhead": [vars(one) for one in found], "slowdown": [vars(one) for one in slower]}
    if options.output is not None:
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
