"""The ledger on 100,000 generated counter histories, in parts that run side by side.

    python -m tests.energy.ledger_histories --histories 100000 --parts 16 [--jobs 16] [-o FILE]

Runs test_ledger_property.py once for each part, each with a seed of its own, so that any part can be run again. Prints
one JSON document. Needs pytest and hypothesis.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

TESTS = Path(__file__).with_name("test_ledger_property.py")
ROOT = TESTS.parents[2]
SEED = 20261122
NICEST = 19


@dataclass(frozen=True)
class Part:
    """`histories` on each of the two main tests, a quarter of it on the others; what pytest said when one failed."""

    seed: int
    histories: int
    passed: int
    failed: int
    seconds: float
    said: str


def run_part(seed: int, histories: int) -> Part:
    environment = {"PROFILER_LEDGER_EXAMPLES": str(histories), "PROFILER_LEDGER_SEED": str(seed)}
    command = [sys.executable, "-m", "pytest", "--timeout=0", "-q", "-p", "no:cacheprovider", str(TESTS)]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment, "PYTEST_ADDOPTS": "-rN --no-header --color=no -v"},
        capture_output=True, text=True, preexec_fn=lambda: os.nice(NICEST), check=False,
    )  # fmt: skip
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    said = "" if done.returncode == 0 else (done.stdout + done.stderr)[-4000:]
    failed = counts.get("failed", 0) + counts.get("error", 0) or int(done.returncode != 0)
    return Part(seed, histories, counts.get("passed", 0), failed, round(time.monotonic() - began, 1), said)


def summary(parts: Sequence[Part]) -> dict[str, object]:
    return {
        "histories": sum(part.histories for part in parts),
        "tests_passed": sum(part.passed for part in parts),
        "tests_failed": sum(part.failed for part in parts),
        "cpu_jobs_seconds": round(sum(part.seconds for part in parts), 1),
        "parts": [asdict(part) for part in parts],
    }


def main() -> int:
    """0: every history of every part came out right."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.energy.ledger_histories",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="parts at a time")
    parser.add_argument("--seed", type=int, default=SEED, help="of the first part; the others follow it")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    each = -(-options.histories // options.parts)
    done: list[Part] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for part in pool.map(lambda number: run_part(options.seed + number, each), range(options.parts)):
            done.append(part)
            print(f"seed {part.seed}: {part.passed} passed, {part.failed} failed, {part.seconds} s", file=sys.stderr)
            if options.output is not None:
                options.output.write_text(json.dumps(summary(done), indent=1) + "\n", encoding="utf-8")
    print(json.dumps({**summary(done), "parts": len(done)}, indent=1))
    return int(any(part.failed for part in done))


if __name__ == "__main__":
    sys.exit(main())
