"""This project, from a shell: `profiler measure --json -- COMMAND`. To be killed, it becomes the profiler itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.conformance.drivers.common import Driver


def main() -> None:
    driver = Driver()
    inner = [sys.executable, "-m", "tests.conformance.drivers.common", str(driver.folder), str(driver.seconds)]
    command = [sys.executable, "-m", "profiler", "measure", "--json", "--", *inner]
    if os.environ.get("CONFORMANCE_KILLED"):
        os.execv(sys.executable, command)
    driver.mark()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    driver.mark()
    raw = json.loads(done.stdout)
    column = "cpu_package_energy_j" if driver.device == "cpu" else "gpu_energy_j"
    driver.answer(raw[column], raw, raw["null_reasons"].get(column))


if __name__ == "__main__":
    main()
