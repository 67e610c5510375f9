"""Scores of yes/no classifiers against counting by hand and against their definitions."""

import math

import numpy as np
import pytest
from _kit import binary_scores


def test_scores_of_a_small_table() -> None:
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    said = np.array([1, 1, 0, 1, 0, 0, 0, 0])
    scores = binary_scores.decision_scores(labels, said)
    assert scores["accuracy"] == 6 / 8 and scores["precision"] == 2 / 3 and scores["recall"] == 2 / 3
    assert scores["f1"] == pytest.approx(2 / 3)
    assert scores["mcc"] == pytest.approx((2 * 4 - 1 * 1) / math.sqrt(3 * 3 * 5 * 5))


@pytest.mark.parametrize("said", [0, 1])
def test_one_sided_decisions_have_scores_too(said: int) -> None:
    scores = binary_scores.decision_scores(np.array([1, 1, 0, 0]), np.full(4, said))
    assert scores["accuracy"] == 0.5 and scores["mcc"] == 0 and scores["recall"] == said
    assert scores["precision"] == said / 2


def test_auc_is_the_share_of_rightly_ordered_pairs() -> None:
    draw = np.random.default_rng(1)
    labels, scores = draw.integers(0, 2, 60), draw.integers(0, 12, 60) / 12
    above = [(p > n) + (p == n) / 2 for p in scores[labels == 1] for n in scores[labels == 0]]
    assert binary_scores.auc(labels, scores) == pytest.approx(np.mean(above))


def test_auc_needs_both_classes_and_numbers() -> None:
    assert math.isnan(binary_scores.auc(np.ones(3), np.arange(3.0)))
    assert math.isnan(binary_scores.auc(np.array([0, 1]), np.array([0.5, math.nan])))
