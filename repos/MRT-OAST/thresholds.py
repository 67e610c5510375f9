"""From similarities to decisions: a fixed threshold, or the one with the best F1; needs numpy only."""

import numpy as np
from _kit import binary_scores

SEARCHED = tuple(step / 100 for step in range(10, 100))


def decide(similarities: np.ndarray, threshold: float) -> np.ndarray:
    """1 where two programs are alike enough to be clones, else 0."""
    return (similarities > threshold).astype(np.uint8)


def best(labels: np.ndarray, similarities: np.ndarray) -> float:
    """The threshold of 0.10, 0.11 ... 0.99 with the highest F1; the lowest one of several."""
    scores = [binary_scores.decision_scores(labels, decide(similarities, value))["f1"] for value in SEARCHED]
    return SEARCHED[int(np.argmax(scores))]
