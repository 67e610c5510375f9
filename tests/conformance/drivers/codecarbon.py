"""CodeCarbon: `OfflineEmissionsTracker`, a measurement each second."""

from __future__ import annotations

from codecarbon import OfflineEmissionsTracker

from tests.conformance.drivers.common import Driver

J_PER_KWH = 3.6e6


def main() -> None:
    driver = Driver()
    tracker = OfflineEmissionsTracker(country_iso_code="DEU", measure_power_secs=1, save_to_file=False)
    driver.around_block(tracker.start, tracker.stop)
    data = tracker.final_emissions_data
    energy_kwh = data.cpu_energy if driver.device == "cpu" else data.gpu_energy
    told = ("duration", "cpu_power", "gpu_power", "cpu_energy", "gpu_energy", "cpu_model", "tracking_mode")
    driver.answer(energy_kwh * J_PER_KWH, {name: getattr(data, name, None) for name in told})


if __name__ == "__main__":
    main()
