"""perf energy events. The kernel's software clock stands in for RAPL: real perf_event_open, real counts, known truth.

The software event cpu-clock counts the nanoseconds of a CPU: with a scale of 1e-9 it is a source of exactly 1 W.
"""

from __future__ import annotations

import errno
import time
from fractions import Fraction
from pathlib import Path

import pytest

from profiler.energy import perf, sources
from profiler.energy.account import account
from profiler.energy.counters import NOT_ADVANCING, PERMISSION_DENIED, VANISHED, EnergyCounter
from tests.fakes import powercap

SOFTWARE_PMU = 1
CPU_CLOCK = 0
EMULATION_FAULTS = 8  # never happens: a counter that is constant 0
NANOJOULE = "1e-9"
RAPL_SCALE = "2.3283064365386962890625e-10"


def build_pmu(
    root: Path,
    events: dict[str, int],
    *,
    pmu_type: int = SOFTWARE_PMU,
    cpumask: str = "0",
    scale: str = NANOJOULE,
    packages: dict[int, tuple[int, int]] | None = None,
) -> None:
    """A `power` PMU under `root`. packages: cpu -> (package, die)."""
    pmu = root / "bus" / "event_source" / "devices" / "power"
    (pmu / "events").mkdir(parents=True)
    (pmu / "format").mkdir()
    (pmu / "type").write_text(f"{pmu_type}\n")
    (pmu / "cpumask").write_text(f"{cpumask}\n")
    (pmu / "format" / "event").write_text("config:0-7\n")
    for name, config in events.items():
        (pmu / "events" / name).write_text(f"event=0x{config:02x}\n")
        (pmu / "events" / f"{name}.scale").write_text(f"{scale}\n")
        (pmu / "events" / f"{name}.unit").write_text("Joules\n")
    for cpu, (package, die) in (packages or {}).items():
        topology = root / f"devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{package}\n")
        (topology / "die_id").write_text(f"{die}\n")


class Recorder:
    """An opener that hands out descriptors of an endless file of zeros and notes what was asked."""

    def __init__(self, error: int | None = None) -> None:
        self.asked: list[tuple[int, int, int]] = []
        self._error = error

    def __call__(self, pmu_type: int, config: int, cpu: int) -> int:
        self.asked.append((pmu_type, config, cpu))
        if self._error is not None:
            raise OSError(self._error, "no")
        import os

        return os.open("/dev/zero", os.O_RDONLY)


def close(opened: list[EnergyCounter]) -> None:
    for counter in opened:
        counter.close()


def kernel_counts(tmp_path: Path) -> None:
    """Skips where this user may not count at all: then only the refusal can be tested, and another test does."""
    try:
        descriptor = perf.perf_event_open(SOFTWARE_PMU, CPU_CLOCK, 0)
    except OSError as error:
        pytest.skip(f"perf_event_open is refused here: {error}")
    perf.PerfCounter(None, descriptor).close()  # type: ignore[arg-type]


def test_a_real_event_counts_a_known_power(tmp_path: Path) -> None:
    kernel_counts(tmp_path)
    build_pmu(tmp_path, {"energy-pkg": CPU_CLOCK})
    with sources.discover(tmp_path, gpus=False) as found:
        assert [(c.info.name, c.info.source, c.info.scope) for c in found.counters] == [
            ("package-0", "perf", "cpu_package")
        ]
        start, t0_ns = found.boundary(), time.monotonic_ns()
        time.sleep(0.3)
        end, t1_ns = found.boundary(edge="end"), time.monotonic_ns()
        result = account(start, end, [], found, None, t0_ns, t1_ns)
    assert result.cpu_package_energy_j == pytest.approx((t1_ns - t0_ns) / 1e9, rel=0.05)
    assert result.energy_sources["cpu_package_energy_j"].startswith("perf counter package-0, unit 1e-09 J")


def test_a_real_event_that_stays_0_is_not_advancing(tmp_path: Path) -> None:
    kernel_counts(tmp_path)
    build_pmu(tmp_path, {"energy-psys": EMULATION_FAULTS})
    with sources.discover(tmp_path, probe_s=0.1, gpus=False) as found:
        reasons = {entry.scope: entry.reason for entry in found.unavailable}
    assert reasons["psys"] == NOT_ADVANCING
    assert found.counters == ()


def test_events_have_scope_scale_and_config(tmp_path: Path) -> None:
    names = {"energy-pkg": 2, "energy-ram": 3, "energy-cores": 1, "energy-gpu": 4, "energy-psys": 5, "energy-new": 9}
    build_pmu(tmp_path, names, scale=RAPL_SCALE)
    opener = Recorder()
    opened, missing = perf.open_perf(tmp_path, opener=opener)
    close(opened)
    assert {c.info.name: c.info.scope for c in opened} == {
        "core-0": "core",
        "uncore-0": "uncore",
        "package-0": "cpu_package",
        "psys": "psys",
        "dram-0": "dram",
    }
    assert {c.info.joules_per_unit for c in opened} == {Fraction(1, 2**32)}
    assert sorted(config for _, config, _ in opener.asked) == [1, 2, 3, 4, 5]
    assert missing == []


