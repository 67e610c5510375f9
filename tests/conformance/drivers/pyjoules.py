"""pyJoules: `EnergyMeter` over the package domains, or over the GPU."""

from __future__ import annotations

from pyJoules.device import DeviceFactory
from pyJoules.device.nvidia_device import NvidiaGPUDevice
from pyJoules.device.rapl_device import RaplDevice
from pyJoules.energy_meter import EnergyMeter

from tests.conformance.drivers.common import Driver

UNITS_PER_J = {"cpu": 1e6, "gpu": 1e3}


def main() -> None:
    driver = Driver()
    if driver.device == "cpu":
        domains = RaplDevice.available_package_domains()
    else:
        domains = NvidiaGPUDevice.available_domains()
    if not domains:
        driver.around_block(lambda: None, lambda: None)
        driver.answer(None, [], "finds no domain")
        return
    meter = EnergyMeter(DeviceFactory.create_devices(domains))
    driver.around_block(meter.start, meter.stop)
    raw = [{"tag": s.tag, "duration": s.duration, "energy": s.energy} for s in meter.get_trace()]
    driver.answer(sum(sum(sample["energy"].values()) for sample in raw) / UNITS_PER_J[driver.device], raw)


if __name__ == "__main__":
    main()
