"""Which nodes can serve, judged from given facts: each fault is named with the line that mends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.clocks import ClockOffset, clock_offset
from cluster.fitness import Needs, NodeReport, judge, required
from cluster.ray_node import ENERGY_SLOT
from profiler.errors import CannotRunError

NEEDS = Needs(python="3.11.7", ray="2.60.0", folders=("/lab/quick",))
CONTAINED = {"name": "pid_namespace", "available": True, "reason": "", "fix": ""}
FACTS: dict[str, Any] = {
    "boot_id": "b",
    "python": "3.11.9",
    "ray": "2.60.1",
    "profiler": "0.1.0",
    "folders": {"/lab/quick": "/lab/quick"},
    "gpus": [{"uuid": "GPU-1", "name": "H100", "index": 0}],
    "scopes": ["cpu_package", "gpu"],
    "counters": ["package-0"],
    "gpu_counters": {"GPU-1": "gpu-0"},
    "unavailable": [],
    "containment": [CONTAINED],
    "mps": True,
    "niceness": 0,
    "torch": {"name": "torch", "ok": True, "detail": "installed in /site/torch", "fix": None},
    "disk": "/var/tmp",
    "disk_free_gib": 50.0,
}
DENIED = {"name": "package-0", "reason": "permission_denied", "scope": "cpu_package", "source": "powercap",
          "fix": "sudo chmod a+r /sys/class/powercap/intel-rapl:0/energy_uj"}  # fmt: skip


def report(clock: ClockOffset | None = None, error: str | None = None, **facts: Any) -> NodeReport:
    gpus = len(facts.get("gpus", FACTS["gpus"]))
    known = None if error else {**FACTS, **facts}
    resources = {"CPU": 4.0, "GPU": float(gpus), ENERGY_SLOT: 1.0}
    return NodeReport("n1", "10.0.0.1", "lab1", resources, 6379, known, clock or ClockOffset(0, 500_000), error)


def with_gpus(count: int) -> NodeReport:
    """Ray has another number of GPUs than the driver shows."""
    node = report()
    return replace(node, resources={**node.resources, "GPU": count})


def one(found: NodeReport, needs: Needs = NEEDS) -> tuple[bool, str, str]:
    """The only remark on the node."""
    (remark,) = judge(found, needs)
    return remark.refuses, remark.text, remark.fix


def test_a_node_that_lacks_nothing_serves_without_a_word() -> None:
    assert judge(report(), NEEDS) == []


def test_another_minor_version_of_ray_or_python_cannot_serve() -> None:
    refuses, text, fix = one(report(ray="2.59.3"))
    assert refuses and "2.59.3" in text and "2.60.0" in text and "ray==2.60.0" in fix
    refuses, text, fix = one(report(python="3.12.1"))
    assert refuses and "3.12.1" in text and "Python 3.11" in fix


def test_no_permission_for_rapl_lessens_unless_the_energy_is_required() -> None:
    blind = report(unavailable=[DENIED], scopes=["gpu"], counters=[])
    assert one(blind) == (False, "package-0 may not be read by the user of its Ray", DENIED["fix"])
    refuses, text, fix = one(blind, replace(NEEDS, energy=("cpu",)))
    assert refuses and "permission_denied" in text and fix == DENIED["fix"]


def test_a_node_without_gpu_is_left_out_where_the_others_train_on_theirs() -> None:
    bare = report(gpus=[], scopes=["cpu_package"], gpu_counters={})
    assert judge(bare, NEEDS) == []
    refuses, text, fix = one(bare, replace(NEEDS, gpu=True))
    assert refuses and "offers no GPU" in text and "nvidia-smi" in fix
    hidden = with_gpus(0)
    refuses, text, fix = one(hidden, replace(NEEDS, gpu=True))
    assert refuses and "NVML shows 1" in text and "--num-gpus=1" in fix
    assert one(with_gpus(2))[2].startswith("start its Ray with --num-gpus=1")


def test_a_skewed_clock_is_named_with_its_size_and_uncertainty() -> None:
    refuses, text, fix = one(report(clock=ClockOffset(-5_000_000_000, 700_000)))
    assert not refuses and "5.000 s behind" in text and "0.001 s" in text and "chronyc makestep" in fix
    assert judge(report(clock=ClockOffset(120_000_000, 30_000_000)), NEEDS) == []  # it may be right


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"folders": {"/lab/quick": None}}, "does not see /lab/quick"),
        ({"containment": [{**CONTAINED, "available": False, "fix": "sysctl x=0"}]}, "cannot contain"),
        ({"niceness": 15}, "nice 15"),
        ({"disk_free_gib": 0.2}, "0.2 GiB"),
        ({"torch": {"ok": False, "detail": "without bytecode", "fix": "python -m compileall"}}, "without bytecode"),
    ],
)
def test_other_faults(facts: dict[str, Any], said: str) -> None:
    _, text, fix = one(report(**facts))
    assert said in text and fix


def test_a_node_that_does_not_answer_is_left_out_with_the_reason() -> None:
    refuses, text, _ = one(report(error="it died"))
    assert refuses and "it died" in text


def test_required_nodes_must_be_there_and_serve() -> None:
    good = report()
    bad = replace(report(), node_id="n2", address="10.0.0.2", hostname="lab2")
    bad = replace(bad, remarks=tuple(judge(bad, replace(NEEDS, ray="2.61.0"))))
    required([good, bad], [])
    required([good, bad], ["lab1", "10.0.0.1"])
    with pytest.raises(CannotRunError, match=r"lab2 .*2\.60\.1.*pip install"):
        required([good, bad], ["all"])
    with pytest.raises(CannotRunError, match="lab3: no alive node"):
        required([good], ["lab3"])


def test_the_offset_is_that_of_the_shortest_round_trip() -> None:
    now_ns, lengths = [0], iter([8_000_000, 2_000_000, 9_000_000])

    def ask() -> int:
        length = next(lengths)
        now_ns[0] += length  # the answer is given at the very end of the trip
        return now_ns[0] + 3_000_000_000

    found = clock_offset(ask, 3, lambda: now_ns[0])
    assert found.uncertainty_ns == 1_000_000
    assert abs(found.offset_ns - 3_000_000_000) <= found.uncertainty_ns
