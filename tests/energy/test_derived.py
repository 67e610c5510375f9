"""Net energy and CPU share from figures whose truth is known; once with real processes."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from profiler import host
from profiler.energy.derived import NOT_MEASURED, Run, derive
from profiler.energy.figures import EnergyAccount
from profiler.energy.idle import IdlePower, cpu_idle_power
from profiler.energy.sample import Sample
from profiler.energy.sources import Boundary
from tests.fakes.virtual import SECOND

GROSS = EnergyAccount(
    gpu_energy_j=3000.0,
    cpu_package_energy_j=1000.0,
    uncertainty_j={"gpu_energy_j": 30.0, "cpu_package_energy_j": 4.0},
)
UNKNOWN = EnergyAccount(null_reasons={"gpu_energy_j": "no_gpu", "cpu_package_energy_j": "permission_denied"})
COLUMNS = (
    "gpu_energy_net_j",
    "cpu_package_idle_power_w",
    "cpu_package_energy_net_j",
    "cpu_share_percent",
    "cpu_package_energy_run_j",
    "cpu_share_method",
)


def run(cpu_s: float | None = 6.0, busy: tuple[float | None, float | None] = (100.0, 108.0)) -> Run:
    return Run(10.0, cpu_s, Boundary(0, {}, cpu_busy_s=busy[0]), Boundary(10, {}, cpu_busy_s=busy[1]))


def test_net_is_gross_less_idle_and_the_share_is_of_the_busy_time() -> None:
    found = derive(GROSS, run(), IdlePower(70.0, 4.0, 50, None), IdlePower(40.0, 0.3, 50, None))
    assert (found.gpu_energy_net_j, found.cpu_package_energy_net_j) == (2300.0, 600.0)
    assert found.uncertainty_j["gpu_energy_net_j"] == pytest.approx(50.0)
    assert found.uncertainty_j["cpu_package_energy_net_j"] == pytest.approx(5.0)
    assert (found.cpu_share_percent, found.cpu_package_energy_run_j) == (75.0, 750.0)
    assert (found.cpu_share_method, found.null_reasons) == ("cpu_time", {})


@pytest.mark.parametrize(
    ("account", "of_run", "expected"),
    [
        (GROSS, run(), {"gpu_energy_net_j": "idle_not_measured", "cpu_package_energy_net_j": "idle_not_measured"}),
        (UNKNOWN, run(), {"gpu_energy_net_j": "no_gpu", "cpu_package_energy_run_j": "permission_denied"}),
        (GROSS, run(cpu_s=None), {"cpu_share_percent": "cpu_time_unknown"}),
        (GROSS, run(busy=(1.0, None)), {"cpu_package_energy_run_j": "cpu_time_unknown"}),
        (GROSS, run(busy=(1.0, 1.1)), {"cpu_share_percent": "cpu_time_below_resolution"}),
    ],
)
def test_what_is_not_known_has_its_reason(account: EnergyAccount, of_run: Run, expected: dict[str, str]) -> None:
    found = derive(account, of_run, NOT_MEASURED, NOT_MEASURED)
    assert expected.items() <= found.null_reasons.items()
    for column in COLUMNS:
        assert (getattr(found, column) is None) == (column in found.null_reasons), column


def test_a_share_is_never_more_than_all() -> None:
    assert derive(GROSS, run(cpu_s=8.3), NOT_MEASURED, NOT_MEASURED).cpu_share_percent == 100.0


def packages(watts: list[float], busy: float) -> list[Sample]:
    rows = []
    for i in range(30):
        node = Sample(i * SECOND // 10, 0, "b", i, 0, False, "node", "node", "node", util_percent=busy)
        rows.append(node)
        for number, power_w in enumerate(watts):
            name = f"package-{number}"
            row = Sample(i * SECOND // 10, 0, "b", i, 0, False, "powercap", name, "cpu_package",
                         power_w=power_w, power_kind="interval")  # fmt: skip
            rows.append(row)
    return rows


def test_idle_packages_are_added_up_where_the_node_rests() -> None:
    assert cpu_idle_power(packages([40.0, 35.0], 2.0), 0, 3 * SECOND).power_w == 75.0
    assert cpu_idle_power(packages([40.0, 35.0], 60.0), 0, 3 * SECOND).null_reason == "node_not_idle"
    assert cpu_idle_power(packages([], 2.0), 0, 3 * SECOND).null_reason == "no_cpu_counter_in_trace"


def test_the_nodes_busy_time_is_the_kernels() -> None:
    before = host.cpu_busy_s()
    program = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    subprocess.run([sys.executable, "-c", program], check=True)
    time.sleep(0.05)
    after = host.cpu_busy_s()
    assert before is not None and after is not None
    assert after - before >= 0.35
