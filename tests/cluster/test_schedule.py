"""The scheduler on virtual nodes with a virtual clock: what starts where, in which order, and what never overlaps."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.schedule import Assignment, Entry, Need, Place, Schedule

H100 = "NVIDIA H100 80GB HBM3"
A100 = "NVIDIA A100-SXM4-80GB"
ANY = Need()
Run = tuple[float, float, Assignment[float]]


def places(node: str, *models: str | None) -> list[Place]:
    return [Place(f"{node}/{number}", node, model) for number, model in enumerate(models)]


def entries(count: int, need: Need = ANY, seconds: float = 1.0, block: int | None = None) -> list[Entry[float]]:
    return [Entry(rank, need, seconds, block) for rank in range(count)]


def play(schedule: Schedule[float]) -> list[Run]:
    """Run it to its end; (start, end, assignment) of every run. A run's work is its length in virtual seconds."""
    now_s, ends, done = 0.0, [], []  # type: float, list[tuple[float, int]], list[Run]
    while True:
        while (assignment := schedule.next()) is not None:
            heapq.heappush(ends, (now_s + assignment.entry.work, len(done)))
            done.append((now_s, now_s + assignment.entry.work, assignment))
        if not ends:
            return done
        now_s, number = heapq.heappop(ends)
        schedule.free(done[number][2])


def made(isolation: str, where: Iterable[Place], what: Sequence[Entry[float]]) -> Schedule[float]:
    schedule: Schedule[float] = Schedule(isolation)  # type: ignore[arg-type]
    schedule.add(where)
    schedule.fill(what)
    return schedule


def test_one_place_runs_all_in_their_order() -> None:
    done = play(made("node", places("a", None), list(reversed(entries(5)))))
    assert [run[2].entry.rank for run in done] == [0, 1, 2, 3, 4]
    assert done[-1][1] == 5


def test_a_node_to_itself_never_has_two_runs_at_once_and_its_gpus_take_turns() -> None:
    done = play(made("node", [*places("a", H100, H100), *places("b", H100)], entries(9)))
    for node in "ab":
        spans = sorted((start, end) for start, end, run in done if run.node == node)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
    used = Counter(run.places[0].name for _, _, run in done)
    assert abs(used["a/0"] - used["a/1"]) <= 1
    assert done[-1][1] == 5  # nine runs on two nodes


def test_gpus_of_one_node_work_at_once_when_the_config_says_so() -> None:
    assert play(made("gpu", places("a", *[H100] * 8), entries(16)))[-1][1] == 2


def test_runs_spread_over_nodes_before_they_fill_one() -> None:
    schedule = made("gpu", [*places("a", H100, H100), *places("b", H100, H100)], entries(2))
    assert {schedule.next().node, schedule.next().node} == {"a", "b"}  # type: ignore[union-attr]


def test_a_pinned_run_waits_for_its_kind_of_gpu_and_lets_others_by() -> None:
    what = [Entry(rank, Need(gpu_model="h100") if rank < 4 else Need(), 1.0) for rank in range(8)]
    done = play(made("gpu", [*places("a", H100), *places("b", A100)], what))
    assert all(run.places[0].gpu_model == H100 for _, _, run in done if run.entry.rank < 4)
    assert done[-1][1] == 4


def test_a_run_on_several_gpus_has_them_on_one_node_of_one_kind() -> None:
    where = [*places("a", H100, A100), *places("b", A100, A100), *places("c", None)]
    (only,) = play(made("gpu", where, entries(1, Need(gpus=2))))
    assert [place.name for place in only[2].places] == ["b/0", "b/1"]


def test_a_run_on_several_gpus_is_not_passed_by_for_ever() -> None:
    small = [Entry(rank, Need(), 1.0 + rank % 3) for rank in range(60) if rank != 4]
    done = play(made("gpu", places("a", *[H100] * 4), [*small, Entry(4, Need(gpus=4), 1.0)]))
    assert next(start for start, _, run in done if run.entry.need.gpus == 4) <= 4


def test_only_one_node_is_held_for_a_run_on_several_gpus() -> None:
    where = [*places("a", H100, H100), *places("b", H100, H100)]
    schedule = made("gpu", where, [Entry(0, Need(), 9.0), Entry(1, Need(), 5.0), Entry(2, Need(gpus=2), 1.0)])
    first, second = schedule.next(), schedule.next()
    assert first and second and schedule.next() is None
    schedule.fill([Entry(rank, Need(), 1.0) for rank in range(3, 6)])
    third = schedule.next()
    assert third is not None and schedule.next() is None  # one node has its second GPU at work, the other is held
    held = next(node for node in "ab" if node != third.node)
    schedule.free(first if first.node == held else second)
    fourth = schedule.next()
    assert fourth is not None and (fourth.entry.need.gpus, fourth.node) == (2, held)


