"""A stranger's Ray job that wants fractions of GPUs all the time, and tells when its tasks were on which one.

    python -m tests.cluster.noise ADDRESS TASKS_AT_A_TIME FILE

It goes on until TERM. Lines of FILE: {"gpu_uuid", "start_ns", "end_ns"} on CLOCK_MONOTONIC, which a net shares.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

LENGTH_S = 0.4


@dataclass(frozen=True)
class Stay:
    """Somebody was on a GPU from `start_ns` to `end_ns` (CLOCK_MONOTONIC)."""

    gpu_uuid: str
    start_ns: int
    end_ns: int

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Self:
        return cls(row["gpu_uuid"], row["window_start_ns"], row["window_end_ns"])

    def meets(self, other: Stay) -> bool:
        return self.gpu_uuid == other.gpu_uuid and self.start_ns < other.end_ns and other.start_ns < self.end_ns


def overlaps(ones: Sequence[Stay], others: Sequence[Stay]) -> int:
    """How many times one of `ones` met another of `others` on a GPU."""
    return sum(one.meets(other) for one in ones for other in others if one is not other and one != other)


def main() -> None:
    import ray

    address, tasks, path = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")

    @ray.remote(num_cpus=0)
    def stay(seconds: float) -> dict[str, Any]:
        from actors.attempt import own_gpu

        found = own_gpu()
        start_ns = time.monotonic_ns()
        time.sleep(seconds)
        return asdict(Stay(found[0] if found else "none", start_ns, time.monotonic_ns()))

    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    chance = random.Random(1)
    pending: list[Any] = []
    while not ended:
        while len(pending) < tasks:
            fraction = chance.choice((0.1, 0.25, 0.3, 0.5))
            pending.append(stay.options(num_gpus=fraction).remote(chance.uniform(0.5, 1.5) * LENGTH_S))
        ready, pending = ray.wait(pending, num_returns=1, timeout=0.5)
        with path.open("a") as file:
            file.writelines(json.dumps(told) + "\n" for told in ray.get(ready))
    ray.shutdown()


if __name__ == "__main__":
    main()
