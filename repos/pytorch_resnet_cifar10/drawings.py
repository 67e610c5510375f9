"""Draws 32x32 colour images of ten classes when there are no real ones: five outlines, plain or striped, tinted.

The class sets outline, stripes and the middle of the tint; place, size, turn, colours, background and noise are
random. The images depend on the seed given here alone, never on a training's seed.
"""

import numpy as np

SIZE = 32
CLASSES = 10
CHUNK = 1000
TINT_SPREAD, NOISE = 0.08, 0.10


def draw_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [count, 3, 32, 32] and labels uint8 [count]; classes take turns."""
    labels = (np.arange(count) % CLASSES).astype(np.uint8)
    draws = np.random.default_rng(seed)
    chunks = [_draw_chunk(labels[start : start + CHUNK], draws) for start in range(0, count, CHUNK)]
    return np.concatenate(chunks), labels


def _draw_chunk(labels: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    count = len(labels)

    def uniform(low: float, high: float) -> np.ndarray:
        return draws.uniform(low, high, (count, 1, 1)).astype(np.float32)

    across, down = _coordinates(uniform)
    mask = _outlines(across, down)[labels % 5, np.arange(count)]
    stripes = 0.6 + 0.4 * np.sign(np.sin(9 * across + uniform(0, 6.28)))
    light = np.where((labels >= 5)[:, None, None], stripes, 1.0)
    tint = labels[:, None, None] / CLASSES + draws.normal(0, TINT_SPREAD, (count, 1, 1))
    front = _colour(tint, uniform(0.4, 0.9), uniform(0.6, 1.0)) * light[:, None]
    slope = np.linspace(-0.5, 0.5, SIZE, dtype=np.float32)
    back = _colour(uniform(0, 1), uniform(0, 0.5), uniform(0.2, 0.7)) * (1 + uniform(-1, 1) * slope)[:, None]
    images = np.where(mask[:, None], front, back)
    images += draws.standard_normal(images.shape, dtype=np.float32) * NOISE
    return np.clip(images * 255, 0, 255).astype(np.uint8)


def _coordinates(uniform) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates [n, 32, 32] in which each image's figure is centred, upright and of radius 1."""
    grid = np.linspace(-1, 1, SIZE, dtype=np.float32)
    radius, turn = uniform(0.45, 0.8), uniform(-0.5, 0.5)
    across = (grid[None, None, :] - uniform(-0.25, 0.25)) / radius
    down = (grid[None, :, None] - uniform(-0.25, 0.25)) / radius
    return across * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - across * np.sin(turn)


def _outlines(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Masks [5, n, 32, 32]: disc, square, triangle, cross, ring."""
    wide, high, distance = np.abs(across), np.abs(down), np.hypot(across, down)
    disc = distance < 1
    square = np.maximum(wide, high) < 0.85
    triangle = (down < 0.75) & (wide < (down + 1) * 0.55)
    cross = (np.minimum(wide, high) < 0.3) & (np.maximum(wide, high) < 1)
    return np.stack([disc, square, triangle, cross, disc & (distance > 0.55)])


def _colour(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """RGB [n, 3, 1, 1] of hues (a full turn is 1), saturations and values [n, 1, 1]."""
    offsets = np.array([0, 2 / 3, 1 / 3], dtype=np.float32)[None, :, None, None]
    wave = np.clip(np.abs(((hue[:, None] + offsets) % 1) * 6 - 3) - 1, 0, 1)
    return (value[:, None] * (1 - saturation[:, None] * (1 - wave))).astype(np.float32)