def test_a_block_stays_on_one_node_and_every_node_has_whole_blocks() -> None:
    what = [Entry(rank, Need(), 1.0 + rank % 4, block=rank // 4) for rank in range(40)]
    done = play(made("node", [place for node in "abc" for place in places(node, H100)], what))
    homes = {run.entry.block: {r.node for _, _, r in done if r.entry.block == run.entry.block} for _, _, run in done}
    assert len(done) == 40
    assert all(len(nodes) == 1 for nodes in homes.values())
    assert {node for nodes in homes.values() for node in nodes} == set("abc")
    for node in "abc":
        ranks = [run.entry.rank for _, _, run in done if run.node == node]
        assert ranks == sorted(ranks)


def test_a_failed_run_is_next_again_and_a_block_keeps_its_node() -> None:
    schedule = made("node", [*places("a", H100), *places("b", H100)], [Entry(r, Need(), 1.0, r // 3) for r in range(6)])
    first, other = schedule.next(), schedule.next()
    assert first and other
    schedule.free(first)
    schedule.again(first.entry, first.node)
    again = schedule.next()
    assert again is not None and (again.entry.rank, again.node) == (first.entry.rank, first.node)


def test_what_waits_for_a_node_that_is_gone_goes_elsewhere() -> None:
    schedule = made("node", [*places("a", H100), *places("b", H100)], [Entry(r, Need(), 1.0, r // 3) for r in range(6)])
    first, other = schedule.next(), schedule.next()
    assert first and other
    schedule.remove_node(first.node)
    schedule.free(first)
    schedule.again(first.entry, first.node)
    schedule.free(other)
    done = play(schedule)
    assert len(done) == 5
    assert {run.node for _, _, run in done} == {other.node}
    assert schedule.waiting == schedule.active == 0


def test_a_quarantined_gpu_gets_no_run_and_the_other_one_goes_on() -> None:
    schedule = made("gpu", places("a", H100, H100), entries(6))
    first = schedule.next()
    assert first is not None
    schedule.remove(first.places)
    schedule.free(first)
    schedule.again(first.entry, first.node)
    done = play(schedule)
    assert len(done) == 6
    assert {run.places[0].name for _, _, run in done} == {"a/1"}


def test_what_no_place_can_serve_is_named() -> None:
    two, pinned = Need(gpus=2), Need(gpu_model="B200")
    schedule = made("gpu", places("a", H100, H100), [Entry(0, two, 1.0), Entry(1, pinned, 1.0), Entry(2, Need(), 1.0)])
    assert list(schedule.unplaceable()) == [pinned]
    schedule.remove(places("a", H100))
    assert set(schedule.unplaceable()) == {two, pinned}
    schedule.add(places("b", "NVIDIA B200", "NVIDIA B200"))
    assert len(play(schedule)) == 3


def test_extra_resources_are_asked_for() -> None:
    where = [Place("a/0", "a"), Place("b/0", "b", resources={"scratch": 2.0})]
    done = play(made("node", where, entries(3, Need(resources=(("scratch", 1.0),)))))
    assert {run.node for _, _, run in done} == {"b"}


@pytest.mark.parametrize("isolation", ["node", "gpu"])
@settings(max_examples=40, deadline=None)
@given(
    nodes=st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from([H100, A100]), max_size=4), min_size=1),
    runs=st.lists(
        st.tuples(
            st.sampled_from([1, 1, 1, 2, 4]), st.sampled_from([None, None, "H100"]), st.integers(1, 5),
            st.sampled_from([None, 0, 1, 2]),
        ),
        max_size=40,
    ),
)  # fmt: skip
def test_everything_that_can_run_runs_once_and_nothing_is_shared(
    isolation: str, nodes: Mapping[str, list[str]], runs: list[tuple[int, str | None, int, int | None]]
) -> None:
    what = [
        Entry(rank, Need(gpus, pin), float(seconds), block)
        for rank, (gpus, pin, seconds, block) in enumerate(runs)
    ]  # fmt: skip
    schedule = made(
        isolation, [place for node, gpus in nodes.items() for place in places(node, *(gpus or [None]))], what
    )
    hopeless = set(schedule.unplaceable())
    done = play(schedule)
    assert sorted(run.entry.rank for _, _, run in done) == [e.rank for e in what if e.need not in hopeless]
    for start, end, run in done:
        others = [r for s, e, r in done if r is not run and s < end and start < e]
        assert len({place.node for place in run.places}) == 1
        assert len({place.gpu_model for place in run.places}) == 1
        assert not {place.name for place in run.places} & {place.name for r in others for place in r.places}
        assert isolation == "gpu" or all(r.node != run.node for r in others)
