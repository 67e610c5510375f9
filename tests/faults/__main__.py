"""make faults: the kill matrix of whole campaigns, resumable, as a table.

    python -m tests.faults [--rounds N] [--minutes M] [--results FILE] [--table FILE]
                           [--without-ray] [--resume-cycles N]

Results are appended to FILE (JSON lines) as they come; a later call goes on from there. Not two at a time: campaigns of
one user that began in the same second cannot be told apart by their keepers. Pairs of factor values that
have not been seen come first. `--table` writes the page from the results. `--resume-cycles` instead kills and resumes
campaigns of 20 runs N times. The keeper alone has its own matrix: python -m tests.faults.keeper_matrix.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.faults.campaign_matrix import Matrix, Outcome
from tests.faults.cells import Cell, all_cells, in_order
from tests.faults.cycles import run_cycles
from tests.faults.page import page, table
from tests.faults.scene import RAY_WITHOUT_CLEAN_UP, Scene, made_scene, uids

RESULTS = Path("results/faults.jsonl")


def stored(path: Path) -> list[Outcome]:
    if not path.exists():
        return []
    documents = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return [Outcome(**{**document, "cell": Cell(**document["cell"])}) for document in documents]


def run_matrix(scenes: dict[str, Scene], path: Path, rounds: int, minutes: float) -> None:
    """Strike until `rounds` kills are stored in `path`, or the time is over."""
    chance = random.Random()
    until = time.monotonic() + minutes * 60
    path.parent.mkdir(parents=True, exist_ok=True)
    with Matrix(scenes, chance) as matrix, path.open("a") as file:
        while time.monotonic() < until:
            done = [outcome.cell for outcome in stored(path) if outcome.problem is None]
            if len(done) >= rounds:
                return
            for outcome in matrix.run(matrix.batch(in_order(least_struck(list(scenes), done), done, chance))):
                file.write(json.dumps(outcome.to_json()) + "\n")
                file.flush()
                print(len(done), *list(outcome.to_json().values()), sep=" | ", flush=True)


def least_struck(users: Sequence[str], done: Sequence[Cell]) -> list[Cell]:
    kills = Counter(done)
    fewest = min(kills[cell] for cell in all_cells(users))
    return [cell for cell in all_cells(users) if kills[cell] == fewest]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60, help="kills in all, stored ones included (default 60)")
    parser.add_argument("--minutes", type=float, default=24 * 60, help="end after that time")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", type=Path, help="write the page there")
    parser.add_argument("--without-ray", action="store_true", help="with all of Ray's own clean-up switched off")
    parser.add_argument("--resume-cycles", type=int, metavar="N", help="kill and resume instead, N times")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a script, and so in drivers
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # what was started is ended on the way out
    with ExitStack() as stack:
        scenes: dict[str, Scene] = {}
        for uid in uids():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True))
            more = RAY_WITHOUT_CLEAN_UP if options.without_ray else {}
            made = stack.enter_context(made_scene(Path(folder), uid, more))
            if isinstance(made, str):
                print(f"left out: {made}", file=sys.stderr)
            else:
                scenes["root" if uid == 0 else "user"] = made
        if options.resume_cycles:
            return run_cycles(next(iter(scenes.values())), options.resume_cycles, options.results, options.minutes)
        run_matrix(scenes, options.results, options.rounds, options.minutes)
    outcomes = stored(options.results)
    print(table(outcomes))
    if options.table:
        options.table.write_text(page(outcomes, options.results))
    return 1 if any(outcome.survivors or outcome.left for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
