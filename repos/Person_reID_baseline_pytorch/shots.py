"""Pictures of persons with who and which camera, and the three sets of one training; plain data, numpy only."""

from dataclasses import dataclass

import numpy as np

STRANGER = 0  # somebody whom no query looks for
JUNK = -1  # a bad detection: neither right nor wrong


@dataclass(frozen=True)
class Shots:
    """Pictures uint8 [n, 3, h, w], persons int64 [n] (0: a stranger, -1: junk), cameras int64 [n]."""

    images: np.ndarray
    persons: np.ndarray
    cameras: np.ndarray

    def __len__(self) -> int:
        return len(self.persons)

    def chosen(self, which: np.ndarray) -> "Shots":
        """Those at the indices, or where the mask is true."""
        return Shots(self.images[which], self.persons[which], self.cameras[which])

    def arrays(self) -> tuple[np.ndarray, ...]:
        """All there is, for a digest."""
        return self.images, self.persons, self.cameras


@dataclass(frozen=True)
class ShotSets:
    """What to train on, what to look for, and where to look for it."""

    train: Shots
    query: Shots
    gallery: Shots
