"""Zeus: `PowerMonitor.get_energy` over the block, from the instant power (one process instead of three to start)."""

from __future__ import annotations

import time

from zeus.monitor.power import PowerMonitor

from tests.conformance.drivers.common import Driver


def main() -> None:
    driver = Driver()
    monitor = PowerMonitor(gpu_indices=[0], power_domains=["device_instant"])
    window: list[float] = []
    driver.around_block(lambda: window.append(time.time()), lambda: window.append(time.time()))
    time.sleep(1.0)  # so that its process has handed over what it saw
    energy = monitor.get_energy(*window)
    timelines = monitor.get_all_power_timelines(start_time=window[0], end_time=window[1])
    monitor.stop()
    driver.answer(energy[0] if energy else None, {"get_energy": energy, "timelines": timelines, "window": window})


if __name__ == "__main__":
    main()
