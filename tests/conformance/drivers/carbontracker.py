"""CarbonTracker: one epoch; the figure is the consumption that it logs, without its PUE factor."""

from __future__ import annotations

from carbontracker import constants, parser
from carbontracker.tracker import CarbonTracker

from tests.conformance.drivers.common import Driver

J_PER_KWH = 3.6e6


def main() -> None:
    driver = Driver()
    logs = driver.folder / "logs"
    tracker = CarbonTracker(epochs=1, epochs_before_pred=0, components=driver.device, log_dir=str(logs))
    driver.around_block(tracker.epoch_start, tracker.epoch_end)
    tracker.stop()
    entries = parser.parse_all_logs(str(logs))
    texts = {path.name: path.read_text() for path in sorted(logs.iterdir())}
    actual = entries[0]["actual"] if entries else None
    energy_kwh = None if actual is None else actual["energy (kWh)"]
    energy_j = None if energy_kwh is None else energy_kwh / constants.PUE_2023 * J_PER_KWH
    driver.answer(energy_j, {"entries": entries, "logs": texts}, None if actual else "no consumption in its log")


if __name__ == "__main__":
    main()
