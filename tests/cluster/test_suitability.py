"""What no node can run is refused before anything starts, by name and with what would mend it; quickly, too."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cluster.nodes import Node
from cluster.placement import check_cpus, cpus_of
from cluster.ray_node import ENERGY_SLOT
from cluster.suitability import check_places
from profiler import config
from profiler.errors import CannotRunError
from profiler.journal import PendingRun
from profiler.planner import make_plan
from profiler.workloads import load_catalog
from tests.campaigns import REPOS, pair, quick

CATALOG = load_catalog([REPOS])
H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"


def node(name: str, *models: str, cpus: int = 8, memory_mib: float = 80_000.0, **resources: float) -> Node:
    facts = {
        "gpus": [{"uuid": f"{name}-{n}", "name": model} for n, model in enumerate(models)],
        "memory_total_mib": memory_mib if models else None,
    }
    return Node(
        node_id=name, address=name, hostname=name, raylet_port=0, actor=None, facts=facts,
        resources={"CPU": cpus, "GPU": len(models), ENERGY_SLOT: 1, **resources},
    )  # fmt: skip


def pending(count: int = 1, **more: Any) -> list[PendingRun]:
    raw = {"name": "t", "seed": 1, "experiments": [{**quick(), "runs_per_config": count, **more}]}
    return [PendingRun(run) for run in make_plan(config.load(raw, catalog=CATALOG), CATALOG)]


NODES = [node("one", H100, H100), node("two", A100, cpus=2, memory_mib=50.0), node("three")]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"gpu_model": "B200"}, r"needs a GPU, model B200; no node has that \(there is: NVIDIA A100.*, NVIDIA H100"),
        ({"gpus": 3}, "needs 3 GPUs of one node; no node has that"),
        ({"gpus": 2, "gpu_model": "A100"}, "needs 2 GPUs of one node, model A100"),
        ({"resources": {"scratch": 1}}, r"_001 needs resource scratch 1; no node has that\. Change"),
        ({}, "estimated to need 100 MiB of GPU memory, a GPU of two has 50 MiB"),
        ({"gpu_model": "A100", "cpus": 3}, "asks for 3 CPUs, two has 2 for one run"),
        ({"gpu_model": "H100", "cpus": 5}, "asks for 5 CPUs, one has 4 for one run"),
    ],
)
def test_what_cannot_be_served(more: dict[str, Any], says: str) -> None:
    with pytest.raises(CannotRunError, match=says):
        check_places(pending(**more), NODES)


def test_small_memory_is_mended_by_what_changes_the_estimate() -> None:
    """The manifest's estimate is the same for every size."""
    with pytest.raises(CannotRunError, match="name that session under `history`") as caught:
        check_places(pending(), NODES)
    assert "reduced" not in str(caught.value)


def test_what_can_be_served() -> None:
    check_places(pending(gpu_model="h100"), NODES)
    check_places(pending(gpus=2, cpus=8), NODES)
    check_places(pending(resources={"scratch": 1}), [node("a"), node("b", scratch=2.0)])


def test_many_runs_on_many_nodes_are_looked_at_in_no_time() -> None:
    begun_s = time.process_time()
    check_places(pending(5_000, gpu_model="h100"), [node(f"n{number}", H100, H100) for number in range(1000)])
    assert time.process_time() - begun_s < 5


@pytest.mark.parametrize(
    ("room", "given", "both"),
    [
        (4, (None, None), (2, 2)),
        (4, (None, 3), (1, 3)),
        (2, (None, 1.5), (0.5, 1.5)),
        (4, (3.5, None), (3.5, 0.5)),
        (1, (None, 0.5), (0.5, 0.5)),
        (8, (1, None), (1, 7)),
    ],
)
def test_what_one_partner_is_given_the_other_leaves_to_it(
    room: float, given: tuple[float | None, float | None], both: tuple[float, float]
) -> None:
    item = pair({}, {})
    for part, cpus in zip(("foreground", "background"), given, strict=True):
        item[part] |= {} if cpus is None else {"cpus": cpus}
    raw = {"name": "t", "seed": 1, "experiments": [item]}
    (run,) = make_plan(config.load(raw, catalog=CATALOG), CATALOG)
    assert cpus_of(run, room) == both
    check_cpus(run, node("small", cpus=int(room)))
