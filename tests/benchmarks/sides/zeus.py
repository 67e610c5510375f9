"""Zeus: `ZeusMonitor`, which reads the counters at both ends of a window and samples nothing in between."""

from __future__ import annotations

from zeus.monitor import ZeusMonitor

from tests.benchmarks.sides.common import serve


def main() -> None:
    monitors: list[ZeusMonitor] = []

    def begin(rate_hz: float, gpus: int) -> None:
        monitors.append(ZeusMonitor(gpu_indices=list(range(gpus)), cpu_indices=[]))
        monitors[-1].begin_window("side", sync_execution=False)

    serve(begin, lambda: monitors.pop().end_window("side", sync_execution=False))


if __name__ == "__main__":
    main()
