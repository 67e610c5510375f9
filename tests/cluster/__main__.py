"""Measures on a net of three machines made of namespaces (root only), and prints one JSON document.

python -m tests.cluster campaign [--runs 60] [--result FILE]
python -m tests.cluster pairs [--runs 200] [--result FILE]
python -m tests.cluster faults [--strikes raylet,node,...] [--runs ROUNDS] [--result FILE]   (one line a strike)
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.faults import STRIKES, strike
from tests.cluster.net import lacking, made_net
from tests.cluster.programs import document, pairs_amid_noise, whole_campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("name", choices=("campaign", "pairs", "faults"))
    parser.add_argument("--runs", type=int)
    parser.add_argument("--strikes", type=lambda text: text.split(","), default=STRIKES)
    parser.add_argument("--result", type=Path, help="write the document there too")
    options = parser.parse_args()
    why_not = lacking()
    if why_not:
        print(why_not, file=sys.stderr)
        return 3
    if options.name == "faults":
        return strikes(options.strikes, options.runs or 1, options.result)
    with made_net() as net:
        if options.name == "campaign":
            found = whole_campaign(net, options.runs or 60)
        else:
            found = pairs_amid_noise(net, options.runs or 200, 30, 4)
    text = document(options.name, found)
    print(text)
    if options.result:
        options.result.write_text(text + "\n")
    return 0


def strikes(names: Sequence[str], rounds: int, result: Path | None) -> int:
    """Each strike on a net of its own; 1 if anything was left, lost or doubled."""
    bad = 0
    chance = random.Random()
    for name in [name for _ in range(rounds) for name in names]:
        with made_net() as net:
            outcome = strike(net, name, chance)
        line = json.dumps(outcome)
        print(line, flush=True)
        if result:
            with result.open("a") as file:
                file.write(line + "\n")
        bad += outcome["orphans"] + outcome["lost"] + outcome["doubled"] + (outcome["final"] != outcome["planned"])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
