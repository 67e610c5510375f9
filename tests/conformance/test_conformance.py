"""The kit itself: closed forms, verdicts, the spoilt read; and this project on short inputs. No peers, no network."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conformance import __main__ as kit
from tests.conformance.cases import CASES, FLOOR_W, RANGE_UJ, Case, Load, PlayedZone
from tests.conformance.environments import CONSTRAINTS, PINS, peers
from tests.conformance.judge import NO_FIGURE, NOT_CLAIMED, NOT_RUN, RIGHT, WRONG, judge
from tests.conformance.stage import Run, libraries, longest_pause_s, perform, truth
from tests.conformance.table import page
from tests.conformance.tools import of_peer, own
from tests.fakes.nvml import compiler

BY_NAME = {case.name: case for case in CASES}
ENERGY_J = {"cpu-steady": 1000, "cpu-late": 1000, "cpu-short": 100, "cpu-mirrored": 680, "gpu-steady": 3000,
            "gpu-spike": 1020, "gpu-start": 1675, "gpu-bursts": 3500}  # fmt: skip
METER, MEASURE = own()


def run_of(case: Case, **values: object) -> Run:
    return Run(case.name, METER.name, METER.version, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ENERGY_J)
def test_the_energy_of_a_load_is_what_its_description_says(name: str) -> None:
    load = BY_NAME[name].load
    assert load.energy_j(load.seconds) == pytest.approx(ENERGY_J[name], abs=1e-6)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_closed_form_is_the_sum_over_milliseconds(case: Case) -> None:
    def watts(at_s: float) -> float:
        for seconds, power_w in case.load.steps:
            if 0 <= at_s < seconds:
                return power_w
            at_s -= seconds
        return case.load.outside_w

    summed_j = sum(watts(ms / 1000 + 0.0005) for ms in range(-500, 8_000)) / 1000
    closed_j = case.load.energy_j(8.0) - case.load.energy_j(-0.5)
    assert summed_j == pytest.approx(closed_j, abs=0.2)


@pytest.mark.parametrize(("name", "at_s"), [("cpu-wrap", 5.0), ("cpu-wrap-first", 0.3), ("cpu-wrap-last", 9.98)])
def test_a_counter_wraps_when_its_case_says(name: str, at_s: float) -> None:
    (zone,) = BY_NAME[name].zones
    before_uj, after_uj = zone.value_uj(at_s - 0.01), zone.value_uj(at_s + 0.01)
    assert after_uj < before_uj <= RANGE_UJ
    assert after_uj + RANGE_UJ + 61 - before_uj == pytest.approx(0.02 * 100e6, abs=200)


def test_a_counter_that_restarts_goes_on_from_zero() -> None:
    (zone,) = BY_NAME["cpu-reset"].zones
    assert isinstance(zone, PlayedZone)
    assert zone.value_uj(4.99) > zone.start_uj
    assert zone.value_uj(6.0) == pytest.approx(100e6, abs=100)


def test_the_truth_lies_between_the_shortest_and_the_longest_window() -> None:
    case = BY_NAME["gpu-steady"]
    second = 10**9
    start_ns = 100 * second
    window_ns = [start_ns - 2 * second, start_ns - second, start_ns + 10 * second, start_ns + 12 * second]
    assert truth(case, start_ns, window_ns) == pytest.approx((3300.0, 4200.0))
    assert truth(case, start_ns, [window_ns[0], window_ns[3]]) == pytest.approx((3000.0, 4200.0))
    steady = BY_NAME["cpu-steady"]
    assert truth(steady, start_ns, window_ns) == pytest.approx((1000 + 11 * FLOOR_W, 1000 + 14 * FLOOR_W))


def test_what_the_counters_did_not_show_yet_is_not_asked_for() -> None:
    """The hardware stood still over the end of the load, for 40 ms, and before the window, for 30 ms."""
    case, second, ms = BY_NAME["cpu-steady"], 10**9, 10**6
    start_ns = 100 * second
    window_ns = [start_ns, start_ns, start_ns + 10 * second, start_ns + 10 * second]
    writes = [(start_ns + at * ms, start_ns + (at + 1) * ms) for at in (-100, -31, 5, 9_960, 10_000)]
    whole_j = 100 * 10 + FLOOR_W * 10
    expected = whole_j - 0.040 * (100 + FLOOR_W), whole_j + 0.031 * FLOOR_W
    assert truth(case, start_ns, window_ns, writes) == pytest.approx(expected)
    assert longest_pause_s(writes[-2:], *window_ns[::3]) == pytest.approx(0.041)
    assert longest_pause_s(writes[:2], *window_ns[::3]) == 0


@pytest.mark.parametrize(
    ("name", "told", "verdict"),
    [
        ("cpu-steady", {"energy_j": 1029.0}, RIGHT),
        ("cpu-steady", {"energy_j": 1031.0}, WRONG),
        ("cpu-steady", {"energy_j": 969.0}, WRONG),
        ("cpu-steady", {"energy_j": 0.0}, WRONG),
        ("cpu-steady", {"reason": "read_failed"}, NO_FIGURE),
        ("cpu-reset", {"reason": "counter_reset"}, RIGHT),
        ("cpu-reset", {"energy_j": 500.0}, WRONG),
        ("cpu-frozen", {"reason": "counter_not_advancing"}, RIGHT),
        ("cpu-frozen", {"energy_j": 0.0}, WRONG),
        ("cpu-steady", {"error": "never began to measure (exit status 1): no"}, NOT_RUN),
        ("cpu-steady", {"error": "ended without an answer (exit status 1): no"}, NO_FIGURE),
        ("killed", {"left_running": ()}, RIGHT),
        ("killed", {"left_running": ("helper",)}, WRONG),
    ],
)
def test_verdicts(name: str, told: dict[str, object], verdict: str) -> None:
    case = BY_NAME[name]
    assert judge(case, METER, run_of(case, truth_j=(1000.0, 1000.0), **told)).verdict == verdict


def test_what_a_tool_does_not_claim_is_never_wrong() -> None:
    tools = {tool.driver: tool for peer in peers(PINS.read_text()) for tool in of_peer(peer)}
    for driver, name in (("zeus_power", "cpu-steady"), ("perun", "cpu-short"), ("pyjoules", "cpu-mirrored")):
        case = BY_NAME[name]
        judged = judge(case, tools[driver], run_of(case, energy_j=0.0, truth_j=(1.0, 1.0)))
        assert judged.verdict == NOT_CLAIMED and judged.note


def test_everything_that_the_peers_need_is_pinned() -> None:
    assert len(peers(PINS.read_text())) == 6
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    assert lines and all("==" in line for line in lines)
    with pytest.raises(ValueError, match="not `name==version`"):
        peers("zeus>=0.16\n")


def test_the_page_shows_wrong_figures_bold_and_counts_the_right_ones() -> None:
    case = BY_NAME["cpu-steady"]
    right = judge(case, METER, run_of(case, energy_j=1000.0, truth_j=(1000.0, 1000.0)))
    wrong = judge(case, MEASURE, run_of(case, energy_j=-261_143.0, truth_j=(1000.0, 1000.0)))
    text = page([right, wrong], ["a machine"], "make conformance", "docs/measurements/here")
    (row,) = (line for line in text.splitlines() if line.startswith(f"| {case.asks} | 1,000 |"))
    assert row.endswith("| 1,000 | **-261,143** |")
    assert "| 1 of 1 | 0 of 1 |" in text


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(SystemExit, match="nosuch is not in"):
        kit.chosen_peers("zeus,nosuch")
    with pytest.raises(SystemExit, match="there are cpu-steady"):
        kit.chosen_cases("nosuch")


@pytest.mark.skipif(compiler() is None, reason="no C compiler for the library that spoils reads")
@pytest.mark.parametrize(("kind", "seen"), [("empty", "''"), ("fail", "OSError(61")])
def test_one_read_is_spoilt_and_no_other(tmp_path: Path, kind: str, seen: str) -> None:
    _, spoiler = libraries(tmp_path / "libraries")
    counter, fault = tmp_path / "energy_uj", tmp_path / "fault"
    counter.write_text("42\n")
    fault.write_text(f"{kind} {time.monotonic_ns()}\n")
    source = f"""
