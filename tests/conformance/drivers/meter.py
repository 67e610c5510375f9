"""This project, from inside a script: `profiler.meter`."""

from __future__ import annotations

import profiler
from tests.conformance.drivers.common import Driver


def main() -> None:
    driver = Driver()
    window = profiler.meter("conformance")
    driver.around_block(window.__enter__, lambda: window.__exit__(None, None, None))
    column = "cpu_package_energy_j" if driver.device == "cpu" else "gpu_energy_j"
    energy = window.energy
    raw = {name: getattr(energy, name) for name in (column, "gpu_energy_integral_j", "null_reasons", "uncertainty_j")}
    driver.answer(getattr(energy, column), raw, energy.null_reasons.get(column))


if __name__ == "__main__":
    main()
