"""Decides which pending run goes into which free place now. Pure: no Ray, no clock, no process; it starts nothing.

A *place* is room for one run with one GPU; a run on N GPUs takes N places of one node. Runs start in the order of
their rank. One that no free place suits lets others by, and a run on several GPUs holds one node until enough of its
places are free, so that it is not passed by for ever.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

Work = TypeVar("Work")


@dataclass(frozen=True)
class Place:
    """Room for one run: `name` is unique, `node` is where it is, `gpu_model` the name of its GPU (None: it has none),
    `resources` what else a run may take there."""

    name: str
    node: str
    gpu_model: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Need:
    """What a run asks of its places: how many GPUs, of which kind (part of the GPU's name, in any case; None: any), and
    which other resources."""

    gpus: int = 1
    gpu_model: str | None = None
    resources: tuple[tuple[str, float], ...] = ()

    def suits(self, place: Place) -> bool:
        """Whether a run could use `place`, were it free."""
        if place.gpu_model is None and (self.gpus > 1 or self.gpu_model is not None):
            return False
        if self.gpu_model is not None and self.gpu_model.casefold() not in str(place.gpu_model).casefold():
            return False
        return all(place.resources.get(name, 0.0) >= amount for name, amount in self.resources)

    def pick(self, places: Iterable[Place]) -> list[Place]:
        """The first places that this run could start on, with GPUs of one kind only; none if there are too few."""
        found: dict[str | None, list[Place]] = {}
        for place in places:
            if self.suits(place):
                alike = found.setdefault(place.gpu_model, [])
                alike.append(place)
                if len(alike) == self.gpus:
                    return alike
        return []


@dataclass(frozen=True, slots=True)
class Entry(Generic[Work]):
    """One pending execution. Lower `rank` starts first; entries of one `block` and need run on one node."""

    rank: int
    need: Need
    work: Work
    block: int | None = None


@dataclass(frozen=True)
class Assignment(Generic[Work]):
    """`entry` runs on `places`, all of one node, until `Schedule.free`."""

    entry: Entry[Work]
    places: tuple[Place, ...]

    @property
    def node(self) -> str:
        return self.places[0].node


Bunch = tuple[Entry[Work], ...]
"""Entries that must run on one node, by rank: a block, or a single entry."""


class _Node(Generic[Work]):
    """What is known of one node. `free` begins with the place that has rested longest."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[str, Place] = {}
        self.free: deque[Place] = deque()
        self.active = 0
        self.own: list[Entry[Work]] = []

    def could_run(self, need: Need) -> bool:
        """Whether `need` could be served, were nothing running."""
        return bool(need.pick(self.places.values()))


class Schedule(Generic[Work]):
    """The queue of a campaign and the places it has.

    Args:
        isolation: "node": a run has its whole node to itself; "gpu": only its places.
    """

    def __init__(self, isolation: Literal["node", "gpu"] = "node") -> None:
        self._alone = isolation == "node"
        self._nodes: dict[str, _Node[Work]] = {}
        self._awake: dict[str, None] = {}  # nodes that may have something to start
        self._lines: dict[Need, list[tuple[int, Bunch[Work]]]] = {}  # heaps by rank
        self._held: dict[Need, str] = {}
        self.waiting = 0
        self.active = 0

    # What there is to do.

    def fill(self, entries: Iterable[Entry[Work]]) -> None:
        """Take in the pending runs of a campaign."""
        blocked: list[Entry[Work]] = []
        for entry in entries:
            self.waiting += 1
            if entry.block is None:
                self._queue((entry,))
            else:
                blocked.append(entry)
        self._queue_blocks(blocked)
        self._wake_all()

    def again(self, entry: Entry[Work], node: str) -> None:
        """Queue a run once more. One of a block stays with its node, if that still serves."""
        self.waiting += 1
        home = self._nodes.get(node)
        if entry.block is not None and home is not None and home.could_run(entry.need):
            home.own.append(entry)
            self._awake[node] = None
        else:
            self._queue((entry,))
            self._wake_all()

    # Where it can be done.

    def add(self, places: Iterable[Place]) -> None:
        """Places that are free from now on."""
        for place in places:
            node = self._nodes.setdefault(place.node, _Node(place.node))
            node.places[place.name] = place
            node.free.append(place)
            self._awake[place.node] = None

    def remove(self, places: Iterable[Place]) -> None:
        """Do without these places from now on; runs on them are not touched, their `free` must come all the same."""
        touched: dict[str, _Node[Work]] = {}
        for place in places:
            node = self._nodes.get(place.node)
            if node is not None and node.places.pop(place.name, None) is not None:
                touched[place.node] = node
                if place in node.free:
                    node.free.remove(place)
        for node in touched.values():
            self._hand_over(node)

    def remove_node(self, name: str) -> None:
        """Do without a whole node from now on."""
        if name in self._nodes:
            self.remove(list(self._nodes[name].places.values()))

    def places_of(self, node: str) -> list[Place]:
        """The places of a node that are in use or free."""
        return list(self._nodes[node].places.values()) if node in self._nodes else []

    def idle(self) -> list[Place]:
        """Places on which nothing runs."""
        return [place for node in self._nodes.values() for place in node.free]

    # What happens.

    def next(self) -> Assignment[Work] | None:
        """The next run to start and its places, which count as taken from now on; None: nothing can start now."""
        while self._awake:
            node = self._nodes[next(iter(self._awake))]
            assignment = self._assign(node)
            del self._awake[node.name]
            if assignment is not None:
                self._awake[node.name] = None  # behind all others: runs spread over the nodes
                return assignment
        return None

    def free(self, assignment: Assignment[Work]) -> None:
        """Its run has ended: its places can take another one, if they are still there."""
        node = self._nodes[assignment.node]
        node.active -= 1
        self.active -= 1
        node.free.extend(place for place in assignment.places if place.name in node.places)
        self._awake[node.name] = None

    def unplaceable(self) -> Iterator[Need]:
        """Needs of pending runs that no place serves, were they all free."""
        own = {entry.need for node in self._nodes.values() for entry in node.own}
        for need in {**dict.fromkeys(need for need, line in self._lines.items() if line), **dict.fromkeys(own)}:
            if not any(node.could_run(need) for node in self._nodes.values()):
                yield need

    def counts(self) -> Counter[str]:
        """Active runs by node."""
        return Counter({node.name: node.active for node in self._nodes.values() if node.active})

    def _assign(self, node: _Node[Work]) -> Assignment[Work] | None:
        """The run of the lowest rank that can start on `node`. One that has begun a block goes on with it first."""
        if not node.free or (self._alone and node.active):
            return None
        for entry in sorted(node.own, key=lambda entry: entry.rank):
            places = entry.need.pick(node.free)
            if places:
                node.own.remove(entry)
                return self._start(node, entry, places)
            if entry.need.gpus > 1:
                return None  # it has begun here, so it is here that it waits for enough places
        for need in self._needs_by_rank():
            places = need.pick(node.free)
            if places:
                _, bunch = heapq.heappop(self._lines[need])
                node.own += bunch[1:]
                return self._start(node, bunch[0], places)
            if node.could_run(need) and self._held.setdefault(need, node.name) == node.name:
                return None  # held: as soon as enough places are free, that run starts here
        return None

    def _start(self, node: _Node[Work], entry: Entry[Work], places: Sequence[Place]) -> Assignment[Work]:
        for place in places:
            node.free.remove(place)
        node.active += 1
        self.active += 1
        self.waiting -= 1
        holder = self._held.pop(entry.need, None)
        if holder is not None:
            self._awake[holder] = None
        return Assignment(entry, tuple(places))

    def _needs_by_rank(self) -> list[Need]:
        lines = [(line[0][0], place, need) for place, (need, line) in enumerate(self._lines.items()) if line]
        return [need for _, _, need in sorted(lines, key=lambda line: line[:2])]

    def _queue(self, bunch: Bunch[Work]) -> None:
        heapq.heappush(self._lines.setdefault(bunch[0].need, []), (bunch[0].rank, bunch))

    def _queue_blocks(self, entries: Iterable[Entry[Work]]) -> None:
        blocks: dict[tuple[Need, int | None], list[Entry[Work]]] = {}
        for entry in entries:
            blocks.setdefault((entry.need, entry.block), []).append(entry)
        for block in blocks.values():
            self._queue(tuple(sorted(block, key=lambda entry: entry.rank)))

    def _hand_over(self, node: _Node[Work]) -> None:
        """What waits for a node that cannot serve it any more goes to others, a block as a whole."""
        for need, holder in list(self._held.items()):
            if holder == node.name and not node.could_run(need):
                del self._held[need]
        leaving = [entry for entry in node.own if not node.could_run(entry.need)]
        node.own = [entry for entry in node.own if entry not in leaving]
        self._queue_blocks(leaving)
        self._wake_all()

    def _wake_all(self) -> None:
        for name, node in self._nodes.items():
            if node.free:
                self._awake[name] = None
