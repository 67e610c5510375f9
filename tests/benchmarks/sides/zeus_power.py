"""Zeus: `PowerMonitor`, which samples instant power at the rate, in a process of its own."""

from __future__ import annotations

from zeus.monitor.power import PowerMonitor

from tests.benchmarks.sides.common import serve


def main() -> None:
    monitors: list[PowerMonitor] = []

    def begin(rate_hz: float, gpus: int) -> None:
        wanted = {"gpu_indices": list(range(gpus)), "power_domains": ["device_instant"]}
        monitors.append(PowerMonitor(update_period=1 / rate_hz, **wanted))

    serve(begin, lambda: monitors.pop().stop())


if __name__ == "__main__":
    main()
