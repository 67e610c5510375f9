"""Scores of a yes/no classifier from its decisions and its ranking; needs numpy only, and draws no thresholds.

Conventions where a quotient has no denominator: precision, recall and f1 are 0, mcc is 0; auc is NaN when only one
class is there.
"""

import math

import numpy as np


def decision_scores(labels: np.ndarray, decisions: np.ndarray) -> dict[str, float]:
    """accuracy, precision, recall, f1 and mcc of 0/1 `decisions` [n] about 0/1 `labels` [n]."""
    right, wrong = _counts(labels, decisions)
    true_positive, true_negative = right
    false_positive, false_negative = wrong
    margins = (
        (true_positive + false_positive)
        * (true_positive + false_negative)
        * (true_negative + false_positive)
        * (true_negative + false_negative)
    )
    product = true_positive * true_negative - false_positive * false_negative
    return {
        "accuracy": _ratio(true_positive + true_negative, len(labels)),
        "precision": _ratio(true_positive, true_positive + false_positive),
        "recall": _ratio(true_positive, true_positive + false_negative),
        "f1": _ratio(2 * true_positive, 2 * true_positive + false_positive + false_negative),
        "mcc": product / math.sqrt(margins) if margins else 0.0,
    }


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The area under the ROC curve: how often a positive outranks a negative, ties counting half."""
    positives = int(np.count_nonzero(labels))
    negatives = len(labels) - positives
    if not positives or not negatives or not np.isfinite(scores).all():
        return math.nan
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2
    rank_sum = float(mean_rank[place][labels != 0].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def _counts(labels: np.ndarray, decisions: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    truth, said = labels != 0, decisions != 0
    right = int(np.sum(truth & said)), int(np.sum(~truth & ~said))
    return right, (int(np.sum(~truth & said)), int(np.sum(truth & ~said)))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
