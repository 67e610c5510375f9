"""What every side shares: it reads "on RATE_HZ GPUS" and "off" line by line, and answers "ok". It knows no tool.

A side runs as `python -m tests.benchmarks.sides.NAME` and needs nothing but the standard library and its tool.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


def serve(begin: Callable[[float, int], None], end: Callable[[], None]) -> None:
    """Until stdin ends. `begin` starts to measure `GPUS` GPUs at `RATE_HZ`; what the tool prints goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "on":
            begin(float(words[0]), int(words[1]))
        else:
            end()
        print("ok", file=answers, flush=True)
