"""Zeus: `ZeusMonitor.begin_window` and `end_window`."""

from __future__ import annotations

from zeus.monitor import ZeusMonitor

from tests.conformance.drivers.common import Driver


def main() -> None:
    driver = Driver()
    if driver.device == "cpu":
        monitor = ZeusMonitor(gpu_indices=[])
    else:
        monitor = ZeusMonitor(gpu_indices=[0], cpu_indices=[])
    result = driver.around_block(
        lambda: monitor.begin_window("block", sync_execution=False),
        lambda: monitor.end_window("block", sync_execution=False),
    )
    figures = result.cpu_energy if driver.device == "cpu" else result.gpu_energy
    raw = {"gpu_energy": result.gpu_energy, "cpu_energy": result.cpu_energy, "time": result.time}
    driver.answer(sum(figures.values()) if figures else None, raw, None if figures else "no device in the answer")


if __name__ == "__main__":
    main()
