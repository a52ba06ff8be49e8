"""Accuracy, plain and class-balanced, as functions of tallies that can be summed and resampled."""

import numpy as np


def tallies(predictions: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Per-example counts, float64 [n, 2C]: one-hot label, then one-hot label where it was hit.

    predictions and labels int [n], labels in [0, C). Sums of rows are all that the accuracies
    below need, so a bootstrap can resample them.
    """
    support = np.eye(num_classes)[np.asarray(labels)]
    hits = support * (np.asarray(predictions) == np.asarray(labels))[:, None]
    return np.concatenate([support, hits], axis=1)


def topk_hits(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether the label is among the k highest scores: scores [n,C], labels int [n] -> bool [n].

    Classes that tie with the label are counted before it where their index is lower, as `argmax`
    breaks ties.
    """
    own = np.take_along_axis(scores, np.asarray(labels)[:, None], axis=1)
    lower = np.arange(scores.shape[1]) < np.asarray(labels)[:, None]
    return ((scores > own) | ((scores == own) & lower)).sum(axis=1) < k


def accuracy(totals: np.ndarray) -> np.ndarray:
    """Share of examples predicted right: summed tallies [..., 2C] -> [...]."""
    support, hits = np.split(totals, 2, axis=-1)
    return hits.sum(axis=-1) / np.maximum(support.sum(axis=-1), 1)


def per_class_recall(totals: np.ndarray) -> np.ndarray:
    """Recall of each class, NaN where it has no example: summed tallies [..., 2C] -> [..., C]."""
    support, hits = np.split(totals, 2, axis=-1)
    return np.where(support > 0, hits / np.maximum(support, 1), np.nan)


def balanced_accuracy(totals: np.ndarray) -> np.ndarray:
    """Mean recall over the classes that have examples: summed tallies [..., 2C] -> [...]."""
    return mean_present(per_class_recall(totals))


def mean_present(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the values that are not NaN, NaN where none is."""
    present = ~np.isnan(values)
    count = present.sum(axis=-1)
    total = np.where(present, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
