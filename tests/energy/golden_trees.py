"""Powercap trees as machines show them, and the truth about each: which zones make up a scope. Declared as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.fakes.powercap import AMD_UNIT_NJ, SERVER_DRAM_UNIT_NJ, Zone


def package(number: int, watts: float = 0.0, **more: object) -> Zone:
    """Package `number` at zone `number`; every package has a count of its own, as they do once they have run."""
    start_uj = 11_000_000_000 * (number + 1)
    return Zone(f"intel-rapl:{number}", f"package-{number}", watts, start_uj, **more)  # type: ignore[arg-type]


def child(folder: str, name: str, watts: float = 0.0) -> Zone:
    """A zone below another one; its count is its own too."""
    start_uj = 3_000_000_000 + sum(map(ord, folder)) * 1_000_000
    return Zone(folder, name, watts, start_uj, SERVER_DRAM_UNIT_NJ if name == "dram" else 61_035)


@dataclass(frozen=True)
class Tree:
    """`scopes`: the counters of each scope by name. `packages_w` and `dram_w`: what their sums must come to (None: null
    for the reason in `nulls`). `nested`: laid out with links, as in a real /sys."""

    zones: tuple[Zone, ...]
    scopes: dict[str, list[str]]
    packages_w: float | None
    dram_w: float | None = None
    nulls: dict[str, str] = field(default_factory=dict)
    nested: bool = False


NO_DRAM = {"dram": "no_dram_zone"}

TREES: dict[str, Tree] = {
    "intel desktop: core and uncore are inside the package": Tree(
        (package(0, 65.0), child("intel-rapl:0:0", "core", 50.0), child("intel-rapl:0:1", "uncore", 5.0)),
        {"cpu_package": ["package-0"], "core": ["core-0"], "uncore": ["uncore-0"]},
        65.0,
        nulls=NO_DRAM,
    ),
    "intel desktop with dram, laid out as in /sys": Tree(
        (package(0, 65.0), child("intel-rapl:0:0", "core", 50.0), child("intel-rapl:0:1", "dram", 4.0)),
        {"cpu_package": ["package-0"], "core": ["core-0"], "dram": ["dram-0"]},
        65.0,
        4.0,
        nested=True,
    ),
    "intel laptop: psys holds the package, mmio shows it again": Tree(
        (
            package(0, 15.0),
            child("intel-rapl:0:0", "core", 9.0),
            child("intel-rapl:0:1", "uncore", 2.0),
            Zone("intel-rapl:1", "psys", 30.0, 9_000_000_000),
            Zone("intel-rapl-mmio:0", "package-0", mirrors="intel-rapl:0"),
        ),
        {
            "cpu_package": ["package-0"],
            "core": ["core-0"],
            "uncore": ["uncore-0"],
            "psys": ["psys"],
            "mirror": ["package-0-mmio"],
        },
        15.0,
        nulls=NO_DRAM,
    ),
    "only the mmio interface is there: it is the package": Tree(
        (Zone("intel-rapl-mmio:0", "package-0", 15.0),), {"cpu_package": ["package-0"]}, 15.0, nulls=NO_DRAM
    ),
    "mmio with dram below it: both are twins": Tree(
        (
            package(0, 28.0),
            child("intel-rapl:0:0", "dram", 3.0),
            Zone("intel-rapl-mmio:0", "package-0", mirrors="intel-rapl:0"),
            Zone("intel-rapl-mmio:0:0", "dram", mirrors="intel-rapl:0:0"),
        ),
        {"cpu_package": ["package-0"], "dram": ["dram-0"], "mirror": ["package-0-mmio", "dram-0-mmio"]},
        28.0,
        3.0,
    ),
    "intel server with two sockets": Tree(
        (
            package(0, 150.0),
            package(1, 120.0),
            child("intel-rapl:0:0", "dram", 20.0),
            child("intel-rapl:1:0", "dram", 15.0),
        ),
        {"cpu_package": ["package-0", "package-1"], "dram": ["dram-0", "dram-1"]},
        270.0,
        35.0,
        nested=True,
    ),
    "zones numbered against the sockets": Tree(
        (
            Zone("intel-rapl:0", "package-1", 120.0, 1_000_000_000),
            Zone("intel-rapl:0:0", "dram", 15.0, 3_000_000_000, SERVER_DRAM_UNIT_NJ),
            Zone("intel-rapl:1", "package-0", 150.0, 7_000_000_000),
            Zone("intel-rapl:1:0", "dram", 20.0, 5_000_000_000, SERVER_DRAM_UNIT_NJ),
        ),
        {"cpu_package": ["package-1", "package-0"], "dram": ["dram-1", "dram-0"]},
        270.0,
        35.0,
    ),
    "four sockets": Tree(
        tuple(package(number, 100.0 + number) for number in range(4)),
        {"cpu_package": [f"package-{number}" for number in range(4)]},
        406.0,
        nulls=NO_DRAM,
    ),
    "cascade lake AP: two dies with counters of their own": Tree(
        (
            Zone("intel-rapl:0", "package-0-die-0", 100.0, 11_000_000_000),
            Zone("intel-rapl:0:0", "dram", 10.0, 2_000_000_000, SERVER_DRAM_UNIT_NJ),
            Zone("intel-rapl:1", "package-0-die-1", 80.0, 13_000_000_000),
            Zone("intel-rapl:1:0", "dram", 8.0, 4_000_000_000, SERVER_DRAM_UNIT_NJ),
        ),
        {"cpu_package": ["package-0-die-0", "package-0-die-1"], "dram": ["dram-0-die-0", "dram-0-die-1"]},
        180.0,
        18.0,
    ),
    "threadripper: both dies show the socket's counter": Tree(
        (
            Zone("intel-rapl:0", "package-0-die-0", 68.0, 11_000_000_000, AMD_UNIT_NJ),
            Zone("intel-rapl:0:0", "core", 40.0, 6_000_000_000, AMD_UNIT_NJ),
            Zone("intel-rapl:1", "package-0-die-1", unit_nj=AMD_UNIT_NJ, mirrors="intel-rapl:0"),
            Zone("intel-rapl:1:0", "core", 20.0, 5_000_000_000, AMD_UNIT_NJ),
        ),
        {
            "cpu_package": ["package-0-die-0"],
            "mirror": ["package-0-die-1"],
            "core": ["core-0-die-0", "core-0-die-1"],
        },
        68.0,
        nulls=NO_DRAM,
    ),
    "naples with two sockets: four dies each, one counter a socket": Tree(
        tuple(
            Zone(
                f"intel-rapl:{4 * socket + die}",
                f"package-{socket}-die-{die}",
                90.0 + socket,
                20_000_000_000 * (socket + 1),
                AMD_UNIT_NJ,
                mirrors=None if die == 0 else f"intel-rapl:{4 * socket}",
            )
            for socket in range(2)
            for die in range(4)
        ),
        {
            "cpu_package": ["package-0-die-0", "package-1-die-0"],
            "mirror": [f"package-{socket}-die-{die}" for socket in range(2) for die in range(1, 4)],
        },
        181.0,
        nulls=NO_DRAM,
    ),
    "amd desktop under the intel-rapl name": Tree(
        (
            Zone("intel-rapl:0", "package-0", 88.0, 5_000_000_000, AMD_UNIT_NJ),
            Zone("intel-rapl:0:0", "core", 60.0, 4_000_000_000, AMD_UNIT_NJ),
        ),
        {"cpu_package": ["package-0"], "core": ["core-0"]},
        88.0,
        nulls=NO_DRAM,
    ),
    "two equal sockets are two sockets": Tree(
        (package(0, 70.0), Zone("intel-rapl:1", "package-1", 70.0, 11_000_000_000)),
        {"cpu_package": ["package-0", "package-1"]},
        140.0,
        nulls=NO_DRAM,
    ),
    "one of two sockets stands still: half a sum is no sum": Tree(
        (package(0, 70.0), package(1, 0.0)),
        {"cpu_package": ["package-0", "package-1"]},
        None,
        nulls={"cpu_package": "counter_not_advancing", **NO_DRAM},
    ),
    "virtual machine: psys is there and constant 0": Tree(
        (Zone("intel-rapl:0", "psys", 0.0, 0),),
        {"psys": ["psys"]},
        None,
        nulls={"psys": "counter_not_advancing", "cpu_package": "no_package_zone", "dram": "no_package_zone"},
    ),
    "an empty counter file": Tree(
        (package(0, text="", range_uj=None), child("intel-rapl:0:0", "dram", 3.0)),
        {"dram": ["dram-0"]},
        None,
        3.0,
        nulls={"cpu_package": "empty_read"},
    ),
    "a counter file that holds no number": Tree(
        (package(0, text="error\n"),), {}, None, nulls={"cpu_package": "not_a_number", "dram": "not_a_number"}
    ),
    "a zone going away has lost its name": Tree(
        (package(0, 40.0), package(1, 40.0, named=False)), {"cpu_package": ["package-0"]}, 40.0, nulls=NO_DRAM
    ),
    "other control types are no energy": Tree(
        (package(0, 40.0), Zone("dtpm:0", "package-0", 40.0), Zone("intel-rapl", "", named=False)),
        {"cpu_package": ["package-0"]},
        40.0,
        nulls=NO_DRAM,
    ),
    "no zone at all": Tree((), {}, None, nulls={"cpu_package": "no_rapl_zones", "dram": "no_rapl_zones"}),
}