def test_one_event_for_each_package_of_the_cpumask(tmp_path: Path) -> None:
    build_pmu(tmp_path, {"energy-pkg": 2}, cpumask="0,28", packages={0: (0, 0), 28: (1, 0)})
    opened, _ = perf.open_perf(tmp_path, opener=Recorder())
    close(opened)
    assert [c.info.name for c in opened] == ["package-0", "package-1"]


@pytest.mark.parametrize(
    ("vendor", "names"),
    [("GenuineIntel", ["package-0-die-0", "package-0-die-1"]), ("AuthenticAMD", ["package-0"])],
)
def test_dies_count_alone_on_intel_and_once_a_socket_on_amd(tmp_path: Path, vendor: str, names: list[str]) -> None:
    build_pmu(tmp_path, {"energy-pkg": 2}, cpumask="0-1", packages={0: (0, 0), 1: (0, 1)})
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    opened, _ = perf.open_perf(tmp_path, opener=Recorder(), cpuinfo=cpuinfo)
    close(opened)
    assert [c.info.name for c in opened] == names


@pytest.mark.parametrize(
    ("error", "reason", "fix"),
    [
        (errno.EACCES, PERMISSION_DENIED, "kernel.perf_event_paranoid=0"),
        (errno.EPERM, PERMISSION_DENIED, "cap_perfmon"),
        (errno.EOPNOTSUPP, "not_supported", ""),
        (errno.ENODEV, VANISHED, ""),
    ],
)
def test_a_refused_event_says_why_and_what_to_do(tmp_path: Path, error: int, reason: str, fix: str) -> None:
    build_pmu(tmp_path, {"energy-pkg": 2})
    opened, (missing,) = perf.open_perf(tmp_path, opener=Recorder(error))
    assert opened == []
    assert (missing.name, missing.scope, missing.reason) == ("package-0", "cpu_package", reason)
    assert fix in missing.fix


def test_an_event_whose_cpu_went_offline_has_vanished(tmp_path: Path) -> None:
    build_pmu(tmp_path, {"energy-pkg": 2})

    def at_end_of_file(pmu_type: int, config: int, cpu: int) -> int:
        import os

        return os.open(os.devnull, os.O_RDONLY)

    (counter,), _ = perf.open_perf(tmp_path, opener=at_end_of_file)
    assert counter.read().null_reason == VANISHED
    counter.close()


def test_no_pmu_is_said(tmp_path: Path) -> None:
    opened, (missing,) = perf.open_perf(tmp_path)
    assert (opened, missing.reason) == ([], "no_power_pmu")


def test_fields_go_where_the_format_says() -> None:
    assert perf.parse_cpu_list("0-2,8\n") == [0, 1, 2, 8]
    assert perf.parse_cpu_list("") == []


def test_powercap_is_preferred_scope_by_scope(tmp_path: Path) -> None:
    build_pmu(tmp_path, {"energy-pkg": 2, "energy-ram": 3})
    powercap.build(tmp_path, [powercap.Zone("intel-rapl:0", "package-0")])
    chosen, missing = sources.choose(_opened(tmp_path), perf.open_perf(tmp_path, opener=Recorder()))
    close(chosen)
    assert {c.info.scope: c.info.source for c in chosen} == {"cpu_package": "powercap", "dram": "perf"}
    assert missing == []


def test_perf_takes_over_where_a_package_is_unreadable(tmp_path: Path) -> None:
    build_pmu(tmp_path, {"energy-pkg": 2})
    powercap.build(
        tmp_path,
        [powercap.Zone("intel-rapl:0", "package-0"), powercap.Zone("intel-rapl:1", "package-1", text="")],
    )
    chosen, missing = sources.choose(_opened(tmp_path), perf.open_perf(tmp_path, opener=Recorder()))
    close(chosen)
    assert [(c.info.name, c.info.source) for c in chosen] == [("package-0", "perf")]
    assert missing == []


def test_where_neither_is_complete_the_scope_is_unavailable(tmp_path: Path) -> None:
    build_pmu(tmp_path, {"energy-pkg": 2})
    powercap.build(tmp_path, [powercap.Zone("intel-rapl:0", "package-0", text="")])
    chosen, missing = sources.choose(_opened(tmp_path), perf.open_perf(tmp_path, opener=Recorder(errno.EACCES)))
    assert chosen == []
    assert [entry.reason for entry in missing] == ["empty_read", PERMISSION_DENIED]


def _opened(root: Path) -> sources.Opened:
    from profiler.energy import rapl

    return rapl.open_powercap(root)
