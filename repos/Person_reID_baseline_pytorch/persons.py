"""Draws pictures of made-up persons before six made-up cameras when there are no real ones; numpy only.

A person has clothes, hair, skin, stripes, a bag and a stature; a camera has a light and a background; place, pose,
brightness, occlusion and noise differ from picture to picture. Persons to train on and persons to look for are
different ones. The pictures depend on the numbers given here alone, never on a training's seed.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from _kit.threads import granted_threads
from shots import STRANGER, Shots, ShotSets

CAMERAS = 6
CHUNK = 400
PERSON_SEED, CAMERA_SEED, SHOT_SEED = 31, 32, 33
BACKGROUND, HAIR, SKIN, UPPER, STRIPE, LOWER, SHOES, BAG, OBSTACLE = range(9)
STRIPES = (0.0, 4.0, 7.0, 11.0)  # stripes on the upper body; 0: plain
OCCLUDED = 0.2
DRAWN_HEIGHT = 64  # higher pictures are enlarged from it; the noise is their own
NOISE = 31  # of 255, uniform


@dataclass(frozen=True)
class Counts:
    """How many persons and pictures a set has, and how high a picture is; it is half as wide."""

    train_persons: int
    train: int
    test_persons: int
    query: int
    gallery: int
    strangers: int
    height: int


FULL = Counts(751, 12_936, 750, 3_368, 13_115, 2_798, 128)  # those of Market-1501, without its junk
REDUCED = Counts(32, 192, 24, 48, 144, 0, 64)


def draw_sets(counts: Counts) -> ShotSets:
    """All pictures of a training; each person is seen by several cameras."""
    first_test = counts.train_persons + 1
    first_stranger = first_test + counts.test_persons
    world = _World.of(first_stranger + counts.strangers)
    train = _seen(1, counts.train_persons, counts.train)
    query = _seen(first_test, counts.test_persons, counts.query)
    persons, cameras = _seen(first_test, counts.test_persons, counts.gallery)
    strangers = np.arange(counts.strangers)
    gallery = (
        np.concatenate((persons, first_stranger + strangers)),
        np.concatenate((cameras, 1 + strangers % CAMERAS)),
    )
    wanted = (train, query, gallery)
    with ThreadPoolExecutor(granted_threads()) as pool:  # numpy lets them draw at the same time
        drawn = list(pool.map(lambda seed: world.shots(*wanted[seed], counts.height, seed), range(len(wanted))))
    known = np.where(drawn[2].persons < first_stranger, drawn[2].persons, STRANGER)
    return ShotSets(drawn[0], drawn[1], Shots(drawn[2].images, known, drawn[2].cameras))


def _seen(first: int, persons: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Persons and cameras of `count` pictures: everybody in turn, each time by that person's next camera."""
    numbers = np.arange(count)
    return first + numbers % persons, 1 + (numbers // persons + numbers % persons) % CAMERAS


@dataclass(frozen=True)
class _World:
    """Traits of all persons [p, ...] and of all cameras [c, ...]."""

    colours: np.ndarray  # [p, 9, 3], 0..1
    traits: Mapping[str, np.ndarray]  # [p]
    gain: np.ndarray  # [c, 3]
    offset: np.ndarray  # [c, 3]
    background: np.ndarray  # [c, 3]

    @classmethod
    def of(cls, persons: int) -> "_World":
        draws = np.random.default_rng(PERSON_SEED)
        colours = draws.uniform(0.05, 0.95, (persons, 9, 3))
        colours[:, SKIN] = np.array([0.85, 0.65, 0.5]) * draws.uniform(0.35, 1.1, (persons, 1))
        colours[:, HAIR] = np.array([0.5, 0.38, 0.25]) * draws.uniform(0.05, 1.4, (persons, 1))
        colours[:, SHOES] = draws.uniform(0, 1, (persons, 1))
        traits = {
            "stature": draws.uniform(0.82, 0.98, persons),
            "breadth": draws.uniform(0.34, 0.52, persons),
            "sleeve": draws.choice([0.28, 0.40, 0.55], persons),
            "hem": draws.choice([0.62, 0.75, 0.95], persons),
            "locks": draws.choice([0.10, 0.24], persons),
            "stripes": draws.choice(STRIPES, persons),
            "upright": draws.integers(0, 2, persons),
            "bag": draws.choice([-1.0, 0.0, 1.0], persons),
        }
        views = np.random.default_rng(CAMERA_SEED)
        gain = views.uniform(0.55, 1.2, (CAMERAS, 3))
        offset, background = views.uniform(0, 0.15, (CAMERAS, 3)), views.uniform(0.2, 0.8, (CAMERAS, 3))
        return cls(colours, traits, gain, offset, background)

    def shots(self, persons: np.ndarray, cameras: np.ndarray, height: int, seed: int) -> Shots:
        """A picture [3, height, height / 2] of each person by the camera beside it."""
        draws = np.random.default_rng([SHOT_SEED, seed])
        starts = range(0, len(persons), CHUNK)
        parts = [self._chunk(persons[i : i + CHUNK], cameras[i : i + CHUNK] - 1, height, draws) for i in starts]
        return Shots(np.concatenate(parts), persons.astype(np.int64), cameras.astype(np.int64))

    def _chunk(self, persons: np.ndarray, cameras: np.ndarray, height: int, draws: np.random.Generator) -> np.ndarray:
        count = len(persons)
        traits = {name: values[persons][:, None, None].astype(np.float32) for name, values in self.traits.items()}
        regions = _regions(traits, draws, count)
        palette = self.colours[persons].copy()
        palette[:, BACKGROUND] = self.background[cameras]
        palette[:, OBSTACLE] = draws.uniform(0, 1, (count, 3))
        light = draws.uniform(0.75, 1.15, (count, 1, 1))
        seen = palette * light * self.gain[cameras][:, None] + self.offset[cameras][:, None]
        shades = (np.clip(seen, 0, 1) * (255 - NOISE)).astype(np.uint8)
        painted = zip(shades.transpose(0, 2, 1), regions, strict=True)
        images = np.stack([colours.take(parts, axis=1) for colours, parts in painted])
        factor = height // DRAWN_HEIGHT
        images = images.repeat(factor, axis=3).repeat(factor, axis=2)
        images += np.frombuffer(draws.bytes(images.size), np.uint8).reshape(images.shape) & NOISE
        return images


def _regions(traits: dict[str, np.ndarray], draws: np.random.Generator, count: int) -> np.ndarray:
    """What each pixel shows, int8 [n, DRAWN_HEIGHT, DRAWN_HEIGHT / 2]; later parts lie before earlier ones."""

    def uniform(low: float, high: float) -> np.ndarray:
        return draws.uniform(low, high, (count, 1, 1)).astype(np.float32)

    height = DRAWN_HEIGHT
    rows = (np.arange(height, dtype=np.float32)[None, :, None] + 0.5) / height
    columns = (np.arange(height // 2, dtype=np.float32)[None, None, :] + 0.5) / (height // 2) - 0.5
    down = (rows - uniform(0.0, 0.08)) / (traits["stature"] * uniform(0.92, 1.02))
    across = (columns - uniform(-0.08, 0.08)) / (traits["breadth"] / 2 * uniform(0.9, 1.1))
    wide = np.abs(across)
    head = (across / 0.62) ** 2 + ((down - 0.095) / 0.085) ** 2 < 1
    stripes = np.sin(2 * np.pi * traits["stripes"] * np.where(traits["upright"] > 0, across / 3, down)) > 0
    torso, arms = (down > 0.18) & (down < 0.54) & (wide < 1), (wide > 1) & (wide < 1.35) & (down > 0.19) & (down < 0.55)
    clothed = torso | (arms & (down < traits["sleeve"]))
    legs = (down > 0.52) & (down < 0.97) & (wide < 0.85) & (wide > uniform(0.0, 0.35) * (down - 0.52) / 0.45)
    locks = (wide > 0.4) & (wide < 0.6) & (down > 0.08) & (down < traits["locks"])
    hair = (head & ((down < 0.08) | (wide > 0.42))) | locks
    parts = [
        (head | arms | legs, SKIN),
        (hair, HAIR),
        (clothed, UPPER),
        (clothed & (traits["stripes"] > 0) & stripes, STRIPE),
        (legs & (down < traits["hem"]), LOWER),
        (legs & (down > 0.93), SHOES),
        ((traits["bag"] != 0) & (np.abs(across - 1.2 * traits["bag"]) < 0.45) & (down > 0.4) & (down < 0.6), BAG),
        ((uniform(0, 1) < OCCLUDED) & (rows > uniform(0.6, 0.95)), OBSTACLE),
    ]
    regions = np.full((count, height, height // 2), BACKGROUND, np.int8)
    for mask, part in parts:
        regions[np.broadcast_to(mask, regions.shape)] = part
    return regions
