"""Chooses the pictures of a training: Market-1501 where a data root has it, else drawn persons; no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import market
import numpy as np
import persons
from _kit.data import Provenance, data_root, digest, missing_data
from _kit.errors import DataError
from shots import Shots, ShotSets

REDUCED_HEIGHT = 64
# Persons and pictures of each that a reduced training takes from real data.
REDUCED_TRAIN, REDUCED_QUERY, REDUCED_GALLERY = (32, 6), (24, 2), (24, 6)


@dataclass(frozen=True)
class PersonData:
    """The pictures, and `labels` int64 [n] of those to train on, counted from 0; `size` made them."""

    shots: ShotSets
    labels: np.ndarray
    size: str
    provenance: Provenance

    @property
    def persons(self) -> int:
        """How many different persons there are to train on."""
        return int(self.labels.max()) + 1


def load(
    data: Path | None,
    source: str,
    size: str,
    shuffle_seed: int | None = None,
    pause: Callable[[], None] = lambda: None,
) -> PersonData:
    """The pictures of one training; DataError when the wanted ones are nowhere or are damaged.

    `shuffle_seed` permutes the training labels. `pause` is called every now and then while files are read.
    """
    name, shots = _find(data, source, size, pause)
    _, labels = np.unique(shots.train.persons, return_inverse=True)
    if len(labels) < 2 or labels.max() == 0:
        raise DataError(f"{name}: {len(labels)} pictures of one person to train on; two persons are the least")
    if shuffle_seed is not None:
        name += " shuffled-labels"
        labels = np.random.default_rng(shuffle_seed).permutation(labels)
    sets = {"train": shots.train, "query": shots.query, "gallery": shots.gallery}
    counts = " ".join(f"{key}={len(part)}" for key, part in sets.items())
    arrays = (labels, *(array for part in sets.values() for array in part.arrays()))
    return PersonData(shots, labels, size, Provenance(f"{name} {counts} persons={labels.max() + 1}", digest(arrays)))


def _find(data: Path | None, source: str, size: str, pause: Callable[[], None]) -> tuple[str, ShotSets]:
    root = data_root(data)
    found = market.find_market(root) if root is not None and source in ("auto", "original") else None
    if found is not None:
        return "Market-1501" if found.is_original else "Market-1501-layout", _read(found, size, pause)
    if source == "original":
        raise missing_data("Market-1501", market.LAYOUT, market.SOURCE, [root] if root is not None else [])
    if source == "packaged":
        raise missing_data("a package with pictures of persons", "none is known", "use --data-source generated")
    counts = persons.REDUCED if size == "reduced" else persons.FULL
    return "generated/persons", persons.draw_sets(counts)


def _read(found: market.Market, size: str, pause: Callable[[], None]) -> ShotSets:
    train, query, gallery, height = market.known(found.train), found.query, found.gallery, market.HEIGHT
    if size == "reduced":
        train = market.first_of_each(found.train, *REDUCED_TRAIN)
        query = market.first_of_each(found.query, *REDUCED_QUERY)
        gallery, height = market.first_of_each(found.gallery, *REDUCED_GALLERY), REDUCED_HEIGHT

    def read(pictures: tuple[market.Picture, ...]) -> Shots:
        return market.read_shots(pictures, height, pause)

    return ShotSets(read(train), read(query), read(gallery))
