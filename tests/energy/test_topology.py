"""Which zones make up a sum: the golden trees, read by the real reader while a player lets their counters run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from profiler.energy import rapl, sources
from profiler.energy.account import account
from profiler.energy.counters import NOT_ADVANCING, PERMISSION_DENIED, VANISHED
from tests.energy.golden_trees import TREES, Tree
from tests.fakes import powercap

WINDOW_S = 0.4


@pytest.fixture(params=TREES, ids=lambda name: name.replace(" ", "_"))
def tree(request: pytest.FixtureRequest) -> Tree:
    return TREES[request.param]


def test_every_zone_gets_its_scope(tree: Tree, tmp_path: Path) -> None:
    powercap.build(tmp_path, tree.zones, nested=tree.nested)
    opened, _ = rapl.open_powercap(tmp_path)
    scopes: dict[str, list[str]] = {}
    for counter in opened:
        scopes.setdefault(counter.info.scope, []).append(counter.info.name)
        counter.close()
    assert scopes == tree.scopes


def test_the_sums_are_the_truth_or_null_with_its_reason(tree: Tree, tmp_path: Path) -> None:
    powercap.build(tmp_path, tree.zones, nested=tree.nested)
    with powercap.Player(tmp_path, tree.zones) as player, sources.discover(tmp_path, gpus=False) as found:
        player.write()  # its own thread may be behind on a busy machine
        start, t0_ns = found.boundary(), time.monotonic_ns()
        time.sleep(WINDOW_S)
        player.write()
        end, t1_ns = found.boundary(edge="end"), time.monotonic_ns()
        result = account(start, end, [], found, None, t0_ns, t1_ns)
    seconds = (end.t_ns - start.t_ns) / 1e9
    for column, watts, scope in (
        ("cpu_package_energy_j", tree.packages_w, "cpu_package"),
        ("dram_energy_j", tree.dram_w, "dram"),
    ):
        joules = getattr(result, column)
        if watts is None:
            assert (joules, result.null_reasons[column]) == (None, tree.nulls[scope])
        else:
            # The player lags behind the clock by one of its periods.
            assert joules == pytest.approx(watts * seconds, rel=0.15)
            assert column not in result.null_reasons


def test_an_unreadable_zone_names_the_exact_fix(tmp_path: Path) -> None:
    """As an ordinary user: root may read everything."""
    powercap.build(tmp_path, [powercap.Zone("intel-rapl:0", "package-0", mode=0o400)])
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(0o755)
    energy = tmp_path / "class/powercap/intel-rapl:0/energy_uj"
    if os.geteuid() != 0:
        energy.chmod(0)
    program = (
        "import os, sys; from pathlib import Path; from profiler.energy import rapl\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "_, missing = rapl.open_powercap(Path(sys.argv[1]))\n"
        "print(missing[0].name, missing[0].reason, missing[0].scope, missing[0].fix, sep='|')\n"
    )
    shown = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    name, reason, scope, fix = shown.stdout.strip().split("|")
    assert (name, reason, scope) == ("package-0", PERMISSION_DENIED, "cpu_package")
    assert f"sudo chmod g+r '{energy}'" in fix


def test_dead_counters_are_named_and_closed(tmp_path: Path) -> None:
    zones = TREES["virtual machine: psys is there and constant 0"].zones
    powercap.build(tmp_path, zones)
    with sources.discover(tmp_path, probe_s=0.05, gpus=False) as found:
        assert found.counters == ()
        assert [(entry.name, entry.reason) for entry in found.unavailable if entry.scope == "psys"] == [
            ("psys", NOT_ADVANCING)
        ]


def test_a_zone_that_vanishes_gives_a_reason(tmp_path: Path) -> None:
    """A closed descriptor fails like a device that went away; both are readings without a number."""
    powercap.build(tmp_path, [powercap.Zone("intel-rapl:0", "package-0")])
    (counter,), _ = rapl.open_powercap(tmp_path)
    assert counter.read().units == 999_997  # the last multiple of 61.035 uJ below 1 J, in whole uJ
    counter.close()
    assert counter.read().null_reason == "read_failed"
    assert rapl.fault_of(OSError(19, "No such device")) == VANISHED


@pytest.mark.parametrize(
    ("range_uj", "modulus"),
    [
        (262_143_328_850, 262_143_328_911),  # 61.035 uJ: most Intel parts
        (65_532_610_987, 65_532_611_002),  # 15.258 uJ: AMD
        (65_712_999_613, 65_712_999_628),  # 15.3 uJ: server DRAM
        (999_999, 1_000_000),
        (1, 2),
    ],
)
def test_the_modulus_is_the_range_plus_one_hardware_unit(range_uj: int, modulus: int) -> None:
    assert rapl.modulus_uj(range_uj) == modulus