for _ in range(3):
    try:
        print(repr(open({str(counter)!r}).read()))
    except OSError as error:
        print(repr(error))
"""
    environ = {**os.environ, "LD_PRELOAD": str(spoiler), "CONFORMANCE_FAULT": str(fault)}
    done = subprocess.run([sys.executable, "-c", source], env=environ, capture_output=True, text=True, check=True)
    first, *others = done.stdout.splitlines()
    assert first.startswith(seen)
    assert others == ["'42\\n'"] * 2


def can_unshare() -> bool:
    command = ["unshare", "--mount", "--net", *(["--map-root-user"] if os.getuid() else []), "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


SHORT_LOAD = Load(((1.0, 120.0),))
SHORT_CASES = [
    BY_NAME["cpu-short"],
    replace(BY_NAME["gpu-steady"], load=Load(((4.0, 300.0),), outside_w=300.0)),
    replace(BY_NAME["cpu-frozen"], load=SHORT_LOAD),
    BY_NAME["killed"],
]


@pytest.mark.slow
@pytest.mark.skipif(compiler() is None or not can_unshare(), reason="needs a C compiler, and namespaces")
@pytest.mark.parametrize("tool", own(), ids=lambda tool: tool.driver)
@pytest.mark.parametrize("case", SHORT_CASES, ids=lambda case: case.name)
def test_this_project_is_right(case: Case, tool: kit.Tool, tmp_path: Path) -> None:
    judged = judge(case, tool, perform(case, tool, *libraries(tmp_path)))
    assert judged.verdict == RIGHT, judged
