"""Energy of each epoch, from traces with known truth, and from a stored session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profiler.energy import integral
from profiler.energy.epochs import cut, measure_parts, span_energy
from profiler.energy.gpu_account import power_points
from profiler.energy.sample import Sample
from profiler.errors import SessionError
from profiler.store.layout import SessionFolder
from profiler.store.read import Session
from profiler.store.write import write_run, write_samples
from tests.fakes.virtual import SECOND, Profile

T0 = 1000 * SECOND
PROFILE = Profile((70.0, 300.0, 500.0, 100.0), (2.0, 3.0, 3.0, 10.0), T0)


def trace(until_s: float = 12.0, packages: int = 2) -> list[Sample]:
    """A GPU with the profile, and packages of 40 W and 50 W, at 10 Hz, from a second before the run on."""
    rows = []
    for tick in range(-10, round(until_s * 10)):
        t_ns = T0 + tick * SECOND // 10 + 7_000_000
        rows.append(Sample(t_ns, t_ns, "b", tick, 0, False, "nvml", "GPU-0", "gpu",
                           power_w=PROFILE.power_w(t_ns), power_kind="instant"))  # fmt: skip
        for number in range(packages):
            joules = (40.0 + 10 * number) * (t_ns - T0) / SECOND + 500
            rows.append(Sample(t_ns, t_ns, "b", tick, 0, False, "powercap", f"package-{number}", "cpu_package",
                               energy_j=joules))  # fmt: skip
    return rows


def at(seconds: float) -> int:
    return T0 + round(seconds * SECOND)


def test_parts_lie_end_to_end_and_add_up_to_the_run() -> None:
    t1_ns = at(10)
    parts = cut(T0, t1_ns, at(2), [(1, at(5), {"loss": 1.0}), (2, at(8), {})])
    assert [(p.part, p.epoch, p.duration_s) for p in parts] == [
        ("setup", None, 2.0), ("epoch", 1, 3.0), ("epoch", 2, 3.0), ("rest", None, 2.0)
    ]  # fmt: skip
    found = measure_parts(parts, trace(), "GPU-0")
    energies = [one.gpu_energy_integral_j for one in found]
    assert energies == pytest.approx([140, 900, 1500, 200], rel=0.08)
    whole = integral.integrate(power_points(row for row in trace() if row.scope == "gpu")[0], T0, t1_ns)
    assert sum(energies) == pytest.approx(whole.energy_j)  # type: ignore[arg-type]
    assert [one.cpu_package_energy_j for one in found] == pytest.approx([180, 270, 270, 180])
    assert [one.samples for one in found] == [20, 30, 30, 20]
    assert not any(one.null_reasons for one in found)


def test_ends_that_cannot_be_make_no_part() -> None:
    ends = [(1, None, {}), (2, at(4), {}), (3, at(3), {}), (4, at(99), {}), (5, at(6), {})]
    assert [(p.part, p.epoch) for p in cut(T0, at(10), None, ends)] == [("epoch", 2), ("epoch", 5), ("rest", None)]
    assert [p.part for p in cut(T0, at(10), at(99), [])] == ["rest"]


def test_a_hole_costs_its_own_part_only() -> None:
    rows = [row for row in trace() if not at(5.5) < row.t_mono_ns < at(7.9)]
    parts = cut(T0, at(10), at(2), [(1, at(5), {}), (2, at(8), {})])
    found = measure_parts(parts, rows, "GPU-0")
    assert [one.null_reasons.get("gpu_energy_integral_j") for one in found] == [None, None, "trace_gap", None]
    assert found[2].cpu_package_energy_j == pytest.approx(270), "a counter bridges the hole"


def test_what_is_not_there_has_its_reason() -> None:
    parts = cut(T0, at(10), None, [])
    (no_gpu,) = measure_parts(parts, trace(packages=0), None)
    assert no_gpu.null_reasons == {
        "gpu_energy_integral_j": "no_gpu",
        "gpu_power_mean_w": "no_gpu",
        "cpu_package_energy_j": "no_cpu_counter_in_trace",
    }
    (short,) = measure_parts(parts, trace(until_s=5.0), "GPU-0")
    assert short.null_reasons["gpu_energy_integral_j"] == "trace_does_not_cover_window"
    assert short.null_reasons["cpu_package_energy_j"] == "trace_does_not_cover_window"


def test_a_counter_that_began_anew_within_a_part_gives_none() -> None:
    rows = [row if row.t_mono_ns < at(5) or row.scope == "gpu" else replaced(row) for row in trace()]
    found = measure_parts(cut(T0, at(10), None, [(1, at(4), {}), (2, at(8), {})]), rows, "GPU-0")
    assert [one.null_reasons.get("cpu_package_energy_j") for one in found] == [None, "trace_gap", None]


def replaced(row: Sample) -> Sample:

    assert row.energy_j is not None
    return row._replace(energy_j=row.energy_j - 600)


def test_a_span_is_what_its_gpus_took_within_it() -> None:
    joules, reason = span_energy(at(1), at(3), trace(), ["GPU-0"])
    half_a_tick_j = 0.05 * (300 - 70)
    assert joules == pytest.approx(70 + 300, abs=half_a_tick_j) and reason is None
    both = [*trace(), *(row._replace(device="GPU-1") for row in trace(packages=0))]
    assert span_energy(at(1), at(3), both, ["GPU-0", "GPU-1"])[0] == pytest.approx(2 * joules)


@pytest.mark.parametrize(
    ("rows", "uuids", "reason"),
    [
        (trace(), ["GPU-0", "GPU-1"], "no_power_samples"),
        ([row for row in trace() if not at(0.5) < row.t_mono_ns < at(2.8)], ["GPU-0"], "trace_gap"),
    ],
)
def test_a_span_that_one_gpu_does_not_know_is_null_with_its_reason(
    rows: list[Sample], uuids: list[str], reason: str
) -> None:
    assert span_energy(at(1), at(3), rows, uuids) == (None, reason)


def test_a_stored_session_tells_them(tmp_path: Path) -> None:
    folder = SessionFolder(tmp_path / "run_20260101_000000")
    row = {
        "run_id": "run_20260101_000000-001",
        "session_id": folder.session_id,
        "experiment_id": "examples_mnist_cnn_001",
        "index": 1,
        "attempt": 1,
        "is_final": True,
        "repo": "examples",
        "model": "mnist_cnn",
        "mode": "default",
        "verdict": "valid",
        "reasons": [],
        "valid": True,
        "safe": True,
        "node_id": "n",
        "boot_id": "b",
        "gpu_uuid": "GPU-0",
        "window_start_ns": T0,
        "window_end_ns": at(10),
    }
    events = [{"event": "ready", "t_ns": at(2)}]
    events += [{"event": "epoch", "epoch": i, "t_ns": at(2 + 3 * i), "metrics": {"loss": 1 / i}} for i in (1, 2)]
    folder.events("examples_mnist_cnn_001").parent.mkdir(parents=True)
    folder.events("examples_mnist_cnn_001").write_text("".join(json.dumps(event) + "\n" for event in events))
    write_samples(folder, "n", trace())
    write_run(folder, row)
    frame = Session(folder.root).epochs("examples_mnist_cnn_001")
    assert list(frame["part"]) == ["setup", "epoch", "epoch", "rest"]
    assert frame["epoch"].dropna().tolist() == [1, 2]
    assert frame["gpu_energy_integral_j"].sum() == pytest.approx(2740, rel=0.01)
    assert frame["metrics"][2] == {"loss": 0.5}
    with pytest.raises(SessionError):
        Session(folder.root).epochs("nosuch")
